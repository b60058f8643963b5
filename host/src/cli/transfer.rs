//! `convgroups export`, `import` and `backup`: everything, in and out.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use convgroups_host::UserId;
use convgroups_host::model::{Change, GroupState, Origin};
use convgroups_host::store::{
    Commit, CommitOutcome, MAX_BATCH, MAX_CONVERSATION_ID_BYTES, MAX_GROUP_NAME_BYTES, SqliteStore, Store,
};
use serde::{Deserialize, Serialize};

use super::{Done, Failed, Outcome, create, progress, say};

const FORMAT: &str = "convgroups-export";
const VERSION: u32 = 1;
/// Commits at a time, which share flushes.
const WRITERS: usize = 32;
/// A user's groups are committed together, or once there are so many of them and of conversations in them.
const MAX_ITEMS_PER_COMMIT: usize = 50_000;
/// A group is committed in one piece, for which a store has places for a million items.
const MAX_CONVERSATIONS_PER_GROUP: usize = 500_000;

/// The first line of an export.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    version: u32,
}

/// Every other line: one group.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Line {
    user: UserId,
    group_name: String,
    #[serde(rename = "conversationIDList")]
    conversation_id_list: Vec<String>,
}

pub(crate) fn export(store: &dyn Store, file: &Path) -> Outcome {
    let (users, groups) = if file == Path::new("-") {
        let mut output = BufWriter::new(io::stdout().lock());
        let written = export_to(&mut output, store, true)?;
        output.flush().map_err(|error| Failed::output(&error))?;
        written
    } else {
        let mut written = (0, 0);
        create(file, |output| {
            written = export_to(output, store, false)?;
            Ok(())
        })?;
        written
    };
    say(&format!("exported {groups} groups of {users} users"));
    Ok(Done::Well)
}

/// Writes everything; answers how many users and groups that was.
fn export_to(output: &mut dyn Write, store: &dyn Store, printed: bool) -> Result<(u64, u64), Failed> {
    write_line(output, &Header { format: FORMAT.to_owned(), version: VERSION })?;
    let bar = progress::bar(None, printed);
    let started = Instant::now();
    let (mut users, mut groups) = (0, 0);
    let mut after = None;
    loop {
        let batch = store.users(after.as_ref(), MAX_BATCH).map_err(Failed::run)?;
        let Some(last) = batch.last() else { break };
        after = Some(last.clone());
        for user in batch {
            // Each user's groups are of one moment.
            let state = store.state(&user).map_err(Failed::run)?.value;
            users += 1;
            groups += state.groups.len() as u64;
            for GroupState { group_name, conversation_id_list } in state.groups {
                write_line(output, &Line { user: user.clone(), group_name, conversation_id_list })?;
            }
        }
        let rate = progress::rate(groups, started.elapsed());
        bar.set_message(format!("{users} users, {groups} groups, {rate} groups/s"));
    }
    bar.finish_and_clear();
    Ok((users, groups))
}

fn write_line(output: &mut dyn Write, line: &impl Serialize) -> Result<(), Failed> {
    let json = serde_json::to_string(line).map_err(Failed::run)?;
    writeln!(output, "{json}").map_err(|error| Failed::output(&error))
}

pub(crate) fn import<S: Deref<Target = dyn Store>>(
    file: &Path,
    open: impl FnOnce() -> Result<S, Failed>,
    keep: u32,
) -> Outcome {
    let source = seekable(file).map_err(|error| Failed::Run(format!("could not read {}: {error}", file.display())))?;
    let store = open()?;
    let rewound = || {
        (&source).rewind().map_err(|error| Failed::Run(format!("could not read {} again: {error}", file.display())))?;
        Ok::<_, Failed>(BufReader::new(&source))
    };
    check_all(rewound()?, &*store)?;
    let bytes = source.metadata().ok().map(|metadata| metadata.len());
    let imported = import_from(rewound()?, bytes, &*store, keep)?;
    say(&format!("imported {imported} groups"));
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
    let mut copy = tempfile::tempfile()?;
    io::copy(&mut BufReader::new(piped), &mut copy)?;
    Ok(copy)
}

/// Whether every line can be imported; writes nothing.
fn check_all(reader: impl BufRead, store: &dyn Store) -> Result<(), Failed> {
    let mut names = HashSet::new();
    let mut known: Option<(UserId, HashSet<String>)> = None;
    for line in Lines::new(reader)? {
        let (number, Line { user, group_name, .. }) = line?;
        if known.as_ref().is_none_or(|(known, _)| *known != user) {
            let existing = store.groups(&user).map_err(Failed::run)?.value;
            known = Some((user.clone(), existing.groups.into_iter().map(|group| group.name).collect()));
        }
        let exists = known.as_ref().is_some_and(|(_, existing)| existing.contains(&group_name));
        if exists || !names.insert(key(&user, &group_name)) {
            return Err(bad_line(number, &format!("user {user} has a group of this name already")));
        }
    }
    Ok(())
}

/// A number that stands for a user's group, so that a check of many millions fits into memory. Two that meet by chance,
/// once in billions of files, would be reported as a repetition.
fn key(user: &UserId, group: &str) -> u128 {
    let hash = |seed: u8| BuildHasherDefault::<DefaultHasher>::default().hash_one((seed, user.as_str(), group));
    u128::from(hash(0)) << 64 | u128::from(hash(1))
}

fn bad_line(number: u64, reason: &str) -> Failed {
    Failed::Run(format!("line {number}: {reason}"))
}

/// The groups of an export, checked one by one.
struct Lines<R> {
    lines: io::Lines<R>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    fn new(reader: R) -> Result<Self, Failed> {
        let mut lines = reader.lines();
        let first = lines.next().transpose().map_err(|error| bad_line(1, &error.to_string()))?.unwrap_or_default();
        // A list of the fields' values would do for serde.
        let header = if first.starts_with('{') { serde_json::from_str(&first).ok() } else { None };
        match header {
            Some(Header { format, version }) if format == FORMAT && version == VERSION => Ok(Self { lines, number: 1 }),
            Some(Header { format, version }) if format == FORMAT => {
                Err(bad_line(1, &format!("this is version {version} of the format, this program reads {VERSION}")))
            }
            _ => {
                Err(bad_line(1, &format!("not an export; expected {{\"format\":\"{FORMAT}\",\"version\":{VERSION}}}")))
            }
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<(u64, Line), Failed>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.lines.next()?;
        self.number += 1;
        let number = self.number;
        let parse = || {
            let line = line.map_err(|error| error.to_string())?;
            if !line.trim_start().starts_with('{') {
                return Err("expected an object".to_owned());
            }
            let line: Line = serde_json::from_str(&line).map_err(|error| error.to_string())?;
            check(&line)?;
            Ok((number, line))
        };
        Some(parse().map_err(|reason: String| bad_line(number, &reason)))
    }
}

/// What a store requires of a group.
fn check(group: &Line) -> Result<(), String> {
    let text = |what: &str, text: &str, max: usize| {
        if text.is_empty() || text.len() > max || text.contains(char::is_control) {
            return Err(format!("{what} {text:?} is not 1 to {max} bytes without control characters"));
        }
        Ok(())
    };
    text("the group name", &group.group_name, MAX_GROUP_NAME_BYTES)?;
    if group.conversation_id_list.len() > MAX_CONVERSATIONS_PER_GROUP {
        return Err(format!("a group of more than {MAX_CONVERSATIONS_PER_GROUP} conversations cannot be imported"));
    }
    let mut seen = HashSet::new();
    for id in &group.conversation_id_list {
        text("the conversation id", id, MAX_CONVERSATION_ID_BYTES)?;
        if !seen.insert(id) {
            return Err(format!("the conversation {id:?} is there twice"));
        }
    }
    Ok(())
}

/// Groups of one user that stand next to each other in the file.
struct Batch {
    user: UserId,
    last_line: u64,
    groups: Vec<Change>,
    items: usize,
}

fn import_from(reader: impl BufRead, bytes: Option<u64>, store: &dyn Store, keep: u32) -> Result<u64, Failed> {
    let bar = progress::bar(bytes, false);
    let lines = Lines::new(BufReader::new(bar.wrap_read(reader)))?;
    let started = Instant::now();
    let written = AtomicU64::new(0);
    let result = std::thread::scope(|scope| {
        let mut writers = Vec::new();
        let mut queues: Vec<SyncSender<Batch>> = Vec::new();
        for _ in 0..WRITERS {
            let (queue, batches) = sync_channel(4);
            queues.push(queue);
            let written = &written;
            writers.push(scope.spawn(move || write_batches(&batches, store, keep, written)));
        }
        let read = distribute(lines, &queues, |groups| {
            bar.set_message(format!("{groups} groups, {}/s", progress::rate(groups, started.elapsed())));
        });
        drop(queues);
        let stopped = || Failed::Run("a writing thread has panicked".to_owned());
        writers.into_iter().try_for_each(|writer| writer.join().unwrap_or_else(|_| Err(stopped())))?;
        read
    });
    bar.finish_and_clear();
    let written = written.into_inner();
    match result {
        Ok(()) => Ok(written),
        Err(Failed::Run(reason)) => Err(Failed::Run(format!("{reason}; {written} groups are imported"))),
        Err(failed) => Err(failed),
    }
}

/// Hands each user's groups to always the same writer, which keeps their order.
fn distribute<R: BufRead>(
    lines: Lines<R>,
    queues: &[SyncSender<Batch>],
    mut progress: impl FnMut(u64),
) -> Result<(), Failed> {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let send = |batch: Batch| {
        let index = usize::try_from(hasher.hash_one(&batch.user) % queues.len() as u64).unwrap_or_default();
        // A writer that has stopped tells why itself.
        queues.get(index).is_some_and(|queue| queue.send(batch).is_ok())
    };
    let mut batch: Option<Batch> = None;
    let mut groups = 0;
    for line in lines {
        let (number, Line { user, group_name, conversation_id_list }) = line?;
        if let Some(complete) = batch.take_if(|batch| batch.user != user || batch.items > MAX_ITEMS_PER_COMMIT)
            && !send(complete)
        {
            return Ok(());
        }
        let batch = batch.get_or_insert_with(|| Batch { user, last_line: 0, groups: Vec::new(), items: 0 });
        batch.last_line = number;
        batch.items += conversation_id_list.len() + 1;
        batch.groups.push(Change::GroupCreated { group_name, conversation_list: conversation_id_list });
        groups += 1;
        progress(groups);
    }
    batch.map(send);
    Ok(())
}

fn write_batches(batches: &Receiver<Batch>, store: &dyn Store, keep: u32, written: &AtomicU64) -> Result<(), Failed> {
    for Batch { user, last_line, groups, .. } in batches {
        let failed =
            |reason: &str| bad_line(last_line, &format!("could not import the groups of user {user}: {reason}"));
        let base = store.groups(&user).map_err(|error| failed(&error.to_string()))?.version;
        let count = groups.len() as u64;
        let origin = Origin { method: "import".to_owned(), request_id: format!("line {last_line}") };
        let commit = Commit { user: user.clone(), base, changes: groups, origin, keep, deadline: None };
        match store.commit(commit).map_err(|error| failed(&error.to_string()))? {
            CommitOutcome::Committed(_) => written.fetch_add(count, Ordering::Relaxed),
            CommitOutcome::Conflict => return Err(failed("somebody else is changing them")),
        };
    }
    Ok(())
}

pub(crate) fn backup(store: &str, destination: &Path) -> Outcome {
    let path = store
        .strip_prefix("sqlite:")
        .ok_or_else(|| Failed::Usage(format!("a backup is made of a store sqlite:PATH, not of {store}")))?;
    let store = SqliteStore::open_read_only(path).map_err(Failed::run)?;
    store.backup(destination).map_err(Failed::run)?;
    say(&format!("copied {path} to {}", destination.display()));
    Ok(Done::Well)
}
