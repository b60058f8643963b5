//! `convgroups export`, `import` and `backup`: everything, in and out.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::ops::Deref;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use convgroups_host::UserId;
use convgroups_host::model::{Change, ConversationData, GroupState, Origin};
use convgroups_host::store::{
    Commit, CommitOutcome, MAX_BATCH, MAX_CONVERSATION_ID_BYTES, MAX_CUSTOM_DATA_BYTES, MAX_GROUP_NAME_BYTES, Skip,
    SqliteStore, Store,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{Done, Failed, Outcome, create, progress, say};

const FORMAT: &str = "convgroups-export";
const VERSION: u32 = 1;
/// Commits at a time, which share flushes.
const WRITERS: usize = 32;
/// What a user has is committed together, or once there is so much of it: groups, conversations in them, and marked ones.
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

/// A line with one group.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupLine {
    user: UserId,
    group_name: String,
    #[serde(rename = "conversationIDList")]
    conversation_id_list: Vec<String>,
}

/// A line with the marks and custom data of one conversation.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DataLine {
    user: UserId,
    #[serde(rename = "conversationID")]
    conversation_id: String,
    #[serde(rename = "markList", with = "convgroups_host::marks")]
    marks: u64,
    custom_data: String,
}

/// Every line but the first.
enum Line {
    Group(GroupLine),
    Data(DataLine),
}

impl Line {
    fn from_json(line: &str) -> Result<Self, String> {
        if !line.trim_start().starts_with('{') {
            return Err("expected an object".to_owned());
        }
        let no_group = match serde_json::from_str(line) {
            Ok(group) => return Ok(Self::Group(group)),
            Err(error) => error,
        };
        match serde_json::from_str(line) {
            Ok(data) => Ok(Self::Data(data)),
            // It is taken for what it looks like.
            Err(no_data) if line.contains("\"conversationID\"") => Err(no_data.to_string()),
            Err(_) => Err(no_group.to_string()),
        }
    }

    fn user(&self) -> &UserId {
        match self {
            Self::Group(GroupLine { user, .. }) | Self::Data(DataLine { user, .. }) => user,
        }
    }
}

/// How much was exported or imported.
#[derive(Clone, Copy, Default)]
struct Counts {
    groups: u64,
    conversations: u64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} groups", self.groups)?;
        if self.conversations > 0 {
            write!(formatter, " and {} marked conversations", self.conversations)?;
        }
        Ok(())
    }
}

pub(crate) fn export(store: &dyn Store, file: &Path) -> Outcome {
    let (users, counts) = if file == Path::new("-") {
        let mut output = BufWriter::new(io::stdout().lock());
        let written = export_to(&mut output, store, true)?;
        output.flush().map_err(|error| Failed::output(&error))?;
        written
    } else {
        let mut written = (0, Counts::default());
        create(file, |output| {
            written = export_to(output, store, false)?;
            Ok(())
        })?;
        written
    };
    say(&format!("exported {counts} of {users} users"));
    Ok(Done::Well)
}

/// Writes everything; answers of how many users, and how much that was.
fn export_to(output: &mut dyn Write, store: &dyn Store, printed: bool) -> Result<(u64, Counts), Failed> {
    write_line(output, &Header { format: FORMAT.to_owned(), version: VERSION })?;
    let bar = progress::bar(None, printed);
    let started = Instant::now();
    let (mut users, mut counts) = (0, Counts::default());
    let mut after = None;
    loop {
        let batch = store.users(after.as_ref(), MAX_BATCH).map_err(Failed::run)?;
        let Some(last) = batch.last() else { break };
        after = Some(last.clone());
        for user in batch {
            // What a user has is of one moment.
            let state = store.state(&user).map_err(Failed::run)?.value;
            users += 1;
            counts.groups += state.groups.len() as u64;
            counts.conversations += state.conversations.len() as u64;
            for GroupState { group_name, conversation_id_list } in state.groups {
                write_line(output, &GroupLine { user: user.clone(), group_name, conversation_id_list })?;
            }
            for ConversationData { conversation_id, marks, custom_data } in state.conversations {
                write_line(output, &DataLine { user: user.clone(), conversation_id, marks, custom_data })?;
            }
        }
        let rate = progress::rate(users, started.elapsed());
        bar.set_message(format!("{users} users, {counts}, {rate} users/s"));
    }
    bar.finish_and_clear();
    Ok((users, counts))
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
    say(&format!("imported {imported}"));
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
    let (mut groups, mut conversations) = (HashSet::new(), HashSet::new());
    let mut known: Option<Known> = None;
    for line in Lines::new(reader)? {
        let (number, line) = line?;
        let known = match &mut known {
            Some(same) if same.user == *line.user() => same,
            other => other.insert(Known::of(line.user(), store)?),
        };
        match line {
            Line::Group(GroupLine { user, group_name, .. }) => {
                if known.groups.contains(&group_name) || !groups.insert(key(&user, &group_name)) {
                    return Err(bad_line(number, &format!("user {user} has a group of this name already")));
                }
            }
            Line::Data(DataLine { user, conversation_id, .. }) => {
                if known.is_marked(&conversation_id, store)? || !conversations.insert(key(&user, &conversation_id)) {
                    let reason = format!("user {user} has marks or custom data of this conversation already");
                    return Err(bad_line(number, &reason));
                }
            }
        }
    }
    Ok(())
}

/// What a user has before the import.
struct Known {
    user: UserId,
    groups: HashSet<String>,
    /// How many conversations have marks or custom data.
    marked: u32,
}

impl Known {
    fn of(user: &UserId, store: &dyn Store) -> Result<Self, Failed> {
        let groups = store.groups(user).map_err(Failed::run)?.value.groups;
        let marked = store.data_count(user).map_err(Failed::run)?.value;
        Ok(Self { user: user.clone(), groups: groups.into_iter().map(|group| group.name).collect(), marked })
    }

    fn is_marked(&self, conversation_id: &str, store: &dyn Store) -> Result<bool, Failed> {
        if self.marked == 0 {
            return Ok(false);
        }
        let data = store.data(&self.user, &[conversation_id]).map_err(Failed::run)?.value;
        Ok(data.iter().any(|data| !data.is_none()))
    }
}

/// A number that stands for a user's group or conversation, so that a check of many millions fits into memory. Two that
/// meet by chance, once in billions of files, would be reported as a repetition.
fn key(user: &UserId, name: &str) -> u128 {
    let hash = |seed: u8| BuildHasherDefault::<DefaultHasher>::default().hash_one((seed, user.as_str(), name));
    u128::from(hash(0)) << 64 | u128::from(hash(1))
}

fn bad_line(number: u64, reason: &str) -> Failed {
    Failed::Run(format!("line {number}: {reason}"))
}

/// The lines of an export, checked one by one.
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
            let line = Line::from_json(&line.map_err(|error| error.to_string())?)?;
            check(&line)?;
            Ok((number, line))
        };
        Some(parse().map_err(|reason: String| bad_line(number, &reason)))
    }
}

/// What a store requires of a line.
fn check(line: &Line) -> Result<(), String> {
    match line {
        Line::Group(group) => check_group(group),
        Line::Data(data) => check_data(data),
    }
}

fn check_text(what: &str, text: &str, max: usize) -> Result<(), String> {
    if text.is_empty() || text.len() > max || text.contains(char::is_control) {
        return Err(format!("{what} {text:?} is not 1 to {max} bytes without control characters"));
    }
    Ok(())
}

fn check_data(data: &DataLine) -> Result<(), String> {
    check_text("the conversation id", &data.conversation_id, MAX_CONVERSATION_ID_BYTES)?;
    if data.custom_data.len() > MAX_CUSTOM_DATA_BYTES || data.custom_data.contains('\0') {
        return Err(format!("the custom data is not up to {MAX_CUSTOM_DATA_BYTES} bytes without U+0000"));
    }
    if data.marks == 0 && data.custom_data.is_empty() {
        return Err("the conversation has neither marks nor custom data".to_owned());
    }
    Ok(())
}

fn check_group(group: &GroupLine) -> Result<(), String> {
    check_text("the group name", &group.group_name, MAX_GROUP_NAME_BYTES)?;
    if group.conversation_id_list.len() > MAX_CONVERSATIONS_PER_GROUP {
        return Err(format!("a group of more than {MAX_CONVERSATIONS_PER_GROUP} conversations cannot be imported"));
    }
    let mut seen = HashSet::new();
    for id in &group.conversation_id_list {
        check_text("the conversation id", id, MAX_CONVERSATION_ID_BYTES)?;
        if !seen.insert(id) {
            return Err(format!("the conversation {id:?} is there twice"));
        }
    }
    Ok(())
}

/// Lines of one user that stand next to each other in the file.
struct Batch {
    user: UserId,
    last_line: u64,
    changes: Vec<Change>,
    counts: Counts,
    items: usize,
}

impl Batch {
    fn of(user: UserId) -> Self {
        Self { user, last_line: 0, changes: Vec::new(), counts: Counts::default(), items: 0 }
    }

    fn add(&mut self, line: Line) {
        match line {
            Line::Group(GroupLine { group_name, conversation_id_list, .. }) => {
                self.counts.groups += 1;
                self.items += conversation_id_list.len() + 1;
                self.changes.push(Change::GroupCreated { group_name, conversation_list: conversation_id_list });
            }
            Line::Data(DataLine { conversation_id, marks, custom_data, .. }) => {
                self.counts.conversations += 1;
                self.items += 1;
                let data = ConversationData { conversation_id, marks, custom_data };
                match self.changes.last_mut() {
                    Some(Change::ConversationsChanged { conversation_list }) => conversation_list.push(data),
                    _ => self.changes.push(Change::ConversationsChanged { conversation_list: vec![data] }),
                }
            }
        }
    }
}

fn import_from(reader: impl BufRead, bytes: Option<u64>, store: &dyn Store, keep: u32) -> Result<Counts, Failed> {
    let bar = progress::bar(bytes, false);
    let lines = Lines::new(BufReader::new(bar.wrap_read(reader)))?;
    let started = Instant::now();
    let written = Mutex::new(Counts::default());
    let result = std::thread::scope(|scope| {
        let mut writers = Vec::new();
        let mut queues: Vec<SyncSender<Batch>> = Vec::new();
        for _ in 0..WRITERS {
            let (queue, batches) = sync_channel(4);
            queues.push(queue);
            let written = &written;
            writers.push(scope.spawn(move || write_batches(&batches, store, keep, written)));
        }
        let read = distribute(lines, &queues, |read| {
            bar.set_message(format!("{read} lines, {}/s", progress::rate(read, started.elapsed())));
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
        Err(Failed::Run(reason)) => Err(Failed::Run(format!("{reason}; {written} are imported"))),
        Err(failed) => Err(failed),
    }
}

/// Hands each user's lines to always the same writer, which keeps their order.
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
    let mut read = 0;
    for line in lines {
        let (number, line) = line?;
        let user = line.user();
        if let Some(complete) = batch.take_if(|batch| batch.user != *user || batch.items > MAX_ITEMS_PER_COMMIT)
            && !send(complete)
        {
            return Ok(());
        }
        let batch = batch.get_or_insert_with(|| Batch::of(user.clone()));
        batch.last_line = number;
        batch.add(line);
        read += 1;
        progress(read);
    }
    batch.map(send);
    Ok(())
}

fn write_batches(
    batches: &Receiver<Batch>,
    store: &dyn Store,
    keep: u32,
    written: &Mutex<Counts>,
) -> Result<(), Failed> {
    for Batch { user, last_line, changes, counts, .. } in batches {
        let failed = |reason: &str| bad_line(last_line, &format!("could not import what user {user} has: {reason}"));
        let base = store.groups(&user).map_err(|error| failed(&error.to_string()))?.version;
        let origin = Origin { method: "import".to_owned(), request_id: format!("line {last_line}") };
        let commit = Commit { user: user.clone(), base, changes, origin, keep, skip: Skip::default(), deadline: None };
        match store.commit(commit).map_err(|error| failed(&error.to_string()))? {
            CommitOutcome::Committed(_) => {
                let mut written = written.lock();
                written.groups += counts.groups;
                written.conversations += counts.conversations;
            }
            CommitOutcome::Conflict => return Err(failed("somebody else is changing it")),
        }
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
