//! `convgroups run`: many operations, from lines to lines.
//!
//! One thread reads, some run, one writes. A user's operations wait in a queue of their own, so that they keep their order
//! while other users go ahead; answers wait for those before them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, ScopedJoinHandle};
use std::time::Instant;

use convgroups_host::api::{BadRequest, CallLine, Request, code};
use convgroups_host::escape::json_for_people;
use convgroups_host::{Failure, Host, UserId};
use indicatif::ProgressBar;

use super::args::{Output, Run};
use super::{Done, Failed, Outcome, progress, say, table};

/// A longer line is answered as malformed.
const MAX_LINE_BYTES: usize = 4 << 20;
/// Lines that may be read ahead of the answers, for each operation at a time.
const READ_AHEAD: usize = 16;

pub(crate) fn run(command: &Run, open: impl FnOnce() -> Result<Host, Failed>) -> Outcome {
    let input = Input::open(&command.file)?;
    let host = &open()?;
    let bar = progress::bar(input.bytes, false);
    let scheduler = Scheduler::new(usize::from(command.concurrency) * READ_AHEAD);
    let (answers, to_write) = channel();
    let started = Instant::now();

    let (read, written) = std::thread::scope(|scope| {
        let scheduler = &scheduler;
        let writer = scope.spawn({
            let bar = bar.clone();
            move || write_answers(&to_write, scheduler, &bar)
        });
        let mut workers = Vec::new();
        for _ in 0..u32::from(command.concurrency).min(host.max_concurrent()) {
            let answers = answers.clone();
            let worker = move || work(host, scheduler, &answers, command.output);
            // On a machine that has no room for more threads, those that there are do the work.
            match Builder::new().spawn_scoped(scope, worker) {
                Ok(worker) => workers.push(worker),
                Err(error) => tracing::warn!(%error, running = workers.len(), "could not start another thread"),
            }
        }
        let read = if workers.is_empty() {
            Err(Failed::Run("not a single thread could be started to run calls".to_owned()))
        } else {
            read_lines(input, scheduler, &answers, command.output, &bar)
        };
        scheduler.close();
        drop(answers);
        let worked = workers.into_iter().try_for_each(ScopedJoinHandle::join);
        (read, worked.and_then(|()| writer.join()))
    });
    bar.finish_and_clear();
    let counts =
        written.map_err(|_| Failed::Run("a thread has panicked; not all calls were answered".to_owned()))??;
    say(&counts.summary(started));
    read?;
    Ok(Done::Well)
}

/// Where lines come from.
struct Input {
    reader: Box<dyn BufRead>,
    /// How many, if known.
    bytes: Option<u64>,
}

impl Input {
    fn open(path: &Path) -> Result<Self, Failed> {
        if path == Path::new("-") {
            return Ok(Self { reader: Box::new(BufReader::new(io::stdin())), bytes: None });
        }
        let failed = |error| Failed::Run(format!("could not read {}: {error}", path.display()));
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let bytes = metadata.is_file().then_some(metadata.len());
        Ok(Self { reader: Box::new(BufReader::new(file)), bytes })
    }
}

/// An operation, and the place of its answer.
struct Job {
    place: u64,
    request: Request,
}

/// An answer, and its place.
struct Written {
    place: u64,
    text: String,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Succeeded,
    Refused,
    Failed,
    Malformed,
}

/// Which operation runs next.
struct Scheduler {
    state: Mutex<State>,
    /// There is work, or there will be none.
    work: Condvar,
    /// There is room to read ahead, or nobody wants answers any more.
    room: Condvar,
    window: usize,
}

#[derive(Default)]
struct State {
    /// Users who wait or run, each with what is still to run.
    users: HashMap<UserId, VecDeque<Job>>,
    /// Users of whom nothing runs, in the order in which they came.
    ready: VecDeque<UserId>,
    unwritten: usize,
    closed: bool,
}

impl Scheduler {
    fn new(window: usize) -> Self {
        Self { state: Mutex::default(), work: Condvar::new(), room: Condvar::new(), window }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements that change it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until another line may be read; false when there is no use in it.
    fn make_room(&self) -> bool {
        let full = |state: &mut State| state.unwritten >= self.window && !state.closed;
        let mut state = self.room.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        state.unwritten += 1;
        !state.closed
    }

    fn submit(&self, user: UserId, job: Job) {
        let mut state = self.lock();
        match state.users.get_mut(&user) {
            Some(queue) => queue.push_back(job),
            None => {
                state.users.insert(user.clone(), VecDeque::from([job]));
                state.ready.push_back(user);
                self.work.notify_one();
            }
        }
    }

    /// The next operation; nothing when there will be none.
    fn take(&self) -> Option<(UserId, Job)> {
        let idle = |state: &mut State| state.ready.is_empty() && !(state.closed && state.users.is_empty());
        let mut state = self.work.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let user = state.ready.pop_front()?;
        let job = state.users.get_mut(&user)?.pop_front()?;
        Some((user, job))
    }

    /// After an operation: the user's next may run.
    fn done(&self, user: &UserId) {
        let mut state = self.lock();
        if state.users.get(user).is_some_and(|queue| !queue.is_empty()) {
            state.ready.push_back(user.clone());
            self.work.notify_one();
        } else {
            state.users.remove(user);
            if state.closed && state.users.is_empty() {
                self.work.notify_all();
            }
        }
    }

    fn written(&self, count: usize) {
        self.lock().unwritten -= count;
        self.room.notify_one();
    }

    /// Nobody wants answers any more: what has not begun is not run.
    fn abandon(&self) {
        let mut state = self.lock();
        state.users.clear();
        state.ready.clear();
        drop(state);
        self.close();
    }

    /// No more operations will come.
    fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
        self.room.notify_all();
    }
}

/// An operation that is being run.
struct Running<'a> {
    scheduler: &'a Scheduler,
    user: UserId,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.scheduler.done(&self.user);
        // Its answer will be missing, and those after it could never be written.
        if std::thread::panicking() {
            self.scheduler.close();
        }
    }
}

fn read_lines(
    mut input: Input,
    scheduler: &Scheduler,
    answers: &Sender<Written>,
    output: Output,
    bar: &ProgressBar,
) -> Result<(), Failed> {
    let mut line = Vec::new();
    for place in 0.. {
        let read = read_line(&mut *input.reader, &mut line)
            .map_err(|error| Failed::Run(format!("could not read line {}: {error}", place + 1)))?;
        bar.inc(read as u64);
        if read == 0 || !scheduler.make_room() {
            break;
        }
        match parse(&line) {
            Ok(CallLine { user, request: Ok(request) }) => scheduler.submit(user, Job { place, request }),
            Ok(CallLine { request: Err(bad), .. }) => answer(answers, place, unread(&bad, output), Kind::Refused),
            Err(bad) => {
                let desc = format!("line {}: {}", place + 1, bad.desc);
                answer(answers, place, unread(&BadRequest { desc, ..bad }, output), Kind::Malformed);
            }
        }
    }
    Ok(())
}

/// The answer to what could not be read.
fn unread(bad: &BadRequest, output: Output) -> String {
    match output {
        Output::Json => json_for_people(&bad.to_json()).into_owned(),
        Output::Table => table::failure(bad.code, &bad.desc) + "\n",
    }
}

/// Reads a line, or as much as a line may have and skips the rest. Answers how many bytes that was; 0 at the end.
fn read_line(reader: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    line.clear();
    let mut read = Read::take(&mut *reader, MAX_LINE_BYTES as u64 + 1).read_until(b'\n', line)?;
    if line.len() > MAX_LINE_BYTES && !line.ends_with(b"\n") {
        loop {
            let buffer = reader.fill_buf()?;
            let newline = buffer.iter().position(|&byte| byte == b'\n');
            let skipped = newline.map_or(buffer.len(), |newline| newline + 1);
            reader.consume(skipped);
            read += skipped;
            if newline.is_some() || skipped == 0 {
                break;
            }
        }
    }
    Ok(read)
}

fn parse(line: &[u8]) -> Result<CallLine, BadRequest> {
    let malformed = |desc: String| BadRequest { code: code::MALFORMED_JSON, desc };
    if line.len() > MAX_LINE_BYTES {
        return Err(malformed(format!("has more than {MAX_LINE_BYTES} bytes")));
    }
    let text = std::str::from_utf8(line).map_err(|error| malformed(format!("is not UTF-8: {error}")))?;
    CallLine::from_json(text.trim_end_matches(['\n', '\r']))
}

fn answer(answers: &Sender<Written>, place: u64, text: String, kind: Kind) {
    // The writer ends early only when nobody wants answers any more.
    let _ = answers.send(Written { place, text, kind });
}

fn work(host: &Host, scheduler: &Scheduler, answers: &Sender<Written>, output: Output) {
    while let Some((user, Job { place, request })) = scheduler.take() {
        let running = Running { scheduler, user };
        let user = &running.user;
        let result = host.call(user, &request);
        let kind = match &result {
            Ok(_) => Kind::Succeeded,
            Err(error) if matches!(error.failure, Failure::Refused(_)) => Kind::Refused,
            Err(_) => Kind::Failed,
        };
        let text = match (result, output) {
            (Ok(reply), Output::Json) => json_for_people(&reply.to_json()).into_owned(),
            (Err(error), Output::Json) => json_for_people(&error.to_json()).into_owned(),
            (Ok(reply), Output::Table) => titled(user, &request, &table::answer(&reply.result)),
            (Err(error), Output::Table) => titled(user, &request, &table::failure(error.code(), &error.desc())),
        };
        answer(answers, place, text, kind);
    }
}

/// An answer for people, below what was asked.
fn titled(user: &UserId, request: &Request, answer: &str) -> String {
    let subject = match request {
        Request::CreateConversationGroup(params) => format!(" {:?}", params.group_name),
        Request::AddConversationsToGroup(params) => format!(" {:?}", params.group_name),
        Request::DeleteConversationsFromGroup(params) => format!(" {:?}", params.group_name),
        Request::DeleteConversationGroup(params) => format!(" {:?}", params.group_name),
        Request::RenameConversationGroup(params) => format!(" {:?} to {:?}", params.old_name, params.new_name),
        Request::MarkConversation(params) => {
            let verb = if params.enable_mark { "set" } else { "clear" };
            format!(" {verb} {}", table::notes(params.mark_type, ""))
        }
        Request::SetConversationCustomData(params) => format!(" {:?}", params.custom_data),
        Request::GetConversationListByFilter(query) => {
            let group = query.filter.conversation_group.as_ref().map(|group| format!(" in {group:?}"));
            let marks = query.filter.mark_type.map(|marks| match marks {
                0 => " without marks".to_owned(),
                marks => format!(" with {}", table::notes(marks, "")),
            });
            group.into_iter().chain(marks).collect()
        }
        // What has no other parameter than conversations, which the answer shows.
        _ => String::new(),
    };
    format!("{user}: {}{subject}\n{answer}\n", request.method().name())
}

/// What has been answered so far.
#[derive(Default)]
struct Counts {
    succeeded: u64,
    refused: u64,
    failed: u64,
    malformed: u64,
}

impl Counts {
    fn add(&mut self, kind: Kind) {
        match kind {
            Kind::Succeeded => self.succeeded += 1,
            Kind::Refused => self.refused += 1,
            Kind::Failed => self.failed += 1,
            Kind::Malformed => self.malformed += 1,
        }
    }

    fn total(&self) -> u64 {
        self.succeeded + self.refused + self.failed + self.malformed
    }

    fn summary(&self, started: Instant) -> String {
        let elapsed = started.elapsed();
        format!(
            "{} calls in {:.2} s ({} a second): {} succeeded, {} refused, {} failed, {} malformed lines",
            self.total(),
            elapsed.as_secs_f64(),
            progress::rate(self.total(), elapsed),
            self.succeeded,
            self.refused,
            self.failed,
            self.malformed,
        )
    }
}

/// Writes answers in the order of their places, each as soon as all before it are written.
fn write_answers(answers: &Receiver<Written>, scheduler: &Scheduler, bar: &ProgressBar) -> Result<Counts, Failed> {
    let started = Instant::now();
    let mut output = BufWriter::new(io::stdout().lock());
    let shared = io::stdout().is_terminal();
    let mut early: BTreeMap<u64, Written> = BTreeMap::new();
    let mut counts = Counts::default();
    let mut next = 0;
    for answer in answers {
        early.insert(answer.place, answer);
        let before = next;
        let mut write = || -> io::Result<()> {
            while let Some(answer) = early.remove(&next) {
                writeln!(output, "{}", answer.text)?;
                counts.add(answer.kind);
                next += 1;
            }
            // A reader may wait for a line, so none is held back.
            if next > before { output.flush() } else { Ok(()) }
        };
        // Lines must not run into the bar.
        let written = if shared { bar.suspend(&mut write) } else { write() };
        if let Err(error) = written {
            scheduler.abandon();
            return Err(match Failed::output(&error) {
                Failed::OutputClosed => Failed::Run("nobody reads the answers any more; stopped".to_owned()),
                failed => failed,
            });
        }
        scheduler.written(usize::try_from(next - before).unwrap_or(usize::MAX));
        let errors = counts.refused + counts.failed + counts.malformed;
        bar.set_message(format!("{}/s, {errors} errors", progress::rate(counts.total(), started.elapsed())));
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_skipped_to_its_end_and_the_next_one_is_read() {
        let mut text = vec![b'x'; MAX_LINE_BYTES + 10];
        text.extend_from_slice(b"\nnext\nlast");
        let mut reader: &[u8] = &text;
        let mut line = Vec::new();
        assert_eq!(read_line(&mut reader, &mut line).expect("memory can be read"), MAX_LINE_BYTES + 11);
        assert!(parse(&line).is_err());
        assert_eq!(read_line(&mut reader, &mut line).expect("memory can be read"), 5);
        assert_eq!(line, b"next\n");
        assert_eq!(read_line(&mut reader, &mut line).expect("memory can be read"), 4);
        assert_eq!(read_line(&mut reader, &mut line).expect("memory can be read"), 0);
    }
}
