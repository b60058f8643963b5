//! What must be true of what a store has, whichever kind it is.

use std::collections::{HashMap, HashSet};

#[cfg(any(feature = "postgres", feature = "sqlite"))]
use super::record;
use super::{MAX_CONVERSATION_ID_BYTES, MAX_CUSTOM_DATA_BYTES, MAX_GROUP_NAME_BYTES};
use crate::model::{Positions, UserId, Version};

/// What was checked in a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Users.
    pub users: u64,
    /// Their groups.
    pub groups: u64,
    /// Conversations in groups.
    pub members: u64,
    /// Conversations with marks or custom data.
    pub conversations: u64,
    /// Entries of change logs.
    pub changes: u64,
}

/// Takes what a store has, user by user: first the user, then their groups, the members of the groups, the conversations with
/// marks or custom data, and the change log in order.
pub(super) struct Checker<'a> {
    found: &'a mut dyn FnMut(String),
    verified: Verified,
    user: Option<User>,
}

/// What was taken of the present user.
struct User {
    /// The ID as people may see it: stores may have been given anything by other means.
    shown: String,
    version: i64,
    groups_created: i64,
    /// The names by the groups' IDs.
    groups: HashMap<i64, String>,
    names: HashSet<String>,
    members: HashSet<(i64, String)>,
    conversations: HashSet<String>,
    positions: HashSet<i64>,
    /// The version of the last entry of the change log.
    logged: Option<i64>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(found: &'a mut dyn FnMut(String)) -> Self {
        Self { found, verified: Verified::default(), user: None }
    }

    /// Something that is wrong, but not of one user.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) fn wrong(&mut self, what: String) {
        (self.found)(what);
    }

    /// The next user.
    pub(super) fn user(&mut self, id: &str, version: i64, groups_created: i64) {
        self.end_user();
        self.verified.users += 1;
        let user = User {
            shown: format!("user {id:?}"),
            version,
            groups_created,
            groups: HashMap::new(),
            names: HashSet::new(),
            members: HashSet::new(),
            conversations: HashSet::new(),
            positions: HashSet::new(),
            logged: None,
        };
        if let Err(error) = UserId::new(id) {
            (self.found)(format!("{}: {error}", user.shown));
        }
        // A user has a row from the first commit on, and a commit leads to a version below the last.
        let last = Version::MAX.0.cast_signed() - 1;
        if !(1..=last).contains(&version) {
            (self.found)(format!("{}: the version {version} is not between 1 and {last}", user.shown));
        }
        if !(0..=i64::from(u32::MAX)).contains(&groups_created) {
            let shown = &user.shown;
            (self.found)(format!(
                "{shown}: {groups_created} groups were created, which is not between 0 and 4294967295"
            ));
        }
        self.user = Some(user);
    }

    pub(super) fn group(&mut self, id: i64, name: &str) {
        self.verified.groups += 1;
        self.check(|user, wrong| {
            if id < 1 || id > user.groups_created {
                wrong(format!("the group {name:?} has the ID {id}, though {} were created", user.groups_created));
            }
            if user.groups.insert(id, name.to_owned()).is_some() {
                wrong(format!("two groups have the ID {id}"));
            }
            if !user.names.insert(name.to_owned()) {
                wrong(format!("two groups have the name {name:?}"));
            }
            if !is_text(name, MAX_GROUP_NAME_BYTES) {
                wrong(format!(
                    "the group name {name:?} is not 1 to {MAX_GROUP_NAME_BYTES} bytes without control characters"
                ));
            }
        });
    }

    pub(super) fn member(&mut self, group: i64, id: &str, position: i64) {
        self.verified.members += 1;
        self.check(|user, wrong| {
            match user.groups.get(&group) {
                None => wrong(format!("the conversation {id:?} is in the group {group}, which does not exist")),
                Some(name) if !user.members.insert((group, id.to_owned())) => {
                    wrong(format!("the conversation {id:?} is in the group {name:?} twice"));
                }
                Some(_) => {}
            }
            user.check_conversation(id, position, wrong);
        });
    }

    pub(super) fn conversation(&mut self, id: &str, marks: u64, custom_data: &str, position: i64) {
        self.verified.conversations += 1;
        self.check(|user, wrong| {
            if !user.conversations.insert(id.to_owned()) {
                wrong(format!("the conversation {id:?} has marks or custom data twice"));
            }
            if marks == 0 && custom_data.is_empty() {
                wrong(format!(
                    "the conversation {id:?} is counted among those with marks or custom data and has neither"
                ));
            }
            if custom_data.len() > MAX_CUSTOM_DATA_BYTES {
                let length = custom_data.len();
                wrong(format!(
                    "the custom data of {id:?} has {length} bytes, at most {MAX_CUSTOM_DATA_BYTES} are expected"
                ));
            }
            user.check_conversation(id, position, wrong);
        });
    }

    /// An entry of the change log: how many changes it has, if this version of the program can tell, or why it cannot be read.
    pub(super) fn logged(&mut self, version: i64, changes: Result<Option<usize>, String>) {
        self.verified.changes += 1;
        self.check(|user, wrong| {
            let version_before = user.logged.replace(version);
            if let Some(before) = version_before.filter(|before| before.checked_add(1) != Some(version)) {
                wrong(format!("the change log goes from version {before} to {version}"));
            }
            if version_before.is_none() && version < 1 {
                wrong(format!("the change log begins with version {version}"));
            }
            match changes {
                Ok(Some(0)) => wrong(format!("the change log has no change for version {version}")),
                Ok(_) => {}
                Err(reason) => wrong(format!("the change log's entry for version {version} cannot be read: {reason}")),
            }
        });
    }

    pub(super) fn finish(mut self) -> Verified {
        self.end_user();
        self.verified
    }

    fn end_user(&mut self) {
        let Some(User { shown, version, logged, .. }) = self.user.take() else { return };
        // An import leaves a user without a log.
        if let Some(last) = logged.filter(|last| *last != version) {
            (self.found)(format!("{shown}: the change log ends with version {last}, the user is at version {version}"));
        }
    }

    fn check(&mut self, check: impl FnOnce(&mut User, &mut dyn FnMut(String))) {
        let Some(user) = &mut self.user else { return };
        let shown = user.shown.clone();
        check(user, &mut |what| (self.found)(format!("{shown}: {what}")));
    }
}

impl User {
    fn check_conversation(&mut self, id: &str, position: i64, wrong: &mut dyn FnMut(String)) {
        if !is_text(id, MAX_CONVERSATION_ID_BYTES) {
            let most = MAX_CONVERSATION_ID_BYTES;
            wrong(format!("the conversation ID {id:?} is not 1 to {most} bytes without control characters"));
        }
        if !self.positions.insert(position) {
            wrong(format!("the position {position} of the conversation {id:?} is another's too"));
        }
        let version = Version(u64::try_from(self.version).unwrap_or_default());
        let positions = Positions::of(Version(1)).take()..Positions::of(version.next()).take();
        if !u64::try_from(position).is_ok_and(|position| positions.contains(&position)) {
            wrong(format!(
                "the position {position} of the conversation {id:?} is of none of its versions up to {version}"
            ));
        }
    }
}

fn is_text(text: &str, max: usize) -> bool {
    !text.is_empty() && text.len() <= max && !text.contains(char::is_control)
}

/// How many changes a record of the change log has; `None` for a record of a later version.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(super) fn decode(origin: &str, events: &str) -> Result<Option<usize>, String> {
    let decoded = record::decode_origin(origin).and_then(|_| record::decode_events(events));
    decoded.map(|changes| changes.map(|changes| changes.len())).map_err(|error| error.to_string())
}
