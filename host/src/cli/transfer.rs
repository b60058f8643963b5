//! `convgroups export`, `import` and `backup`: everything, in and out.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use convgroups_host::UserId;
use convgroups_host::model::{Change, GroupState, Origin};
use convgroups_host::store::{
    Commit, CommitOutcome, MAX_BATCH, MAX_CONVERSATION_ID_BYTES, MAX_GROUP_NAME_BYTES, SqliteStore, Store,
};
use serde::{Deserialize, Serialize};

use super::{Done, Failed, Outcome, progress};

const FORMAT: &str = "convgroups-export";
const VERSION: u32 = 1;
/// Commits at a time, which share flushes.
const WRITERS: usize = 32;
/// A user's groups are committed together, or once they hold so many conversations.
const MAX_CONVERSATIONS_PER_COMMIT: usize = 50_000;

/// The first line of an export.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    version: u32,
}

/// Every other line: one group.
#[derive(Deserialize, Serialize)]
struct Line {
    user: UserId,
    #[serde(flatten)]
    group: GroupState,
}

pub(crate) fn export(store: &dyn Store, file: &Path) -> Outcome {
    let to_file = file != Path::new("-");
    let mut output: Box<dyn Write> = if to_file {
        let created = File::create_new(file);
        let created = created.map_err(|error| Failed::Run(format!("could not create {}: {error}", file.display())))?;
        Box::new(BufWriter::new(created))
    } else {
        Box::new(BufWriter::new(io::stdout().lock()))
    };
    write_line(&mut output, &Header { format: FORMAT.to_owned(), version: VERSION })?;

    let bar = progress::bar(None);
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
            groups += state.len() as u64;
            for group in state {
                write_line(&mut output, &Line { user: user.clone(), group })?;
            }
        }
        bar.set_message(format!(
            "{users} users, {groups} groups, {} groups/s",
            progress::rate(groups, started.elapsed())
        ));
    }
    output.flush().map_err(|error| Failed::output(&error))?;
    bar.finish_and_clear();
    eprintln!("exported {groups} groups of {users} users");
    Ok(Done::Well)
}

fn write_line(output: &mut dyn Write, line: &impl Serialize) -> Result<(), Failed> {
    let json = serde_json::to_string(line).map_err(Failed::run)?;
    writeln!(output, "{json}").map_err(|error| Failed::output(&error))
}

pub(crate) fn import(store: &dyn Store, file: &Path, keep: u32) -> Outcome {
    let imported = if file == Path::new("-") {
        import_from(BufReader::new(io::stdin()), None, store, keep)?
    } else {
        let open = || {
            let opened = File::open(file);
            let opened = opened.map_err(|error| Failed::Run(format!("could not read {}: {error}", file.display())))?;
            let bytes = opened.metadata().ok().map(|metadata| metadata.len());
            Ok::<_, Failed>((BufReader::new(opened), bytes))
        };
        check_all(open()?.0, store)?;
        let (reader, bytes) = open()?;
        import_from(reader, bytes, store, keep)?
    };
    eprintln!("imported {imported} groups");
    Ok(Done::Well)
}

/// Whether every line can be imported; writes nothing.
fn check_all(reader: impl BufRead, store: &dyn Store) -> Result<(), Failed> {
    let mut names = HashSet::new();
    let mut known: Option<(UserId, HashSet<String>)> = None;
    for line in Lines::new(reader)? {
        let (number, Line { user, group }) = line?;
        if known.as_ref().is_none_or(|(known, _)| *known != user) {
            let existing = store.groups(&user).map_err(Failed::run)?.value;
            known = Some((user.clone(), existing.into_iter().collect()));
        }
        let exists = known.as_ref().is_some_and(|(_, existing)| existing.contains(&group.group_name));
        if exists || !names.insert(key(&user, &group.group_name)) {
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
        match serde_json::from_str(&first) {
            Ok(Header { format, version }) if format == FORMAT && version == VERSION => Ok(Self { lines, number: 1 }),
            Ok(Header { format, version }) if format == FORMAT => {
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
            let line: Line =
                serde_json::from_str(&line.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
            check(&line.group)?;
            Ok((number, line))
        };
        Some(parse().map_err(|reason: String| bad_line(number, &reason)))
    }
}

/// What a store requires of a group.
fn check(group: &GroupState) -> Result<(), String> {
    let text = |what: &str, text: &str, max: usize| {
        if text.is_empty() || text.len() > max || text.contains(char::is_control) {
            return Err(format!("{what} {text:?} is not 1 to {max} bytes without control characters"));
        }
        Ok(())
    };
    text("the group name", &group.group_name, MAX_GROUP_NAME_BYTES)?;
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
    groups: Vec<GroupState>,
    conversations: usize,
}

fn import_from(reader: impl BufRead, bytes: Option<u64>, store: &dyn Store, keep: u32) -> Result<u64, Failed> {
    let bar = progress::bar(bytes);
    let lines = Lines::new(BufReader::new(bar.wrap_read(reader)))?;
    let started = Instant::now();
    std::thread::scope(|scope| {
        let mut writers = Vec::new();
        let mut queues: Vec<SyncSender<Batch>> = Vec::new();
        for _ in 0..WRITERS {
            let (queue, batches) = sync_channel(4);
            queues.push(queue);
            writers.push(scope.spawn(move || write_batches(&batches, store, keep)));
        }
        let read = distribute(lines, &queues, |groups| {
            bar.set_message(format!("{groups} groups, {}/s", progress::rate(groups, started.elapsed())));
        });
        drop(queues);
        let written: Result<Vec<u64>, Failed> = writers
            .into_iter()
            .map(|writer| {
                writer.join().unwrap_or_else(|_| Err(Failed::Run("a writing thread has panicked".to_owned())))
            })
            .collect();
        bar.finish_and_clear();
        let written: u64 = written?.into_iter().sum();
        read.map_err(|failed| match failed {
            Failed::Run(reason) => Failed::Run(format!("{reason}; {written} groups before it are imported")),
            failed => failed,
        })?;
        Ok(written)
    })
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
        let (number, Line { user, group }) = line?;
        let full = |batch: &Batch| batch.user != user || batch.conversations > MAX_CONVERSATIONS_PER_COMMIT;
        if let Some(complete) = batch.take_if(|batch| full(batch))
            && !send(complete)
        {
            return Ok(());
        }
        let batch = batch.get_or_insert_with(|| Batch { user, last_line: 0, groups: Vec::new(), conversations: 0 });
        batch.last_line = number;
        batch.conversations += group.conversation_id_list.len();
        batch.groups.push(group);
        groups += 1;
        progress(groups);
    }
    batch.map(send);
    Ok(())
}

fn write_batches(batches: &Receiver<Batch>, store: &dyn Store, keep: u32) -> Result<u64, Failed> {
    let mut written = 0;
    for Batch { user, last_line, groups, .. } in batches {
        let failed =
            |reason: &str| bad_line(last_line, &format!("could not import the groups of user {user}: {reason}"));
        let existing = store.groups(&user).map_err(|error| failed(&error.to_string()))?;
        if let Some(group) = groups.iter().find(|group| existing.value.contains(&group.group_name)) {
            return Err(failed(&format!("there is a group named {:?} already", group.group_name)));
        }
        let count = groups.len() as u64;
        let changes = groups.into_iter().map(|group| Change::GroupCreated {
            group_name: group.group_name,
            conversation_list: group.conversation_id_list,
        });
        let commit = Commit {
            user: user.clone(),
            base: existing.version,
            changes: changes.collect(),
            origin: Origin { method: "import".to_owned(), request_id: format!("line {last_line}") },
            keep,
        };
        match store.commit(commit).map_err(|error| failed(&error.to_string()))? {
            CommitOutcome::Committed(_) => written += count,
            CommitOutcome::Conflict => return Err(failed("somebody else is changing them")),
        }
    }
    Ok(written)
}

pub(crate) fn backup(store: &str, destination: &Path) -> Outcome {
    let path = store
        .strip_prefix("sqlite:")
        .ok_or_else(|| Failed::Usage(format!("a backup is made of a store sqlite:PATH, not of {store}")))?;
    let store = SqliteStore::open_read_only(path).map_err(Failed::run)?;
    store.backup(destination).map_err(Failed::run)?;
    eprintln!("copied {path} to {}", destination.display());
    Ok(Done::Well)
}
