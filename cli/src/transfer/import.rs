//! `convgroups import`: checks all of a file, writes it, and reads back what was written.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::ops::Deref;
use std::path::Path;

use convgroups_host::UserId;
use convgroups_host::model::{Change, Origin};
use convgroups_host::store::{Commit, CommitOutcome, Skip, Store};

use super::format::{self, Counters, Counts, Group, Part, Tally};
use super::ordered::in_order;
use super::read::{FilePart, Parts};
use super::resume::{self, Start};
use super::{GAP, MAX_HEADER_BYTES, MAX_LINE_BYTES, bad_line};
use crate::progress::{Progress, rate};
use crate::{Done, Failed, Outcome, say};

/// Users that are read at a time.
const READERS: usize = 8;
/// Users that are written at a time: their commits share flushes.
const WRITERS: usize = 32;
/// What a user has is committed together, up to so much of it: groups, conversations in them, and marked ones. A group that is
/// larger is committed alone.
const MAX_ITEMS_PER_COMMIT: usize = 50_000;

pub(crate) fn import<S: Deref<Target = dyn Store>>(
    file: &Path,
    resume: bool,
    open: impl FnOnce() -> Result<S, Failed>,
    keep: u32,
) -> Outcome {
    let source = seekable(file).map_err(|error| Failed::Run(format!("could not read {}: {error}", file.display())))?;
    let store = open()?;
    let bytes = source.metadata().map(|metadata| metadata.len()).ok();
    let import = Import { file, source, bytes, store: &*store, resume, keep };
    import.check()?;
    let written = import.write().map_err(|failed| match failed {
        Failed::Run(reason) => Failed::Run(format!("{reason}; part of the file is imported, go on with --resume")),
        failed => failed,
    })?;
    say(&format!("imported {written}{}", if resume { ", the rest was there already" } else { "" }));
    let verified = import.verify().map_err(|failed| match failed {
        Failed::Run(reason) => Failed::Run(format!("not verified: {reason}")),
        failed => failed,
    })?;
    say(&format!("verified: {verified}"));
    Ok(Done::Well)
}

/// The file itself, or a copy of what comes through a pipe: all of it is checked before any of it is written.
fn seekable(file: &Path) -> io::Result<File> {
    let piped: Box<dyn io::Read> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        let opened = File::open(file)?;
        if opened.metadata()?.is_file() {
            return Ok(opened);
        }
        Box::new(opened)
    };
    let mut copy = BufWriter::new(tempfile::tempfile()?);
    let mut piped = BufReader::new(piped);
    let (mut length, mut most) = (0, MAX_HEADER_BYTES);
    loop {
        let block = piped.fill_buf()?;
        if block.is_empty() {
            break;
        }
        let end = block.iter().position(|&byte| byte == b'\n').map_or(block.len(), |end| end + 1);
        let some = block.get(..end).unwrap_or(block);
        length += end;
        copy.write_all(some)?;
        // The reader of the copy reports the line and the error.
        if length > most {
            break;
        }
        if some.ends_with(b"\n") {
            (length, most) = (0, MAX_LINE_BYTES);
        }
        piped.consume(end);
    }
    copy.into_inner().map_err(io::IntoInnerError::into_error)
}

struct Import<'a> {
    file: &'a Path,
    source: File,
    bytes: Option<u64>,
    store: &'a dyn Store,
    /// Whether an earlier import may have written part of the file.
    resume: bool,
    /// How many changes of a user the log keeps.
    keep: u32,
}

impl Import<'_> {
    /// The file from its beginning.
    fn parts(&self) -> Result<Parts<BufReader<&File>>, Failed> {
        let mut source = &self.source;
        source.rewind().map_err(|error| {
            let file = self.file.display();
            Failed::Run(format!("could not read {file} again: {error}"))
        })?;
        Ok(Parts::new(BufReader::new(source))?)
    }

    /// Where the writing of a part begins.
    fn start(&self, read: &FilePart) -> Result<Start, Failed> {
        let start = if self.resume { resume::again(self.store, read) } else { resume::anew(self.store, read) }?;
        start.check(read)?;
        Ok(start)
    }

    /// Whether every line can be imported.
    fn check(&self) -> Result<(), Failed> {
        let parts = self.parts()?;
        let mut repetitions = (parts.version() == format::BY_HAND).then(Repetitions::default);
        let parts = parts.map(|read| {
            let read = read?;
            repetitions.as_mut().map_or(Ok(()), |repetitions| repetitions.check(&read))?;
            Ok(read)
        });
        let mut done = Tell::start("checking", self.bytes);
        let check = |read: FilePart| {
            self.start(&read)?;
            Ok((read.end, read.part.counts()))
        };
        in_order(READERS, parts, |read| &read.part.user, check, |(end, counts)| done.add(end, counts))
    }

    /// Writes what is not there yet; answers how much that was.
    fn write(&self) -> Result<Counts, Failed> {
        let parts = self.parts()?.map(|read| Ok(read?));
        let mut done = Tell::start("importing", self.bytes);
        let write = |read: FilePart| {
            let start = self.start(&read)?;
            Ok((read.end, self.write_part(read, &start)?))
        };
        in_order(WRITERS, parts, |read| &read.part.user, write, |(end, counts)| done.add(end, counts))?;
        Ok(done.counts)
    }

    fn write_part(&self, read: FilePart, start: &Start) -> Result<Counts, Failed> {
        let FilePart { part, line, .. } = read;
        let (user, counters) = (part.user.clone(), part.counters);
        let mut written = Counts {
            users: 0,
            groups: (part.groups.len() - start.groups) as u64,
            conversations: (part.conversations.len() - start.conversations) as u64,
        };
        let mut base = start.version;
        // With each piece at least one, so that none is in the log: everybody begins with the whole state anyway.
        let least = u64::from(counters.is_some());
        let mut versions = match counters {
            Some(there) if !start.moved => there.version.0.saturating_add(GAP).saturating_sub(base.0).max(least),
            _ => least,
        };
        let failed = |reason: &str| bad_line(line, &format!("could not import what user {user} has: {reason}"));
        for Piece { changes, group_ids, .. } in pieces(part, start) {
            let nothing = changes.is_empty() && group_ids.iter().all(|&count| count == 0);
            if nothing && (start.moved || counters.is_none()) {
                continue;
            }
            let commit = Commit {
                user: user.clone(),
                base,
                changes,
                skip: Skip { versions, group_ids },
                origin: Origin { method: "import".to_owned(), request_id: format!("line {line}") },
                keep: self.keep,
                deadline: None,
            };
            match self.store.commit(commit).map_err(|error| failed(&error.to_string()))? {
                CommitOutcome::Committed(version) => base = version,
                CommitOutcome::Conflict => return Err(failed("somebody else is changing it")),
            }
            versions = least;
            written.users = u64::from(counters.is_some());
        }
        Ok(written)
    }

    /// Whether the store has everything, read back from it; what is to be said of it.
    fn verify(&self) -> Result<String, Failed> {
        let mut parts = self.parts()?;
        let mut tally = Tally::default();
        tally.add(&format::header()?, Counts::default());
        let mut done = Tell::start("verifying", self.bytes);
        let read_back = |read: FilePart| {
            let there = resume::complete(self.store, &read)?;
            Ok((read.end, there.encode()?, there.counts()))
        };
        let take = |(end, lines, counts): (u64, Vec<u8>, Counts)| {
            tally.add(&lines, counts);
            done.add(end, counts)
        };
        in_order(READERS, parts.by_ref().map(|read| Ok(read?)), |read| &read.part.user, read_back, take)?;
        let of_store = tally.sha256();
        match parts.sha256() {
            None => Ok("the store has all of it".to_owned()),
            Some(of_file) if of_file == of_store => Ok(format!("the store has all of it, SHA-256 {of_store}")),
            Some(of_file) => {
                Err(Failed::Run(format!("what the store has makes the SHA-256 {of_store}, not {of_file}")))
            }
        }
    }
}

/// What one commit writes.
#[derive(Default)]
struct Piece {
    changes: Vec<Change>,
    /// See [`Skip::group_ids`].
    group_ids: Vec<u32>,
    items: usize,
}

/// What is left to be written of a part; at least one piece.
fn pieces(part: Part, start: &Start) -> Vec<Piece> {
    let Part { counters, groups, conversations, .. } = part;
    let (no_groups, some_left) = (groups.is_empty(), groups.len() > start.groups);
    let mut pieces = Pieces { complete: Vec::new(), last: Piece::default() };
    let mut last_id = start.groups.checked_sub(1).and_then(|last| groups.get(last)?.id).unwrap_or_default();
    for Group { id, name: group_name, conversation_ids: conversation_list } in groups.into_iter().skip(start.groups) {
        let piece = pieces.with_room_for(conversation_list.len() + 1);
        if let Some(id) = id {
            // They grow in the file.
            piece.group_ids.push(id.saturating_sub(last_id).saturating_sub(1));
            last_id = id;
        }
        piece.changes.push(Change::GroupCreated { group_name, conversation_list });
    }
    if let Some(Counters { groups_created, .. }) = counters {
        // Ids of groups that are gone. They were counted together with the last group.
        let counted = if no_groups { start.groups_created } else { last_id };
        if no_groups || some_left {
            pieces.last.group_ids.push(groups_created.saturating_sub(counted));
        }
    }
    for data in conversations.into_iter().skip(start.conversations) {
        let changes = &mut pieces.with_room_for(1).changes;
        match changes.last_mut() {
            Some(Change::ConversationsChanged { conversation_list }) => conversation_list.push(data),
            _ => changes.push(Change::ConversationsChanged { conversation_list: vec![data] }),
        }
    }
    pieces.complete.push(pieces.last);
    pieces.complete
}

struct Pieces {
    complete: Vec<Piece>,
    last: Piece,
}

impl Pieces {
    /// The last piece, or a new one if there is not enough room in it.
    fn with_room_for(&mut self, items: usize) -> &mut Piece {
        if self.last.items > 0 && self.last.items + items > MAX_ITEMS_PER_COMMIT {
            self.complete.push(std::mem::take(&mut self.last));
        }
        self.last.items += items;
        &mut self.last
    }
}

/// How far a phase is.
struct Tell {
    progress: Progress,
    counts: Counts,
}

impl Tell {
    fn start(what: &'static str, bytes: Option<u64>) -> Self {
        Self { progress: Progress::start(what, bytes, false), counts: Counts::default() }
    }

    /// The file is done up to a byte, and with it so much.
    #[expect(clippy::unnecessary_wraps, reason = "stands where something could fail")]
    fn add(&mut self, end: u64, counts: Counts) -> Result<(), Failed> {
        self.counts += counts;
        let groups = self.counts.groups;
        self.progress.update(end, |elapsed| format!("{}, {} groups/s", self.counts, rate(groups, elapsed)));
        Ok(())
    }
}

/// Finds what a file of version 1 has twice, wherever it stands.
#[derive(Default)]
struct Repetitions {
    groups: HashSet<u128>,
    conversations: HashSet<u128>,
}

impl Repetitions {
    fn check(&mut self, read: &FilePart) -> Result<(), Failed> {
        let FilePart { part, group_lines, conversation_lines, .. } = read;
        let user = &part.user;
        for (group, &line) in part.groups.iter().zip(group_lines) {
            if !self.groups.insert(key(user, &group.name)) {
                return Err(bad_line(line, &format!("user {user} has a group of this name already")));
            }
        }
        for (data, &line) in part.conversations.iter().zip(conversation_lines) {
            if !self.conversations.insert(key(user, &data.conversation_id)) {
                return Err(bad_line(
                    line,
                    &format!("user {user} has marks or custom data of this conversation already"),
                ));
            }
        }
        Ok(())
    }
}

/// A number that stands for a user's group or conversation, so that a check of many millions fits into memory. Two that
/// meet by chance, once in billions of files, would be reported as a repetition.
fn key(user: &UserId, name: &str) -> u128 {
    let hash = |seed: u8| BuildHasherDefault::<DefaultHasher>::default().hash_one((seed, user.as_str(), name));
    u128::from(hash(0)) << 64 | u128::from(hash(1))
}

#[cfg(test)]
mod tests {
    use convgroups_host::Version;
    use convgroups_host::model::ConversationData;

    use super::super::read::MAX_CONVERSATIONS_PER_GROUP;
    use super::*;

    /// The items of each piece, and the ids it leaves out, of groups with these ids and sizes and so many conversations.
    fn cut(groups: &[(u32, usize)], conversations: usize, there: (usize, usize)) -> Vec<(usize, Vec<u32>)> {
        let group = |&(id, size): &(u32, usize)| Group {
            id: Some(id),
            name: id.to_string(),
            conversation_ids: vec![String::new(); size],
        };
        let part = Part {
            user: UserId::new("alice").expect("valid"),
            counters: Some(Counters { version: Version(1), groups_created: 9 }),
            groups: groups.iter().map(group).collect(),
            conversations: vec![ConversationData::default(); conversations],
        };
        let (version, groups_created) = (Version(0), 2);
        let (groups, conversations) = there;
        let all_groups_created = groups_created;
        let start = Start { version, groups_created, all_groups_created, groups, conversations, moved: false };
        let cut = pieces(part, &start);
        for Piece { changes, items, .. } in &cut {
            let count = |change: &Change| match change {
                Change::GroupCreated { conversation_list, .. } => conversation_list.len() + 1,
                Change::ConversationsChanged { conversation_list } => conversation_list.len(),
                _ => 0,
            };
            assert_eq!(changes.iter().map(count).sum::<usize>(), *items);
        }
        cut.into_iter().map(|piece| (piece.items, piece.group_ids)).collect()
    }

    #[test]
    fn a_user_is_cut_into_pieces_that_a_store_has_places_for() {
        const MOST: usize = MAX_CONVERSATIONS_PER_GROUP;
        const { assert!(MOST + 1 < 1 << 20, "a version has places for fewer") };
        assert_eq!(cut(&[(1, 10), (4, 10)], 5, (0, 0)), [(27, vec![0, 2, 5])]);
        assert_eq!(cut(&[(1, 10), (4, 10)], 5, (1, 0)), [(16, vec![2, 5])]);
        assert_eq!(cut(&[(1, 10), (4, 10)], 5, (2, 3)), [(2, vec![])]);
        assert_eq!(cut(&[(1, 10)], 5, (1, 5)), [(0, vec![])]);
        // Of ids, those the user has given already are not left out again.
        assert_eq!(cut(&[], 5, (0, 0)), [(5, vec![7])]);
        assert_eq!(
            cut(&[(1, 49_000), (2, MOST), (3, 0), (9, 49_998)], 50_001, (0, 0)),
            [(49_001, vec![0]), (MOST + 1, vec![0]), (50_000, vec![0, 5, 0]), (50_000, vec![]), (1, vec![])]
        );
    }
}
