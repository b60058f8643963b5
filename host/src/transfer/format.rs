//! The lines of an export.
//!
//! The first says what the file is. Then each user has a line with their version, one for each group, and one for each
//! conversation with marks or custom data. The last has the counts and the SHA-256 of all lines before it: a file that was
//! cut off or damaged is told by it. That is version 2 of the format, which a program writes.
//!
//! Version 1 has lines of groups and conversations only, in any order, and is what people can write by hand.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{MAX_LINE_BYTES, Result, TransferError};
use crate::model::{ConversationData, UserId, Version};
use crate::object;

const FORMAT: &str = "convgroups-export";
/// What people write by hand.
pub(super) const BY_HAND: u32 = 1;
/// What is exported.
pub(super) const PRESENT: u32 = 2;

/// The first line.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    version: u32,
}

/// The first line of an export.
pub(super) fn header() -> Result<Vec<u8>> {
    let mut line = Vec::new();
    encode(&mut line, &Header { format: FORMAT.to_owned(), version: PRESENT })?;
    Ok(line)
}

/// The format's version by the first line, without its end.
pub(super) fn version(line: &[u8]) -> Result<u32, String> {
    let header = str::from_utf8(line).ok().and_then(|line| object::from_str(line).ok());
    match header {
        Some(Header { format, version: version @ (BY_HAND | PRESENT) }) if format == FORMAT => Ok(version),
        Some(Header { format, version }) if format == FORMAT => {
            Err(format!("this is version {version} of the format, this program reads {BY_HAND} and {PRESENT}"))
        }
        _ => Err(format!("not an export; expected {{\"format\":\"{FORMAT}\",\"version\":{PRESENT}}}")),
    }
}

/// A user's first line.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct UserLine<'a> {
    pub(super) user: Cow<'a, UserId>,
    pub(super) version: Version,
    pub(super) groups_created: u32,
}

/// A line with one group.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct GroupLine<'a> {
    pub(super) user: Cow<'a, UserId>,
    /// Not in version 1.
    #[serde(rename = "groupID", default, skip_serializing_if = "Option::is_none")]
    pub(super) group_id: Option<u32>,
    pub(super) group_name: Cow<'a, str>,
    #[serde(rename = "conversationIDList")]
    pub(super) conversation_id_list: Cow<'a, [String]>,
}

/// A line with the marks and custom data of one conversation.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DataLine<'a> {
    pub(super) user: Cow<'a, UserId>,
    #[serde(rename = "conversationID")]
    pub(super) conversation_id: Cow<'a, str>,
    #[serde(rename = "markList", with = "crate::marks")]
    pub(super) marks: u64,
    pub(super) custom_data: Cow<'a, str>,
}

/// The last line.
#[derive(Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EndLine {
    pub(super) users: u64,
    groups: u64,
    marked_conversations: u64,
    pub(super) sha256: String,
}

/// Every line but the first.
pub(super) enum Line {
    User(UserLine<'static>),
    Group(GroupLine<'static>),
    Data(DataLine<'static>),
    End(EndLine),
}

impl Line {
    pub(super) fn from_json(line: &[u8]) -> Result<Self, String> {
        let line = str::from_utf8(line).map_err(|error| error.to_string())?;
        if !line.trim_start().starts_with('{') {
            return Err("expected an object".to_owned());
        }
        let no_group = match object::from_str(line) {
            Ok(group) => return Ok(Self::Group(group)),
            Err(error) => error,
        };
        let no_data = match object::from_str(line) {
            Ok(data) => return Ok(Self::Data(data)),
            Err(error) => error,
        };
        let no_user = match object::from_str(line) {
            Ok(user) => return Ok(Self::User(user)),
            Err(error) => error,
        };
        let no_end = match object::from_str(line) {
            Ok(end) => return Ok(Self::End(end)),
            Err(error) => error,
        };
        // It is taken for what it looks like.
        let looks = |field: &str| line.contains(field);
        let reason = match () {
            () if looks("\"conversationID\"") => no_data,
            () if looks("\"groupName\"") => no_group,
            () if looks("\"groupsCreated\"") => no_user,
            () if looks("\"sha256\"") => no_end,
            () => no_group,
        };
        // The parser counts lines of its own.
        Err(reason.to_string().replace(" at line 1 column ", " at column "))
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        match self {
            Self::User(user) => encode(&mut line, user),
            Self::Group(group) => encode(&mut line, group),
            Self::Data(data) => encode(&mut line, data),
            Self::End(end) => encode(&mut line, end),
        }?;
        Ok(line)
    }
}

fn encode(lines: &mut Vec<u8>, line: &impl Serialize) -> Result<()> {
    let start = lines.len();
    serde_json::to_writer(&mut *lines, line).expect("texts and numbers have a JSON form");
    lines.push(b'\n');
    if lines.len() - start > MAX_LINE_BYTES {
        return Err(TransferError::GroupTooLarge { max: MAX_LINE_BYTES });
    }
    Ok(())
}

/// What a file or a store has of one user: everything, or of a file of version 1, what stands together there.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) user: UserId,
    /// Not in version 1.
    pub(super) counters: Option<Counters>,
    pub(super) groups: Vec<Group>,
    pub(super) conversations: Vec<ConversationData>,
}

/// What has been counted for a user, and must not begin at 0 again elsewhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counters {
    pub(super) version: Version,
    pub(super) groups_created: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Not in version 1.
    pub(super) id: Option<u32>,
    pub(super) name: String,
    pub(super) conversation_ids: Vec<String>,
}

impl Part {
    /// As lines of an export.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let mut lines = Vec::new();
        let user = || Cow::Borrowed(&self.user);
        if let Some(Counters { version, groups_created }) = self.counters {
            encode(&mut lines, &UserLine { user: user(), version, groups_created })?;
        }
        for Group { id, name, conversation_ids } in &self.groups {
            let (group_name, conversation_id_list) =
                (Cow::Borrowed(name.as_str()), Cow::Borrowed(&conversation_ids[..]));
            encode(&mut lines, &GroupLine { user: user(), group_id: *id, group_name, conversation_id_list })?;
        }
        for ConversationData { conversation_id, marks, custom_data } in &self.conversations {
            let (conversation_id, custom_data) = (Cow::Borrowed(&conversation_id[..]), Cow::Borrowed(&custom_data[..]));
            encode(&mut lines, &DataLine { user: user(), conversation_id, marks: *marks, custom_data })?;
        }
        Ok(lines)
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            users: u64::from(self.counters.is_some()),
            groups: self.groups.len() as u64,
            conversations: self.conversations.len() as u64,
        }
    }
}

/// How much was exported or imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Users; not in version 1 of the format.
    pub users: u64,
    /// Groups.
    pub groups: u64,
    /// Conversations with marks or custom data.
    pub conversations: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.users += more.users;
        self.groups += more.groups;
        self.conversations += more.conversations;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} groups", self.groups)?;
        if self.conversations > 0 {
            write!(formatter, " and {} marked conversations", self.conversations)?;
        }
        if self.users > 0 {
            write!(formatter, " of {} users", self.users)?;
        }
        Ok(())
    }
}

/// What the last line is to say of the lines before it.
#[derive(Clone, Default)]
pub(super) struct Tally {
    digest: Sha256,
    pub(super) counts: Counts,
}

impl Tally {
    pub(super) fn add(&mut self, lines: &[u8], counts: Counts) {
        self.digest.update(lines);
        self.counts += counts;
    }

    pub(super) fn sha256(&self) -> String {
        format!("{:x}", self.digest.clone().finalize())
    }

    /// The last line.
    pub(super) fn end(&self) -> EndLine {
        let Counts { users, groups, conversations: marked_conversations } = self.counts;
        EndLine { users, groups, marked_conversations, sha256: self.sha256() }
    }
}
