//! Putting a backup in the place of the store.
//!
//! The backup is checked and copied beside the store, under the name `PATH-restoring`, and all that could fail is done there.
//! Then the store takes its log into its file, which removes the log, and the copy is renamed over it. Before that moment the
//! store is the old one with all that was committed, after it the new one. A store that is too damaged for that is kept, log and
//! all, as `PATH-damaged`: it gets this second name before the copy is renamed over the first, so that there is a database at
//! the path at every moment. If this is interrupted in between, the next start or restore undoes it.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::file::{self, keep_rights};
use super::lock::{self, BESIDE, Lock, has_content};
use super::{failed, history, marks, verify};
use crate::files::{private, sync_parent, with_suffix};
use crate::model::History;
use crate::store::{StoreError, StoreErrorKind, StoreResult};

/// How many of the things that are wrong with a backup are told.
const MAX_TOLD: usize = 5;

pub(super) fn restore(backup: &Path, store: &Path) -> StoreResult<History> {
    if backup.canonicalize().is_ok_and(|backup| backup == store) {
        return Err(unusable(format!("{} is the store itself; name a backup of it", backup.display())));
    }
    let _lock = Lock::take(store)?;
    let copy = Copy { path: with_suffix(store, "-restoring") };
    // Left behind by a restore that was interrupted.
    copy.remove().map_err(|error| io_failed("clear the way for", &copy.path, error))?;
    check_and_copy(backup, &copy.path)?;
    let connection = check_content(backup, &copy.path)?;
    let taken = take_log_into_file(store)?;
    let history = finish(connection, &copy.path, store)?;
    let replace = || std::fs::rename(&copy.path, store).map_err(|error| io_failed("put in place", store, error));
    match taken {
        Taken::IntoFile => replace()?,
        Taken::Damaged(reason) => {
            if let Err(error) = put_aside(store).and_then(|()| replace()) {
                // If this fails too, the next start or restore does it.
                let _ = lock::undo_putting_aside(store);
                return Err(error);
            }
            tracing::warn!(reason, "{} could not be read and is {} now", store.display(), lock::aside(store).display());
        }
    }
    sync_parent(store).map_err(|error| io_failed("flush the directory of", store, error))?;
    Ok(history)
}

/// The copy, which is removed unless it was renamed.
struct Copy {
    path: PathBuf,
}

impl Copy {
    fn remove(&self) -> std::io::Result<()> {
        let paths = BESIDE.iter().map(|suffix| with_suffix(&self.path, suffix));
        for path in std::iter::once(self.path.clone()).chain(paths) {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What stays behind is removed by the next restore.
        let _ = self.remove();
    }
}

/// Checks the structure of the backup and copies all of it.
fn check_and_copy(backup: &Path, copy: &Path) -> StoreResult<()> {
    file::refuse_foreign_wal(backup)?;
    let connection = open_backup(backup)?;
    file::check_format(&connection, backup, 1)?;
    let mut wrong = Vec::new();
    verify::structure(&connection, &mut |line| wrong.push(line)).map_err(|error| failed("read", backup, error))?;
    refuse(backup, &wrong)?;
    let target = copy.to_str().ok_or_else(|| unusable(format!("{} is not valid UTF-8", copy.display())))?;
    private().create_new(true).open(copy).map_err(|error| io_failed("write", copy, error))?;
    let copied = connection.execute("VACUUM INTO ?1", [target]);
    copied.map(drop).map_err(|error| failed("copy", backup, error))
}

/// Opens a backup without writing to it where that can be done: it may lie where nobody can write.
fn open_backup(backup: &Path) -> StoreResult<Connection> {
    if !backup.is_file() {
        return Err(unusable(format!("there is no backup at {}", backup.display())));
    }
    let opened = if BESIDE.iter().any(|suffix| has_content(&with_suffix(backup, suffix))) {
        // Part of what it has is in its log, for which SQLite needs files beside it.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(backup, flags)
            .and_then(|connection| file::keep_log(&connection).map(|()| connection))
    } else {
        Connection::open_with_flags(marks::immutable(backup), marks::immutable_flags())
    };
    opened.map_err(|error| failed("open", backup, error))
}

/// Brings the copy to the present format and checks what it has.
fn check_content(backup: &Path, copy: &Path) -> StoreResult<Connection> {
    let write_failed = |error: rusqlite::Error| failed("write", copy, error);
    let mut connection =
        Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(write_failed)?;
    file::migrate(&mut connection).map_err(write_failed)?;
    let mut wrong = Vec::new();
    verify::verify(&mut connection, &mut |line| wrong.push(line)).map_err(|error| failed("read", backup, error))?;
    refuse(backup, &wrong)?;
    Ok(connection)
}

/// Gives the copy a new history and flushes it.
fn finish(connection: Connection, copy: &Path, store: &Path) -> StoreResult<History> {
    let write_failed = |error: rusqlite::Error| failed("write", copy, error);
    let history = History::random();
    // Noted beside the current store: if the process ends before the rename, that store also gets a new history.
    history::give(&connection, copy, store, history).map_err(write_failed)?;
    marks::renew_copy(&connection).map_err(write_failed)?;
    // Moves the log into the file and removes it.
    let mode: String =
        connection.query_one("PRAGMA journal_mode = delete", [], |row| row.get(0)).map_err(write_failed)?;
    drop(connection);
    if mode != "delete" {
        return Err(unusable(format!("could not finish {} (journal mode {mode})", copy.display())));
    }
    let finish = || -> std::io::Result<()> {
        let file = File::options().write(true).open(copy)?;
        keep_rights(store, copy)?;
        file.sync_all()
    };
    finish().map_err(|error| io_failed("finish", copy, error))?;
    Ok(history)
}

/// What became of the store's log.
enum Taken {
    /// The store is its file alone now.
    IntoFile,
    /// It cannot be read.
    Damaged(String),
}

/// Moves all that was committed from the log into the file. That needs the store for this program alone, so that it also tells
/// whether another one is reading it.
fn take_log_into_file(store: &Path) -> StoreResult<Taken> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let take = || -> rusqlite::Result<String> {
        let connection = Connection::open_with_flags(store, flags)?;
        connection.busy_timeout(std::time::Duration::from_secs(1))?;
        connection.query_one("PRAGMA journal_mode = delete", [], |row| row.get(0))
    };
    let looked = || -> StoreResult<()> {
        let sound = marks::vouch_for_wal(store, &with_suffix(store, "-wal"))?;
        let connection = Connection::open_with_flags(store, flags).map_err(|error| failed("open", store, error))?;
        file::keep_log(&connection).map_err(|error| failed("open", store, error))?;
        file::check_format(&connection, store, 0)?;
        if sound { Ok(()) } else { marks::check_sound(&connection, store) }
    };
    let in_use = || {
        let message = format!("another program has {} open; stop it first (events, export, sqlite3)", store.display());
        Err(StoreError::new(StoreErrorKind::Unusable, message))
    };
    match looked() {
        Err(error) if error.kind == StoreErrorKind::Corrupt => return Ok(Taken::Damaged(error.message)),
        Err(error) => return Err(error),
        Ok(()) => {}
    }
    match take() {
        Ok(mode) if mode == "delete" => Ok(Taken::IntoFile),
        Ok(_) => in_use(),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => in_use(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Ok(Taken::Damaged(error.to_string())),
            _ => Err(failed("close", store, error)),
        },
    }
}

/// Gives a store that cannot be read a second name, and moves its log there. Its path is left to be replaced.
fn put_aside(store: &Path) -> StoreResult<()> {
    let away = lock::aside(store);
    if away.exists() {
        let (store, away) = (store.display(), away.display());
        return Err(unusable(format!(
            "{store} is damaged, and so is {away} from an earlier restore; move that one away"
        )));
    }
    // The name must be on disk before the log moves: it tells the next start that the log is to be moved back.
    let link = || std::fs::hard_link(store, &away).and_then(|()| sync_parent(store));
    link().map_err(|error| io_failed("keep the damaged store as", &away, error))?;
    for suffix in BESIDE {
        let from = with_suffix(store, suffix);
        match std::fs::rename(&from, with_suffix(&away, suffix)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io_failed("move away", &from, error)),
            _ => {}
        }
    }
    sync_parent(store).map_err(|error| io_failed("flush the directory of", store, error))
}

fn refuse(backup: &Path, wrong: &[String]) -> StoreResult<()> {
    if wrong.is_empty() {
        return Ok(());
    }
    let told = wrong.iter().take(MAX_TOLD).map(String::as_str).collect::<Vec<_>>().join("; ");
    let more = wrong.len().saturating_sub(MAX_TOLD);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let message = format!("{} cannot be restored, the store is unchanged: {told}{more}", backup.display());
    Err(StoreError::new(StoreErrorKind::Corrupt, message))
}

fn unusable(message: String) -> StoreError {
    StoreError::new(StoreErrorKind::Unusable, message)
}

fn io_failed(what: &str, path: &Path, error: std::io::Error) -> StoreError {
    let message = format!("could not {what} {}: {error}", path.display());
    StoreError::new(StoreErrorKind::Unavailable, message).caused_by(error)
}
