//! Opening the file: whose it is, of which format, and where it may lie.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::{failed, history};
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

/// Holds the file `PATH-lock`, so that no second host writes to the store.
#[derive(Debug)]
pub(super) struct LockFile {
    _file: File,
}

impl LockFile {
    pub(super) fn take(store: &Path) -> StoreResult<Self> {
        let unusable = |message| StoreError::new(StoreErrorKind::Unusable, message);
        refuse_network_file_system(store)?;
        let path = with_suffix(store, "-lock");
        let file = private()
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| unusable(format!("could not open the lock file {}: {error}", path.display())))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(unusable(format!(
                "{} is in use by another host; stop that one first, or use commands that only read",
                store.display()
            ))),
            Err(TryLockError::Error(error)) => Err(unusable(format!("could not lock {}: {error}", path.display()))),
        }
    }
}

/// To create a file for this user alone: everything of all users is nobody else's business.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

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
    Ok(parent(path).canonicalize().map_err(|error| unusable(&error))?.join(name))
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Locks and memory maps, on which SQLite's log depends, cannot be trusted across a network.
#[cfg(target_os = "linux")]
fn refuse_network_file_system(path: &Path) -> StoreResult<()> {
    // From linux/magic.h and the file systems' own headers.
    const NETWORK: [(u32, &str); 6] = [
        (0x6969, "NFS"),
        (0x517b, "SMB"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB2"),
        (0x5346_414f, "AFS"),
        (0x00c3_6400, "Ceph"),
    ];
    let directory = parent(path);
    let status = rustix::fs::statfs(directory).map_err(|error| {
        let message = format!("could not open the directory {}: {error}", directory.display());
        StoreError::new(StoreErrorKind::Unusable, message)
    })?;
    // The kernel's type is signed on some machines; the magic numbers are 32 bits.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "compared as bit patterns")]
    let kind = status.f_type as u32;
    match NETWORK.iter().find(|(magic, _)| *magic == kind) {
        None => Ok(()),
        Some((_, name)) => Err(StoreError::new(
            StoreErrorKind::Unusable,
            format!(
                "{} lies on a network file system ({name}), where SQLite is not safe; use a local disk",
                path.display()
            ),
        )),
    }
}

#[cfg(not(target_os = "linux"))]
fn refuse_network_file_system(_path: &Path) -> StoreResult<()> {
    Ok(())
}

pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The number by which the file system tells the file from others; 0 where there is none.
pub(super) fn number(path: &Path) -> u64 {
    #[cfg(unix)]
    let number = |metadata| std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let number = |_| 0;
    std::fs::metadata(path).map_or(0, number)
}

/// The connection that writes. Creates the file and brings it to the present format.
pub(super) fn open_writer(path: &Path) -> StoreResult<Connection> {
    // SQLite gives the files beside it the same rights. Where it is there already, it keeps its own; where it cannot be made,
    // SQLite will say why.
    let _ = private().create_new(true).open(path);
    let unflushed = |error: std::io::Error| {
        let message = format!("could not flush the log of {}: {error}", path.display());
        StoreError::new(StoreErrorKind::Unavailable, message)
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || Connection::open_with_flags(path, flags).map_err(|error| failed("open", path, &error));
    // Only looks whether it is a store: what is none is left as it is.
    let looking = open()?;
    keep_log(&looking).map_err(|error| failed("open", path, &error))?;
    check_format(&looking, path, 0)?;
    drop(looking);
    write_log_again(path).map_err(unflushed)?;
    let mut connection = open()?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| failed("open", path, &error))?;
    let mode = migrate(&mut connection).map_err(|error| failed("open", path, &error))?;
    if mode != "wal" {
        let message = format!("{} cannot have a write-ahead log here (journal mode {mode})", path.display());
        return Err(StoreError::new(StoreErrorKind::Unusable, message));
    }
    // SQLite does so too when it makes the log, but goes on if it cannot.
    File::open(parent(path)).and_then(|directory| directory.sync_all()).map_err(unflushed)?;
    Ok(connection)
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

/// Takes the pages in the log over into the file, if there are many, so that the log begins anew with the next commit that
/// no reader is in the way of.
pub(super) fn take_over_long_log(connection: &Connection) -> rusqlite::Result<()> {
    let pages: u32 = connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?.query_row([], |row| row.get(1))?;
    if pages < LONG_LOG { Ok(()) } else { connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) }
}

/// Leaves the log as it is when this connection is the last to be closed.
pub(super) fn keep_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop)
}

/// A connection that reads, possibly beside another process that writes.
pub(super) fn open_reader(path: &Path) -> StoreResult<Connection> {
    let connection = open_existing(path)?;
    connection.pragma_update(None, "query_only", true).map_err(|error| failed("open", path, &error))?;
    Ok(connection)
}

fn open_existing(path: &Path) -> StoreResult<Connection> {
    if !path.exists() {
        let message = format!("there is no store at {}", path.display());
        return Err(StoreError::new(StoreErrorKind::Unusable, message));
    }
    // Not read-only to SQLite: after a crash, whoever comes first must replay the log, which writes.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| failed("open", path, &error))?;
    check_format(&connection, path, MIGRATIONS.len())?;
    connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
    // That is for whoever holds the lock file, who alone has written the log again.
    keep_log(&connection).map_err(|error| failed("open", path, &error))?;
    Ok(connection)
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
    let (application, format, tables) = read().map_err(|error| failed("open", path, &error))?;
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

/// Makes a host that opens the copy, wherever it was put, begin a new history.
fn mark_copy(copy: &Path) -> rusqlite::Result<()> {
    let connection = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // Nobody reads the copy before it is whole and flushed.
    connection.query_one("PRAGMA journal_mode = memory", [], |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "off")?;
    connection.execute("UPDATE history SET mark = ?1", [history::COPY]).map(drop)
}

/// Copies everything that is committed into a new file, which appears under its name when it is complete and durable.
pub(super) fn backup(store: &Path, destination: &Path) -> StoreResult<()> {
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
        std::fs::remove_file(&partial).map_err(|error| failed("clear the way for", &error))?;
    }
    let target = partial.to_str().ok_or_else(|| failed("write", &"its path is not valid UTF-8"))?;
    // Reads one snapshot; but it would not run on a connection that is set to queries only.
    let connection = open_existing(store)?;
    // SQLite writes into a file that is empty.
    private().create_new(true).open(&partial).map_err(|error| failed("write", &error))?;
    connection.execute("VACUUM INTO ?1", [target]).map_err(|error| failed("write", &error))?;
    mark_copy(&partial).map_err(|error| failed("write", &error))?;
    let flush = || -> std::io::Result<()> {
        File::options().write(true).open(&partial)?.sync_all()?;
        std::fs::rename(&partial, destination)?;
        File::open(parent(destination))?.sync_all()
    };
    flush().map_err(|error| failed("finish", &error))
}
