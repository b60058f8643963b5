//! The embedded store: one SQLite file, as people and ordinary tools can read it.
//!
//! One thread owns the only connection that writes. It takes all commits that wait, applies each inside a savepoint, and
//! makes them durable with one flush. A few connections beside it only read.

mod commit;
mod file;
mod history;
mod lock;
mod marks;
mod read;
mod restore;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::Mutex;
use rusqlite::{Connection, ffi};

use self::commit::{Committer, Job, Progress};
use self::lock::{Access, Lock, OpenFiles};
use super::{
    Changes, Commit, CommitOutcome, GroupList, HeldAndSize, Member, Memberships, Store, StoreCounts, StoreError,
    StoreErrorKind, StoreResult, Verified, Versioned, Watch, record,
};
use crate::model::{ConversationData, EventId, History, UserId, UserState};

/// The most commits that wait for the committer; further commits are rejected.
const QUEUE: usize = 16_384;

/// Keeps groups, marks and custom data in a SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    /// Connections at rest, and the file's number when they were made. There are as many as were ever needed at once: calls in
    /// flight, event readers, exports.
    readers: Mutex<Vec<(u64, Connection)>>,
    access: Access,
    /// Nothing in a store that was opened to read.
    writer: Option<Writer>,
}

#[derive(Debug)]
struct Writer {
    progress: Arc<Progress>,
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    files: Arc<OpenFiles>,
    /// Dropped last: SQLite must have closed the file.
    _lock: Lock,
}

impl SqliteStore {
    /// Opens a file for this host alone, and creates it if there is none.
    ///
    /// # Errors
    ///
    /// When another host has it open, it lies on a network file system, is not a store, or is of a newer format; or the
    /// file cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> StoreResult<Self> {
        Self::open_with_batches(path.as_ref(), commit::MAX_BATCH)
    }

    /// As [`SqliteStore::open`], with this many commits for each flush.
    pub(crate) fn open_with_batches(path: &Path, max_batch: usize) -> StoreResult<Self> {
        let path = file::absolute(path)?;
        let lock = Lock::take(&path)?;
        let mut writable = file::open_writer(&path, true)?;
        history::go_on(&mut writable, &path)?;
        let files = Arc::new(OpenFiles::note(&path, &lock)?);
        let (jobs, queue) = sync_channel(QUEUE);
        let progress = Arc::<Progress>::default();
        let committer = Committer::new(path.clone(), Arc::clone(&files), writable, max_batch, Arc::clone(&progress));
        let thread = std::thread::Builder::new()
            .name("convgroups-commit".to_owned())
            .spawn(move || committer.run(&queue))
            .map_err(|error| {
                StoreError::new(StoreErrorKind::Unusable, format!("could not start the committing thread: {error}"))
            })?;
        let writer = Writer { progress, jobs: Some(jobs), thread: Some(thread), files, _lock: lock };
        Ok(Self { path, readers: Mutex::default(), access: Access::Shared, writer: Some(writer) })
    }

    /// Opens a file to read it, beside a host that may be writing to it.
    ///
    /// # Errors
    ///
    /// When there is no such file, it is not a store, of another format, or has a WAL that is not its own; or it cannot be
    /// opened.
    pub fn open_read_only(path: impl AsRef<Path>) -> StoreResult<Self> {
        let path = file::absolute(path.as_ref())?;
        let access = Access::to(&path);
        // A file that nobody can write to has no second WAL under another name.
        if let Access::Shared = access {
            lock::check_links(&path)?;
        }
        file::refuse_foreign_wal(&path)?;
        let number = file::number(&path);
        let reader = file::open_reader(&path, &access)?;
        Ok(Self { path, readers: Mutex::new(vec![(number, reader)]), access, writer: None })
    }

    /// Makes a consistent copy of everything that is committed, while a host may be writing.
    ///
    /// # Errors
    ///
    /// When the destination exists or cannot be written, or the store fails.
    pub fn backup(&self, destination: impl AsRef<Path>) -> StoreResult<()> {
        file::backup(&self.path, &self.access, destination.as_ref())
    }

    /// Puts a backup in the place of the store at a path, if there is one. It begins a new history, which is returned. Whatever
    /// fails, and whenever this is interrupted, the path has the store that was there or the whole new one.
    ///
    /// # Errors
    ///
    /// When a host or another program has the store open; when the backup is damaged or not a store; or when a file cannot be
    /// written. The store is as it was then.
    pub fn restore(backup: impl AsRef<Path>, store: impl AsRef<Path>) -> StoreResult<History> {
        restore::restore(backup.as_ref(), &file::absolute(store.as_ref())?)
    }

    /// Begins a new history of the store at a path, where it was set back by means that cannot be noticed.
    ///
    /// # Errors
    ///
    /// As [`SqliteStore::open`]; or when there is no store.
    pub fn begin_history(path: impl AsRef<Path>) -> StoreResult<History> {
        let path = file::absolute(path.as_ref())?;
        // There must be one.
        drop(file::open_reader(&path, &Access::Shared)?);
        let _lock = Lock::take(&path)?;
        let mut writable = file::open_writer(&path, true)?;
        let history = History::random();
        history::begin(&mut writable, &path, history).map_err(|error| failed("write to", &path, error))?;
        file::take_over_log_on_close(&writable.connection).map_err(|error| failed("write to", &path, error))?;
        Ok(history)
    }

    fn with_reader<T>(&self, read: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> StoreResult<T> {
        // A host holds on to its file. Who only reads may outlive a restore, and would go on reading a file without a name.
        let number = if self.writer.is_some() { 0 } else { file::number(&self.path) };
        // The guard must not live on while the connection is used.
        let resting = self.readers.lock().pop().filter(|(of, _)| *of == number);
        let mut reader = match resting {
            Some((_, reader)) => reader,
            None => self.new_reader()?,
        };
        let result = read(&mut reader).map_err(|error| self.failed("read", error));
        // A connection that failed may be in the middle of something; the next reader gets a new one.
        if result.is_ok() {
            self.readers.lock().push((number, reader));
        }
        result
    }

    fn new_reader(&self) -> StoreResult<Connection> {
        let check = || self.writer.as_ref().map_or(Ok(()), |writer| writer.files.check());
        // SQLite would create a WAL that is missing, and another database may have taken the place of this one.
        check()?;
        let reader = file::open_reader(&self.path, &self.access)?;
        check()?;
        Ok(reader)
    }

    fn failed(&self, what: &str, error: rusqlite::Error) -> StoreError {
        failed(what, &self.path, error)
    }

    fn ask<T>(&self, deadline: Option<Instant>, job: impl FnOnce(SyncSender<StoreResult<T>>) -> Job) -> StoreResult<T> {
        let (reply, answer) = sync_channel(1);
        let jobs = self.writer.as_ref().and_then(|writer| writer.jobs.as_ref()).ok_or_else(|| {
            let path = self.path.display();
            StoreError::new(StoreErrorKind::Unusable, format!("{path} was opened to be read only"))
        })?;
        jobs.try_send(job(reply)).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::new(StoreErrorKind::Unavailable, "too many commits wait for the disk"),
            TrySendError::Disconnected(_) => self.stopped(StoreErrorKind::Unavailable),
        })?;
        let received = match deadline {
            None => answer.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(deadline) => answer.recv_timeout(deadline.saturating_duration_since(Instant::now())),
        };
        received.unwrap_or_else(|error| match error {
            RecvTimeoutError::Disconnected => Err(self.stopped(StoreErrorKind::OutcomeUnknown)),
            RecvTimeoutError::Timeout => {
                let message = format!("the commit to {} did not end in time", self.path.display());
                Err(StoreError::new(StoreErrorKind::OutcomeUnknown, message))
            }
        })
    }

    fn stopped(&self, kind: StoreErrorKind) -> StoreError {
        StoreError::new(kind, format!("the thread that commits to {} has stopped", self.path.display()))
    }
}

fn failed(what: &str, path: &Path, error: rusqlite::Error) -> StoreError {
    use rusqlite::{Error, ErrorCode};
    let kind = match (&error, error.sqlite_error_code()) {
        (_, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        | (
            Error::IntegralValueOutOfRange(..)
            | Error::FromSqlConversionFailure(..)
            | Error::InvalidColumnType(..)
            | Error::Utf8Error(..),
            _,
        ) => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::new(kind, format!("could not {what} {}: {}", path.display(), describe(&error))).caused_by(error)
}

/// The error with SQLite's extended code, which tells apart what it has one text for, and what to do.
fn describe(error: &rusqlite::Error) -> String {
    let Some(code) = error.sqlite_error().map(|error| error.extended_code) else { return error.to_string() };
    let hint = match (code, code & 0xff) {
        (ffi::SQLITE_IOERR_GETTEMPPATH, _) => "no directory for temporary files can be written",
        (ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC, _) => "the disk could not flush: see the system's log",
        (_, ffi::SQLITE_FULL) => "there is no room: free some, or raise the quota",
        (_, ffi::SQLITE_IOERR) => "the disk fails or is full: see its free space and the system's log",
        (_, ffi::SQLITE_READONLY | ffi::SQLITE_PERM) => "the file or its directory cannot be written by this process",
        (_, ffi::SQLITE_CANTOPEN) => "see the permissions of the file, of those beside it and of their directory",
        (_, ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB) => "put a backup in place: convgroups restore FILE",
        (_, ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED) => "another program holds the file: stop it",
        (_, ffi::SQLITE_NOMEM) => "there is no memory left",
        _ => return format!("{error} (SQLite's code {code})"),
    };
    format!("{error} (SQLite's code {code}: {hint})")
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Ends the thread's loop once it has committed what waits.
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

impl Store for SqliteStore {
    fn groups(&self, user: &UserId) -> StoreResult<Versioned<GroupList>> {
        self.with_reader(|reader| read::groups(reader, user))
    }

    fn contains(&self, user: &UserId, group_name: &str, ids: &[&str]) -> StoreResult<Versioned<Option<Vec<bool>>>> {
        self.with_reader(|reader| read::contains(reader, user, group_name, ids))
    }

    fn contains_and_size(
        &self,
        user: &UserId,
        group_name: &str,
        ids: &[&str],
    ) -> StoreResult<Versioned<Option<HeldAndSize>>> {
        self.with_reader(|reader| read::contains_and_size(reader, user, group_name, ids))
    }

    fn page(
        &self,
        user: &UserId,
        group_name: Option<&str>,
        after: u64,
        limit: u32,
    ) -> StoreResult<Versioned<Option<Vec<Member>>>> {
        self.with_reader(|reader| read::page(reader, user, group_name, after, limit))
    }

    fn memberships(&self, user: &UserId, ids: &[&str], limit: usize) -> StoreResult<Versioned<Option<Memberships>>> {
        self.with_reader(|reader| read::memberships(reader, user, ids, limit))
    }

    fn data(&self, user: &UserId, ids: &[&str]) -> StoreResult<Versioned<Vec<ConversationData>>> {
        self.with_reader(|reader| read::data(reader, user, ids))
    }

    fn data_and_count(&self, user: &UserId, ids: &[&str]) -> StoreResult<Versioned<(Vec<ConversationData>, u32)>> {
        self.with_reader(|reader| read::data_and_count(reader, user, ids))
    }

    fn page_of_data(&self, user: &UserId, after: u64, limit: u32) -> StoreResult<Versioned<Vec<Member>>> {
        self.with_reader(|reader| read::page_of_data(reader, user, after, limit))
    }

    fn state(&self, user: &UserId) -> StoreResult<Versioned<UserState>> {
        self.with_reader(|reader| read::state(reader, user))
    }

    fn commit(&self, commit: Commit) -> StoreResult<CommitOutcome> {
        // Encoded here, on the caller's thread: the committer's time is everybody's.
        let logged = match commit.skip.versions {
            0 => Some(record::encode(&commit.origin, &commit.changes)?),
            _ => None,
        };
        self.ask(commit.deadline, |reply| Job::Commit { commit, logged, reply })
    }

    fn changes_after(&self, user: &UserId, after: EventId, limit: u32) -> StoreResult<(History, Changes)> {
        self.with_reader(|reader| read::changes(reader, user, after, limit))
    }

    fn history(&self) -> StoreResult<History> {
        self.with_reader(|reader| history::read(reader))
    }

    fn verify(&self, found: &mut dyn FnMut(String)) -> StoreResult<Verified> {
        self.with_reader(|reader| verify::verify(reader, found))
    }

    fn users(&self, after: Option<&UserId>, limit: u32) -> StoreResult<Vec<UserId>> {
        self.with_reader(|reader| read::users(reader, after, limit))
    }

    fn watch(&self, user: &UserId) -> Option<Watch> {
        // Who only reads does not learn of what the writing process commits.
        self.writer.as_ref().map(|writer| writer.progress.watchers.watch(user.clone()))
    }

    fn counts(&self) -> StoreCounts {
        self.writer.as_ref().map_or_else(StoreCounts::default, |writer| writer.progress.counts())
    }

    fn health(&self) -> StoreResult<()> {
        self.with_reader(|reader| {
            reader.query_row("SELECT count(*) FROM (SELECT 1 FROM users LIMIT 1)", [], |_| Ok(()))
        })?;
        if self.writer.is_some() { self.ask(None, |reply| Job::Probe { reply }) } else { Ok(()) }
    }
}
