//! Opening the file: its format, its WAL, and how it is read and written.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::lock::{Access, can_write, has_content, refuse_orphan_wal};
use super::{describe, failed, history, marks};
use crate::files::{parent, private, sync_parent, with_suffix};
use crate::store::{StoreError, StoreErrorKind, StoreResult};

/// Marks a SQLite file as one of ours ("cvgr").
const APPLICATION_ID: i32 = 0x6376_6772;

/// The steps from an empty file to the present format. A step that was ever released is never changed; the format's
/// version is the number of steps taken.
const MIGRATIONS: [&str; 2] = [include_str!("schema.sql"), include_str!("history.sql")];

/// How long to wait for another process, such as a reader that recovers the file after a crash.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Pages of 4 KiB in the log from which on they are taken over into the file, for which commits wait. At SQLite's own 1000 a
/// busy store does so every few batches, and more than one commit in a hundred waits.
const LONG_LOG: u32 = 4000;

/// Statements that a connection keeps prepared: more than there are in this store.
const PREPARED_STATEMENTS: usize = 64;

/// The file's one true path: links and the current directory must not make two stores of one, or one of two.
pub(super) fn absolute(path: &Path) -> StoreResult<PathBuf> {
    if let Ok(absolute) = path.canonicalize() {
        return Ok(absolute);
    }
    let unusable = |error: &dyn std::fmt::Display| {
        let message = format!("could not open the directory {}: {error}", parent(path).display());
        StoreError::new(StoreErrorKind::Unusable, message)
    };
    let name = path.file_name().ok_or_else(|| unusable(&"the path names no file"))?;
    Ok(parent(path).canonicalize().map_err(|error| unusable(&error).caused_by(error))?.join(name))
}

/// The number by which the file system tells the file from others; 0 where there is none.
pub(super) fn number(path: &Path) -> u64 {
    #[cfg(unix)]
    let number = |metadata| std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let number = |_| 0;
    std::fs::metadata(path).map_or(0, number)
}

/// Gives a file that was made the owner and the mode of the store, so that the host can use what root has made.
#[cfg(unix)]
pub(super) fn keep_rights(store: &Path, made: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt, chown};
    if !store.exists() || !made.exists() {
        return Ok(());
    }
    let (there, own) = (std::fs::metadata(store)?, std::fs::metadata(made)?);
    if (there.uid(), there.gid()) != (own.uid(), own.gid()) {
        chown(made, Some(there.uid()), Some(there.gid()))?;
    }
    if there.mode() == own.mode() { Ok(()) } else { std::fs::set_permissions(made, there.permissions()) }
}

#[cfg(not(unix))]
pub(super) fn keep_rights(_: &Path, _: &Path) -> std::io::Result<()> {
    Ok(())
}

/// A connection that writes.
#[derive(Debug)]
pub(super) struct Writable {
    pub(super) connection: Connection,
    /// Whether the next transaction may be the first of a WAL, and so must renew the mark.
    pub(super) mark_due: bool,
    /// The mark of the file that this connection has given it; see `history.rs`. Not noted before it is committed.
    pub(super) file_mark: FileMark,
}

/// How far a connection is with marking the file.
#[derive(Debug, Default)]
pub(super) enum FileMark {
    #[default]
    Old,
    Given(String),
    Noted,
}

impl Writable {
    /// Goes on after a transaction was committed.
    pub(super) fn committed(&mut self, path: &Path) {
        self.mark_due = false;
        if let FileMark::Given(mark) = &self.file_mark {
            history::take_note(path, path, mark);
            self.file_mark = FileMark::Noted;
        }
    }
}

/// Opens the locked file for writing and brings it to the present format. Its WAL is checked at the start of a host: later it
/// is this host's own.
pub(super) fn open_writer(path: &Path, check_wal: bool) -> StoreResult<Writable> {
    let unflushed = |error: std::io::Error| {
        let message = format!("could not flush the WAL of {}: {error}", path.display());
        StoreError::new(StoreErrorKind::Unavailable, message)
    };
    // Not created here: there was a file when it was locked, and a new one would be another store.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || connect(path, flags);
    // The host's lock was taken before, and with it the names of the file were checked.
    refuse_orphan_wal(path)?;
    let sound = !check_wal || marks::vouch_for_wal(path, &with_suffix(path, "-wal"))?;
    // Only looks whether it is a store: a file that is not one is left unchanged.
    let looking = open()?;
    keep_log(&looking).map_err(|error| failed("open", path, error))?;
    check_format(&looking, path, 0)?;
    if !sound {
        marks::check_sound(&looking, path)?;
    }
    drop(looking);
    write_log_again(path).map_err(unflushed)?;
    let mut connection = open()?;
    // Until this host ends: were SQLite to delete it, nothing could tell whether another process has.
    keep_log(&connection).map_err(|error| failed("open", path, error))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| failed("open", path, error))?;
    let mode = migrate(&mut connection).map_err(|error| failed("open", path, error))?;
    if mode != "wal" {
        let message = format!("{} cannot have a write-ahead log here (journal mode {mode})", path.display());
        return Err(StoreError::new(StoreErrorKind::Unusable, message));
    }
    marks::create(&mut connection).map_err(|error| failed("open", path, error))?;
    if !sound {
        // So that the WAL begins anew with a mark that tells, and the whole store is not read again after the next crash.
        checkpoint(&connection, PASSIVE).map_err(|error| failed("checkpoint", path, error))?;
    }
    let mark_due = log_pages(&connection).map_err(|error| failed("open", path, error))?.all_moved();
    // SQLite does so too when it makes the WAL, but goes on if it cannot.
    sync_parent(path).map_err(unflushed)?;
    Ok(Writable { connection, mark_due, file_mark: FileMark::default() })
}

/// Opens a file by SQLite, whose temporary data stays in memory: the undo data of a change of more than a few pages would
/// otherwise go to a temporary file, and where none can be made, as in a container with a read-only root, the change would fail.
fn connect(path: impl AsRef<Path>, flags: OpenFlags) -> StoreResult<Connection> {
    let path = path.as_ref();
    let connection = Connection::open_with_flags(path, flags).map_err(|error| failed("open", path, error))?;
    connection.pragma_update(None, "temp_store", "memory").map_err(|error| failed("open", path, error))?;
    Ok(connection)
}

/// What is structurally wrong with a store: nothing if it is sound. Reads the whole file.
pub(super) fn quick_check(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut check = connection.prepare("PRAGMA quick_check(10)")?;
    let found: Vec<String> = check.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(if found == ["ok"] { Vec::new() } else { found })
}

/// Writes what is in the log once more, byte for byte, and flushes it.
///
/// After a flush that failed, the system shows as written what may never have reached the disk, and later flushes leave it
/// out. SQLite would take it from the log as committed, and put after it what is acknowledged: when the power goes, all of
/// that would end where the gap is. What was written again is flushed again, or the store is not opened.
fn write_log_again(store: &Path) -> std::io::Result<()> {
    let mut log = match File::options().read(true).write(true).open(with_suffix(store, "-wal")) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let mut block = vec![0; 1 << 16];
    let mut place = 0;
    loop {
        let count = log.read(&mut block)?;
        let Some(part) = block.get(..count).filter(|part| !part.is_empty()) else { return log.sync_all() };
        log.seek(SeekFrom::Start(place))?;
        log.write_all(part)?;
        place += count as u64;
    }
}

/// How many pages the WAL has, and how many of them a checkpoint has moved into the file.
pub(super) struct LogPages {
    all: u32,
    moved: u32,
}

impl LogPages {
    /// Whether the next transaction starts the WAL anew, if no reader is in the way.
    pub(super) fn all_moved(&self) -> bool {
        self.all == self.moved
    }
}

/// Checkpoints as much as no reader is in the way of.
const PASSIVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";

fn log_pages(connection: &Connection) -> rusqlite::Result<LogPages> {
    checkpoint(connection, "PRAGMA wal_checkpoint(NOOP)")
}

fn checkpoint(connection: &Connection, sql: &str) -> rusqlite::Result<LogPages> {
    connection.prepare_cached(sql)?.query_row([], |row| Ok(LogPages { all: row.get(1)?, moved: row.get(2)? }))
}

/// Takes the pages in the log over into the file, if there are many, so that the log begins anew with the next commit that
/// no reader is in the way of.
pub(super) fn take_over_long_log(connection: &Connection) -> rusqlite::Result<LogPages> {
    let pages = log_pages(connection)?;
    if pages.all < LONG_LOG { Ok(pages) } else { checkpoint(connection, PASSIVE) }
}

/// Leaves the log as it is when this connection is the last to be closed.
pub(super) fn keep_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop)
}

/// Takes the log over when this connection is the last to be closed, and deletes it.
pub(super) fn take_over_log_on_close(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map(drop)
}

/// A connection that reads, possibly beside another process that writes.
pub(super) fn open_reader(path: &Path, access: &Access) -> StoreResult<Connection> {
    let connection = open_existing(path, access)?;
    connection.pragma_update(None, "query_only", true).map_err(|error| failed("open", path, error))?;
    Ok(connection)
}

/// Refuses a store whose WAL belongs to another.
pub(super) fn refuse_foreign_wal(path: &Path) -> StoreResult<()> {
    marks::refuse_foreign_wal(path, &with_suffix(path, "-wal"))
}

fn open_existing(path: &Path, access: &Access) -> StoreResult<Connection> {
    // First: SQLite would delete the WAL of an empty file.
    refuse_orphan_wal(path)?;
    if !path.exists() {
        let message = format!("there is no store at {}", path.display());
        return Err(StoreError::new(StoreErrorKind::Unusable, message));
    }
    let open = || match access {
        // Not read-only to SQLite: after a crash, the first to open it must recover the WAL, which writes.
        Access::Shared => connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX),
        Access::Immutable { .. } => connect(marks::immutable(path), marks::immutable_flags()),
    };
    let connection =
        open().and_then(|connection| check_format(&connection, path, MIGRATIONS.len()).map(|()| connection));
    let connection = connection.map_err(|error| explain_read_only(path, error))?;
    connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
    // That is for whoever holds the lock file, who alone has written the log again.
    keep_log(&connection).map_err(|error| failed("open", path, error))?;
    Ok(connection)
}

/// Says why SQLite could not read a store on a read-only file system.
fn explain_read_only(path: &Path, error: StoreError) -> StoreError {
    let wal = with_suffix(path, "-wal");
    if can_write(parent(path)) || !has_content(&wal) || error.kind == StoreErrorKind::Corrupt {
        return error;
    }
    let message = format!(
        "{error}; {} has changes, and to read them SQLite needs a directory that can be written: copy both files to one",
        wal.display()
    );
    StoreError::new(error.kind, message)
}

/// Whether the file is a store of a format between `oldest` and the present one. An empty file is of format 0.
pub(super) fn check_format(connection: &Connection, path: &Path, oldest: usize) -> StoreResult<()> {
    let read = || -> rusqlite::Result<(i32, i64, i64)> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get(0));
        let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        let application = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        Ok((application, number("user_version")?, tables))
    };
    let (application, format, tables) = read().map_err(|error| failed("open", path, error))?;
    let unusable = |message| Err(StoreError::new(StoreErrorKind::Unusable, message));
    let path = path.display();
    if application != APPLICATION_ID && (tables > 0 || oldest > 0) {
        return unusable(format!("{path} is a SQLite file, but not a store of conversation groups"));
    }
    let present = MIGRATIONS.len();
    if usize::try_from(format).is_ok_and(|format| format > present) {
        return unusable(format!(
            "{path} has format {format}, this program knows formats up to {present}; use a newer convgroups"
        ));
    }
    if usize::try_from(format).is_ok_and(|format| format < oldest) {
        return unusable(format!(
            "{path} has the old format {format}; start a host on it once to bring it to {present}"
        ));
    }
    Ok(())
}

/// Sets the connection up and takes the steps that are missing; answers the journal mode that the file is in.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<String> {
    connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
    // Run to its end: it answers first, and only then commits.
    let mode = connection.query_one("PRAGMA journal_mode = wal", [], |row| row.get(0))?;
    connection.pragma_update(None, "synchronous", "full")?;
    // On macOS a plain flush stops at the drive's own memory; elsewhere this does nothing.
    connection.pragma_update(None, "fullfsync", true)?;
    // The committer does, so that it learns of failures.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    let format: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for (step, migration) in MIGRATIONS.iter().enumerate().skip(format) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", step + 1)?;
        transaction.commit()?;
    }
    Ok(mode)
}

/// Copies everything that is committed into a new file, which appears under its name when it is complete and durable.
pub(super) fn backup(store: &Path, access: &Access, destination: &Path) -> StoreResult<()> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        let message = format!("could not {what} the backup {}: {error}", destination.display());
        StoreError::new(StoreErrorKind::Unavailable, message)
    };
    let partial = with_suffix(destination, "-partial");
    if destination.exists() {
        return Err(failed("write", &"the file exists already; name a new one"));
    }
    // Left behind by a backup that was interrupted.
    if partial.exists() {
        std::fs::remove_file(&partial).map_err(|error| failed("clear the way for", &error).caused_by(error))?;
    }
    let target = partial.to_str().ok_or_else(|| failed("write", &"its path is not valid UTF-8"))?;
    // Reads one snapshot; but it would not run on a connection that is set to queries only.
    refuse_foreign_wal(store)?;
    let connection = open_existing(store, access)?;
    // SQLite writes into a file that is empty.
    private().create_new(true).open(&partial).map_err(|error| failed("write", &error).caused_by(error))?;
    connection
        .execute("VACUUM INTO ?1", [target])
        .map_err(|error| failed("write", &describe(&error)).caused_by(error))?;
    mark_copy(&partial).map_err(|error| failed("write", &describe(&error)).caused_by(error))?;
    let flush = || -> std::io::Result<()> {
        File::options().write(true).open(&partial)?.sync_all()?;
        std::fs::rename(&partial, destination)?;
        sync_parent(destination)
    };
    flush().map_err(|error| failed("finish", &error).caused_by(error))
}

/// A WAL of the original must not be taken for one of the copy, and a host that opens the copy, wherever it was put, begins a new
/// history.
fn mark_copy(copy: &Path) -> rusqlite::Result<()> {
    let connection = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // The copy has another name until it is flushed: a file beside it would protect nothing.
    connection.query_one("PRAGMA journal_mode = memory", [], |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "off")?;
    connection.execute("UPDATE history SET mark = ?1", [history::COPY])?;
    marks::renew_copy(&connection)
}
