//! Into a store: checks all of a file, writes it, and reads back what was written.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use super::format::{self, Counters, Counts, Group, Part, Tally};
use super::ordered::in_order;
use super::read::{FilePart, Parts};
use super::resume::{self, Start};
use super::{GAP, MAX_HEADER_BYTES, MAX_LINE_BYTES, Phase, Progress, Result, TransferError};
use crate::model::{Change, Origin, UserId};
use crate::store::{Commit, CommitOutcome, Skip, Store};

/// Users that are read at a time.
const READERS: usize = 8;
/// Users that are written at a time: their commits share flushes.
const WRITERS: usize = 32;
/// What a user has is committed together, up to so much of it: groups, conversations in them, and marked ones. A group that is
/// larger is committed alone.
const MAX_ITEMS_PER_COMMIT: usize = 50_000;

/// What is imported: a file, or a copy of what comes through a pipe, for all of it is checked before any of it is written.
#[derive(Debug)]
pub struct Source {
    /// What messages call it.
    path: PathBuf,
    file: File,
    bytes: Option<u64>,
}

impl Source {
    /// A file; or a copy of what comes out of it, if it is a pipe.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or not be copied.
    pub fn file(path: &Path) -> Result<Self> {
        let failed = TransferError::file("read", path);
        let file = File::open(path).map_err(&failed)?;
        let metadata = file.metadata().map_err(&failed)?;
        if !metadata.is_file() {
            return Self::copy(path, file);
        }
        Ok(Self { path: path.to_owned(), file, bytes: Some(metadata.len()) })
    }

    /// A copy of what a reader gives; messages call it by `path`. The copy is a temporary file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or not be copied.
    pub fn copy(path: &Path, reader: impl io::Read) -> Result<Self> {
        let file = copy(reader).map_err(TransferError::file("read", path))?;
        let bytes = file.metadata().map(|metadata| metadata.len()).ok();
        Ok(Self { path: path.to_owned(), file, bytes })
    }

    /// From the beginning.
    fn parts(&self) -> Result<Parts<BufReader<&File>>> {
        let mut file = &self.file;
        file.rewind().map_err(TransferError::file("read again", &self.path))?;
        Parts::new(BufReader::new(file))
    }
}

fn copy(reader: impl io::Read) -> io::Result<File> {
    let mut copy = BufWriter::new(tempfile::tempfile()?);
    let mut reader = BufReader::new(reader);
    let (mut length, mut most) = (0, MAX_HEADER_BYTES);
    loop {
        let block = reader.fill_buf()?;
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
        reader.consume(end);
    }
    copy.into_inner().map_err(io::IntoInnerError::into_error)
}

/// How to import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportOptions {
    /// Whether an earlier import of the same file may have written part of it.
    pub resume: bool,
    /// How many changes of a user the change log keeps, as `events.keep_per_user`.
    pub keep: u32,
}

impl Default for ImportOptions {
    /// Nothing is there, and as many changes are kept as by default.
    fn default() -> Self {
        Self { resume: false, keep: crate::settings::EventSettings::default().keep_per_user }
    }
}

/// What was read back from the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The SHA-256 over what the store has, in hexadecimal, which is that of the file. A file written by hand, of version 1 of the
    /// format, has none.
    pub sha256: Option<String>,
}

/// An import whose file was checked, and can be written.
#[derive(Debug)]
pub struct Import<'a> {
    source: Source,
    store: &'a dyn Store,
    options: ImportOptions,
}

impl<'a> Import<'a> {
    /// Checks whether every line can be imported. Nothing is written.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, a line cannot be imported, or the store fails.
    pub fn check(
        store: &'a dyn Store,
        source: Source,
        options: ImportOptions,
        progress: &mut dyn Progress,
    ) -> Result<Self> {
        let import = Self { source, store, options };
        let parts = import.source.parts()?;
        let mut repetitions = (parts.version() == format::BY_HAND).then(Repetitions::default);
        let parts = parts.map(|read| {
            let read = read?;
            repetitions.as_mut().map_or(Ok(()), |repetitions| repetitions.check(&read))?;
            Ok(read)
        });
        let mut counted = import.begin(Phase::Checking, progress);
        let check = |read: FilePart| {
            import.start(&read)?;
            Ok((read.end, read.part.counts()))
        };
        in_order(READERS, parts, |read| &read.part.user, check, |(end, counts)| counted.add(end, counts))?;
        Ok(import)
    }

    /// Writes what is not in the store yet; returns how much that was.
    ///
    /// # Errors
    ///
    /// When the store fails, or somebody else changes what is imported. Part of the file may have been written; another import
    /// resumes it.
    pub fn write(&self, progress: &mut dyn Progress) -> Result<Counts> {
        let mut counted = self.begin(Phase::Importing, progress);
        let write = |read: FilePart| {
            let start = self.start(&read)?;
            Ok((read.end, self.write_part(read, &start)?))
        };
        let take = |(end, counts)| counted.add(end, counts);
        in_order(WRITERS, self.source.parts()?, |read| &read.part.user, write, take)?;
        Ok(counted.counts)
    }

    /// Reads everything back from the store and compares it with the file.
    ///
    /// # Errors
    ///
    /// When the store has something else, or fails.
    pub fn verify(&self, progress: &mut dyn Progress) -> Result<Verified> {
        let mut parts = self.source.parts()?;
        let mut tally = Tally::default();
        tally.add(&format::header()?, Counts::default());
        let mut counted = self.begin(Phase::Verifying, progress);
        let read_back = |read: FilePart| {
            let there = resume::complete(self.store, &read)?;
            Ok((read.end, there.encode()?, there.counts()))
        };
        let take = |(end, lines, counts): (u64, Vec<u8>, Counts)| {
            tally.add(&lines, counts);
            counted.add(end, counts)
        };
        in_order(READERS, parts.by_ref(), |read| &read.part.user, read_back, take)?;
        let store = tally.sha256();
        match parts.sha256() {
            None => Ok(Verified { sha256: None }),
            Some(file) if file == store => Ok(Verified { sha256: Some(store) }),
            Some(file) => Err(TransferError::Differs { store, file: file.to_owned() }),
        }
    }

    fn begin<'p>(&self, phase: Phase, progress: &'p mut dyn Progress) -> Counted<'p> {
        progress.begin(phase, self.source.bytes);
        Counted { progress, counts: Counts::default() }
    }

    /// Where the writing of a part begins.
    fn start(&self, read: &FilePart) -> Result<Start> {
        let start = if self.options.resume { resume::again(self.store, read) } else { resume::anew(self.store, read) }?;
        start.check(read)?;
        Ok(start)
    }

    fn write_part(&self, read: FilePart, start: &Start) -> Result<Counts> {
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
                keep: self.options.keep,
                deadline: None,
            };
            let failed = |error| TransferError::Commit { line, user: user.clone(), error };
            match self.store.commit(commit).map_err(failed)? {
                CommitOutcome::Committed(version) => base = version,
                CommitOutcome::Conflict => {
                    let reason = format!("could not import what user {user} has: somebody else is changing it");
                    return Err(TransferError::line(line, reason));
                }
            }
            versions = least;
            written.users = u64::from(counters.is_some());
        }
        Ok(written)
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
struct Counted<'p> {
    progress: &'p mut dyn Progress,
    counts: Counts,
}

impl Counted<'_> {
    /// The file is done up to a byte, and with it so much.
    #[expect(clippy::unnecessary_wraps, reason = "stands where something could fail")]
    fn add(&mut self, end: u64, counts: Counts) -> Result<()> {
        self.counts += counts;
        self.progress.advance(end, &self.counts);
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
    fn check(&mut self, read: &FilePart) -> Result<()> {
        let FilePart { part, group_lines, conversation_lines, .. } = read;
        let user = &part.user;
        for (group, &line) in part.groups.iter().zip(group_lines) {
            if !self.groups.insert(key(user, &group.name)) {
                let what = "a group of this name";
                return Err(TransferError::Repeated { line, user: user.clone(), what });
            }
        }
        for (data, &line) in part.conversations.iter().zip(conversation_lines) {
            if !self.conversations.insert(key(user, &data.conversation_id)) {
                let what = "marks or custom data of this conversation";
                return Err(TransferError::Repeated { line, user: user.clone(), what });
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
    use super::super::read::MAX_CONVERSATIONS_PER_GROUP;
    use super::*;
    use crate::model::{ConversationData, Version};

    /// The items of each piece, and the ids it leaves out, of groups with these ids and sizes and this many conversations.
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
