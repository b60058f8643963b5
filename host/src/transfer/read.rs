//! Reading an export, line by line, each of them checked.

use std::collections::HashSet;
use std::io::{BufRead, Read};

use super::format::{self, Counters, Counts, DataLine, EndLine, Group, GroupLine, Line, Part, Tally, UserLine};
use super::{MAX_HEADER_BYTES, MAX_LINE_BYTES, Result, TransferError};
use crate::model::{ConversationData, UserId, Version};
use crate::store::{MAX_CONVERSATION_ID_BYTES, MAX_CUSTOM_DATA_BYTES, MAX_GROUP_NAME_BYTES};

/// What stands together in a file of version 1 is cut after this many items: groups, conversations in them, and marked ones.
const MAX_ITEMS: usize = 50_000;
/// A group is committed in one piece, for which a store has places. No setting allows more either.
pub(super) const MAX_CONVERSATIONS_PER_GROUP: usize = 1_000_000;
/// A user beyond this version cannot be moved: it leaves room for many moves, and for all that happens between.
pub(super) const MAX_VERSION: Version = Version(Version::MAX.0 / 2);
/// A user with more groups created cannot be moved: it leaves as many IDs for the groups that come.
pub(super) const MAX_GROUPS_CREATED: u32 = u32::MAX / 2;

/// What some editors put before a text.
const BYTE_ORDER_MARKS: [(&[u8], &str); 3] =
    [(b"\xef\xbb\xbf", "of UTF-8"), (b"\xff\xfe", "of UTF-16"), (b"\xfe\xff", "of UTF-16")];

/// A part and where it stands.
pub(super) struct FilePart {
    pub(super) part: Part,
    /// The number of its first line.
    pub(super) line: u64,
    /// The number of each group's line.
    pub(super) group_lines: Vec<u64>,
    /// The number of each conversation's line.
    pub(super) conversation_lines: Vec<u64>,
    /// How many bytes the file has up to its end.
    pub(super) end: u64,
}

/// The parts of a file, in its order. Those of version 2 are whole users: one is known to be whole by the line after it.
pub(super) struct Parts<R> {
    reader: R,
    /// The longest line.
    max_line_bytes: usize,
    version: u32,
    raw: Vec<u8>,
    /// The number of the last line that was read.
    number: u64,
    /// How many bytes were read.
    end: u64,
    tally: Tally,
    /// A line that was read already and belongs to the next part.
    ahead: Option<Line>,
    last_user: Option<UserId>,
    sha256: Option<String>,
    over: bool,
}

impl<R: BufRead> Parts<R> {
    pub(super) fn new(reader: R) -> Result<Self> {
        Self::with_lines_up_to(MAX_LINE_BYTES, reader)
    }

    fn with_lines_up_to(max_line_bytes: usize, reader: R) -> Result<Self> {
        let mut parts = Self {
            reader,
            max_line_bytes,
            version: format::BY_HAND,
            raw: Vec::new(),
            number: 0,
            end: 0,
            tally: Tally::default(),
            ahead: None,
            last_user: None,
            sha256: None,
            over: false,
        };
        parts.read_line(MAX_HEADER_BYTES)?;
        parts.number = 1;
        parts.version = format::version(parts.raw.trim_ascii_end()).map_err(|reason| parts.bad_line(&reason))?;
        if parts.version == format::PRESENT && parts.raw != format::header()? {
            return Err(parts.bad_line(CHANGED));
        }
        parts.tally.add(&parts.raw, Counts::default());
        Ok(parts)
    }

    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// The digest of all lines but the last, once that was found to be right; never in version 1.
    pub(super) fn sha256(&self) -> Option<&str> {
        self.sha256.as_deref()
    }

    fn bad_line(&self, reason: &str) -> TransferError {
        TransferError::line(self.number, reason)
    }

    /// Reads a line of at most `max_bytes` into the buffer. Returns whether there was one.
    fn read_line(&mut self, max_bytes: usize) -> Result<bool> {
        self.raw.clear();
        let number = self.number + 1;
        let mut limited = self.reader.by_ref().take(max_bytes as u64 + 1);
        let read = limited.read_until(b'\n', &mut self.raw);
        let read = read.map_err(|error| TransferError::Read { line: number, error })?;
        self.end += read as u64;
        let bad_line = |reason: &str| Err(TransferError::line(number, reason));
        if let Some((_, what)) = BYTE_ORDER_MARKS.iter().find(|(mark, _)| self.raw.starts_with(mark)) {
            return bad_line(&format!(
                "it begins with a byte-order mark {what}: expected UTF-8 without one; save the file without it"
            ));
        }
        if read > max_bytes {
            return bad_line(&if number == 1 {
                format!("it has more than {max_bytes} bytes and so is not the first line of an export")
            } else {
                format!("it has more than {max_bytes} bytes, the most that a line can have")
            });
        }
        Ok(read > 0)
    }

    /// The next line; nothing at the end of the file.
    fn next_line(&mut self) -> Result<Option<Line>> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        if !self.read_line(self.max_line_bytes)? {
            return Ok(None);
        }
        self.number += 1;
        let line = self.parse().map_err(|reason| self.bad_line(&reason))?;
        let counts = match line {
            // It does not count itself.
            Line::End(_) => return Ok(Some(line)),
            Line::User(_) => Counts { users: 1, ..Counts::default() },
            Line::Group(_) => Counts { groups: 1, ..Counts::default() },
            Line::Data(_) => Counts { conversations: 1, ..Counts::default() },
        };
        self.tally.add(&self.raw, counts);
        Ok(Some(line))
    }

    fn parse(&self) -> Result<Line, String> {
        let present = self.version == format::PRESENT;
        if present && !self.raw.ends_with(b"\n") {
            return Err("the file is cut off in the middle of this line".to_owned());
        }
        let line = Line::from_json(&self.raw)?;
        // One that a program wrote can be compared with it byte by byte.
        if present && line.encode().map_err(|_| CHANGED)? != self.raw {
            return Err(CHANGED.to_owned());
        }
        Ok(line)
    }

    fn next_part(&mut self) -> Result<Option<FilePart>> {
        let mut building: Option<Building> = None;
        loop {
            // What comes next may end the part, which is then as far as the file was read before.
            let end = self.end;
            let Some(line) = self.next_line()? else {
                if self.version == format::PRESENT {
                    self.number += 1;
                    return Err(
                        self.bad_line("the file is cut off: its last line, with the counts and the digest, is missing")
                    );
                }
                return Ok(building.map(|building| building.finish(end)));
            };
            match &mut building {
                Some(complete) if !complete.continues_with(&line) => {
                    self.ahead = Some(line);
                    return Ok(building.map(|building| building.finish(end)));
                }
                Some(building) => building.add(line, self.number).map_err(|reason| self.bad_line(&reason))?,
                None => match line {
                    Line::End(end) => return self.check_end(&end).map(|()| None),
                    line => building = Some(self.begin(line).map_err(|reason| self.bad_line(&reason))?),
                },
            }
        }
    }

    fn begin(&mut self, line: Line) -> Result<Building, String> {
        let number = self.number;
        match line {
            Line::User(UserLine { user, version, groups_created }) if self.version == format::PRESENT => {
                let user = user.into_owned();
                if self.last_user.replace(user.clone()).is_some_and(|last| last >= user) {
                    return Err(format!("user {user} does not come after the user before, in the order of bytes"));
                }
                if version == Version::default() || version > MAX_VERSION {
                    return Err(format!("the version {version} is not between 1 and {MAX_VERSION}"));
                }
                if groups_created > MAX_GROUPS_CREATED {
                    return Err(format!(
                        "the groupsCreated {groups_created} is not between 0 and {MAX_GROUPS_CREATED}"
                    ));
                }
                Ok(Building::new(user, Some(Counters { version, groups_created }), number))
            }
            Line::Group(GroupLine { ref user, .. }) | Line::Data(DataLine { ref user, .. }) => {
                if self.version == format::PRESENT {
                    return Err(format!("the line with the version of user {user} is missing before this one"));
                }
                let mut building = Building::new(user.clone().into_owned(), None, number);
                building.add(line, number)?;
                Ok(building)
            }
            Line::User(_) | Line::End(_) => Err("version 1 of the format has no such line".to_owned()),
        }
    }

    fn check_end(&mut self, end: &EndLine) -> Result<()> {
        if self.version != format::PRESENT {
            return Err(self.bad_line("version 1 of the format has no such line"));
        }
        let counted = self.tally.end();
        if *end != counted {
            return Err(self.bad_line(&format!(
                "the file is damaged: it has {} and the SHA-256 {}, which is not what its last line says",
                self.tally.counts, counted.sha256
            )));
        }
        if self.read_line(self.max_line_bytes)? {
            self.number += 1;
            return Err(self.bad_line("there is something after the last line"));
        }
        self.sha256 = Some(counted.sha256);
        Ok(())
    }
}

const CHANGED: &str = "this line is damaged, or not as an export has it; what is written by hand is of version 1";

impl<R: BufRead> Iterator for Parts<R> {
    type Item = Result<FilePart>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = self.next_part().transpose();
        self.over = !matches!(next, Some(Ok(_)));
        next
    }
}

/// A part of which more lines may come.
struct Building {
    read: FilePart,
    names: HashSet<String>,
    conversation_ids: HashSet<String>,
    items: usize,
}

impl Building {
    fn new(user: UserId, counters: Option<Counters>, line: u64) -> Self {
        let part = Part { user, counters, groups: Vec::new(), conversations: Vec::new() };
        let read = FilePart { part, line, group_lines: Vec::new(), conversation_lines: Vec::new(), end: 0 };
        Self { read, names: HashSet::new(), conversation_ids: HashSet::new(), items: 0 }
    }

    fn continues_with(&self, line: &Line) -> bool {
        match line {
            // Of another user, it is not what has to come next in version 2, and is told so.
            Line::Group(GroupLine { user, .. }) | Line::Data(DataLine { user, .. }) => {
                **user == self.read.part.user && (self.read.part.counters.is_some() || self.items <= MAX_ITEMS)
            }
            Line::User(_) | Line::End(_) => false,
        }
    }

    fn add(&mut self, line: Line, number: u64) -> Result<(), String> {
        match line {
            Line::Group(group) => self.add_group(group, number),
            Line::Data(data) => self.add_data(data, number),
            Line::User(_) | Line::End(_) => Ok(()),
        }
    }

    fn add_group(&mut self, line: GroupLine<'_>, number: u64) -> Result<(), String> {
        check_group(&line)?;
        let part = &mut self.read.part;
        let GroupLine { user, group_id: id, group_name, conversation_id_list } = line;
        let (name, conversation_ids) = (group_name.into_owned(), conversation_id_list.into_owned());
        match (part.counters, id) {
            (None, Some(_)) => return Err("version 1 of the format has no groupID".to_owned()),
            (Some(_), None) => return Err("the groupID is missing".to_owned()),
            (Some(Counters { groups_created, .. }), Some(id)) => {
                let last = part.groups.last().and_then(|group| group.id).unwrap_or_default();
                if id <= last || id > groups_created {
                    return Err(format!("the groupID {id} is not between {last} and {groups_created}"));
                }
                if !part.conversations.is_empty() {
                    return Err("a group stands after conversations with marks or custom data".to_owned());
                }
            }
            (None, None) => {}
        }
        if !self.names.insert(name.clone()) {
            return Err(format!("user {user} has a group of this name already"));
        }
        self.items += conversation_ids.len() + 1;
        part.groups.push(Group { id, name, conversation_ids });
        self.read.group_lines.push(number);
        Ok(())
    }

    fn add_data(&mut self, line: DataLine<'_>, number: u64) -> Result<(), String> {
        check_data(&line)?;
        let DataLine { user, conversation_id, marks, custom_data } = line;
        let (conversation_id, custom_data) = (conversation_id.into_owned(), custom_data.into_owned());
        if !self.conversation_ids.insert(conversation_id.clone()) {
            return Err(format!("user {user} has marks or custom data of this conversation already"));
        }
        self.items += 1;
        self.read.part.conversations.push(ConversationData { conversation_id, marks, custom_data });
        self.read.conversation_lines.push(number);
        Ok(())
    }

    fn finish(self, end: u64) -> FilePart {
        FilePart { end, ..self.read }
    }
}

fn check_text(what: &str, text: &str, max: usize) -> Result<(), String> {
    if text.is_empty() || text.len() > max || text.contains(char::is_control) {
        return Err(format!("{what} {text:?} is not 1 to {max} bytes without control characters"));
    }
    Ok(())
}

fn check_data(data: &DataLine<'_>) -> Result<(), String> {
    check_text("the conversation id", &data.conversation_id, MAX_CONVERSATION_ID_BYTES)?;
    if data.custom_data.len() > MAX_CUSTOM_DATA_BYTES || data.custom_data.contains('\0') {
        return Err(format!("the custom data is not up to {MAX_CUSTOM_DATA_BYTES} bytes without U+0000"));
    }
    if data.marks == 0 && data.custom_data.is_empty() {
        return Err("the conversation has neither marks nor custom data".to_owned());
    }
    Ok(())
}

fn check_group(group: &GroupLine<'_>) -> Result<(), String> {
    check_text("the group name", &group.group_name, MAX_GROUP_NAME_BYTES)?;
    if group.conversation_id_list.len() > MAX_CONVERSATIONS_PER_GROUP {
        return Err(format!("a group of more than {MAX_CONVERSATIONS_PER_GROUP} conversations cannot be imported"));
    }
    let mut seen = HashSet::new();
    for id in group.conversation_id_list.iter() {
        check_text("the conversation id", id, MAX_CONVERSATION_ID_BYTES)?;
        if !seen.insert(id) {
            return Err(format!("the conversation {id:?} is there twice"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An export of three users, one of whom has nothing any more.
    fn exported() -> Vec<u8> {
        let user = |id: &str| UserId::new(id).expect("valid");
        let group = |id, name: &str| Group {
            id: Some(id),
            name: name.to_owned(),
            conversation_ids: vec!["c2c_é\"\\".to_owned()],
        };
        let data = ConversationData {
            conversation_id: "c2c_x".to_owned(),
            marks: 1 | 1 << 63,
            custom_data: "\u{1}é".to_owned(),
        };
        let counters = |version, groups_created| Some(Counters { version: Version(version), groups_created });
        let parts = [
            Part {
                user: user("a"),
                counters: counters(7, 3),
                groups: vec![group(1, "A"), group(3, "组")],
                conversations: vec![data],
            },
            Part { user: user("b"), counters: counters(2, 1), groups: vec![], conversations: vec![] },
            Part { user: user("é"), counters: counters(1, 1), groups: vec![group(1, "A")], conversations: vec![] },
        ];
        let mut file = format::header().expect("encodes");
        let mut tally = Tally::default();
        tally.add(&file, Counts::default());
        for part in parts {
            let lines = part.encode().expect("encodes");
            tally.add(&lines, part.counts());
            file.extend(lines);
        }
        file.extend(Line::End(tally.end()).encode().expect("encodes"));
        file
    }

    fn read(file: &[u8]) -> Result<Vec<FilePart>, String> {
        let tell = |error: TransferError| error.to_string();
        Parts::new(file).map_err(tell)?.map(|part| part.map_err(tell)).collect()
    }

    #[test]
    fn what_was_written_is_read_with_the_places_where_it_stands() {
        let file = exported();
        let parts = read(&file).expect("it is whole");
        let mut again = format::header().expect("encodes");
        for read in &parts {
            again.extend(read.part.encode().expect("encodes"));
            assert_eq!(read.end, again.len() as u64);
        }
        assert!(file.starts_with(&again));
        let lines: Vec<_> =
            parts.iter().map(|read| (read.line, &read.group_lines[..], &read.conversation_lines[..])).collect();
        assert_eq!(lines, [(2, &[3, 4][..], &[5][..]), (6, &[], &[]), (7, &[8], &[])]);
    }

    #[test]
    fn a_file_that_ends_anywhere_else_than_at_its_end_is_refused() {
        let file = exported();
        let header = format::header().expect("encodes").len();
        for end in 0..file.len() {
            let reason = read(&file[..end]).err().unwrap_or_else(|| panic!("cut at {end}, it was read"));
            let in_the_middle = !file[..end].ends_with(b"\n");
            let says =
                if in_the_middle { "the file is cut off in the middle of this line" } else { "the file is cut off: " };
            assert!(reason.starts_with("line ") && (end < header || reason.contains(says)), "cut at {end}: {reason}");
        }
    }

    #[test]
    fn a_file_with_any_byte_changed_removed_or_doubled_is_refused() {
        let file = exported();
        for position in 0..file.len() {
            for bit in 0..8 {
                let mut flipped = file.clone();
                flipped[position] ^= 1 << bit;
                assert!(read(&flipped).is_err(), "bit {bit} of byte {position} was flipped, and it was read");
            }
            for byte in [b'\n', b' ', b'0', b'1', b'"', 0] {
                let mut replaced = file.clone();
                replaced[position] = byte;
                assert!(replaced == file || read(&replaced).is_err(), "byte {position} became {byte}, and it was read");
                replaced.insert(position, file[position]);
                assert!(read(&replaced).is_err(), "{byte} was put in at {position}, and it was read");
            }
            let mut shorter = file.clone();
            let removed = shorter.remove(position);
            assert!(read(&shorter).is_err(), "byte {position} was removed, and it was read");
            shorter.splice(position..position, [removed, removed]);
            assert!(read(&shorter).is_err(), "byte {position} was doubled, and it was read");
        }
    }

    #[test]
    fn lines_that_no_export_has_are_refused_though_the_digest_is_right() {
        let alice = r#"{"user":"alice","version":7,"groupsCreated":2}"#;
        let group =
            |id: &str, name: &str| format!(r#"{{"user":"alice",{id}"groupName":"{name}","conversationIDList":[]}}"#);
        let data = r#"{"user":"alice","conversationID":"c2c_x","markList":[1],"customData":""}"#.to_owned();
        let user = |id: &str, version: u64| format!(r#"{{"user":"{id}","version":{version},"groupsCreated":2}}"#);
        let created = |groups: u32| format!(r#"{{"user":"alice","version":7,"groupsCreated":{groups}}}"#);
        let id = |id: u32| format!(r#""groupID":{id},"#);
        let cases: &[(&[String], &str)] = &[
            (&[user("alice", 7), group(&id(1), "A"), group(&id(2), "B"), data.clone(), user("b", 1)], ""),
            (&[group(&id(1), "A")], "line 2: the line with the version of user alice is missing"),
            (&[user("aaron", 7), group(&id(1), "A")], "line 3: the line with the version of user alice is missing"),
            (&[alice.to_owned(), user("aaron", 1)], "line 3: user aaron does not come after"),
            (&[alice.to_owned(), alice.to_owned()], "line 3: user alice does not come after"),
            (&[user("alice", 0)], "line 2: the version 0 is not"),
            (&[user("alice", 1 << 42)], "line 2: the version 4398046511104 is not"),
            (&[created(u32::MAX / 2)], ""),
            (&[created(u32::MAX / 2 + 1)], "line 2: the groupsCreated 2147483648 is not between 0 and 2147483647"),
            (&[created(u32::MAX)], "line 2: the groupsCreated 4294967295 is not between 0 and 2147483647"),
            (
                &[created(0).replace(":0}", ":4294967296}")],
                "line 2: expected a whole number from 0 to 4294967295, got 4294967296",
            ),
            (&[user("alice", 7), group("", "A")], "line 3: the groupID is missing"),
            (&[user("alice", 7), group(&id(0), "A")], "line 3: the groupID 0 is not"),
            (&[user("alice", 7), group(&id(3), "A")], "line 3: the groupID 3 is not"),
            (&[user("alice", 7), group(&id(2), "A"), group(&id(1), "B")], "line 4: the groupID 1 is not"),
            (
                &[user("alice", 7), group(&id(1), "A"), group(&id(2), "A")],
                "line 4: user alice has a group of this name",
            ),
            (&[user("alice", 7), data.clone(), group(&id(1), "A")], "line 4: a group stands after"),
            (&[user("alice", 7), data.clone(), data], "line 4: user alice has marks or custom data of this"),
        ];
        for (lines, expected) in cases {
            let mut file = format::header().expect("encodes");
            let mut tally = Tally::default();
            for line in *lines {
                file.extend_from_slice(format!("{line}\n").as_bytes());
            }
            let count = |what: &str| lines.iter().filter(|line| line.contains(what)).count() as u64;
            let counts =
                Counts { users: count("version"), groups: count("groupName"), conversations: count("markList") };
            tally.add(&file, counts);
            file.extend(Line::End(tally.end()).encode().expect("encodes"));
            match read(&file) {
                Ok(_) => assert_eq!(*expected, "", "{lines:?}"),
                Err(reason) => {
                    assert!(!expected.is_empty() && reason.starts_with(expected), "{reason}, not {expected:?}");
                }
            }
        }
    }

    #[test]
    fn a_byte_order_mark_is_named_wherever_a_line_begins_with_it() {
        let by_hand = "{\"format\":\"convgroups-export\",\"version\":1}\n{\"user\":\"alice\",\"groupName\":\"A\",\"conversationIDList\":[]}\n";
        let utf16 = |first: [u8; 2], to_bytes: fn(u16) -> [u8; 2]| {
            first.into_iter().chain(by_hand.encode_utf16().flat_map(to_bytes)).collect::<Vec<u8>>()
        };
        let (header, rest) = by_hand.split_once('\n').expect("it has two lines");
        let cases: [(Vec<u8>, &str); 5] = [
            (format!("\u{feff}{by_hand}").into_bytes(), "line 1: it begins with a byte-order mark of UTF-8"),
            (format!("{header}\n\u{feff}{rest}").into_bytes(), "line 2: it begins with a byte-order mark of UTF-8"),
            (utf16([0xff, 0xfe], u16::to_le_bytes), "line 1: it begins with a byte-order mark of UTF-16"),
            (utf16([0xfe, 0xff], u16::to_be_bytes), "line 1: it begins with a byte-order mark of UTF-16"),
            ([&b"\xef\xbb\xbf"[..], &exported()].concat(), "line 1: it begins with a byte-order mark of UTF-8"),
        ];
        assert!(read(by_hand.as_bytes()).is_ok());
        for (file, expected) in cases {
            let reason = read(&file).err().unwrap_or_default();
            assert!(reason.starts_with(expected) && reason.contains("expected UTF-8 without one"), "{reason}");
        }
    }

    #[test]
    fn a_line_beyond_the_limit_is_refused_before_more_of_it_is_read() {
        let limit = 4096;
        let read = |file: &[u8]| -> Result<usize, String> {
            // What comes without end is not read to it.
            let file = std::io::BufReader::new(file.chain(std::io::repeat(b'x')));
            let tell = |error: TransferError| error.to_string();
            let parts = Parts::with_lines_up_to(limit, file).map_err(tell)?;
            parts.map(|part| part.map_err(tell)).collect::<Result<Vec<_>, _>>().map(|parts| parts.len())
        };
        let header = "{\"format\":\"convgroups-export\",\"version\":1}\n";
        let group = |bytes: usize| {
            let line = "{\"user\":\"alice\",\"groupName\":\"A\",\"conversationIDList\":[]}";
            format!("{line}{}\n", " ".repeat(bytes - line.len() - 1))
        };
        for (file, expected) in [
            (String::new(), "line 1: it has more than 1024 bytes and so is not the first line of an export"),
            (header.to_owned(), "line 2: it has more than 4096 bytes"),
            (format!("{header}{}", group(limit)), "line 3: it has more than 4096 bytes"),
            (format!("{header}{}", group(limit + 1)), "line 2: it has more than 4096 bytes"),
        ] {
            let reason = read(file.as_bytes()).expect_err("it goes on without end");
            assert!(reason.starts_with(expected), "{reason}, not {expected:?}");
        }
    }
}
