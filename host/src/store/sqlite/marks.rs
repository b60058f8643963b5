//! Whether a WAL belongs to the database that it lies beside.
//!
//! SQLite takes any WAL under the right name for the database's own. If a backup is copied over a database whose WAL was left,
//! pages of two histories are mixed. So the first transaction after a checkpoint, which is the first in the WAL once SQLite
//! starts it anew, gives the store a new random mark and keeps the mark before it. What the WAL says is then compared with the
//! database file alone: a WAL continues a file that has the mark before, until a checkpoint moves the new mark there too.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::failed;
use super::file::quick_check;
use super::lock::has_content;
use crate::store::{StoreError, StoreErrorKind, StoreResult};

/// Not part of the format: programs that do not know it leave it alone. `probes` changes when a host checks that it can write.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS wal_mark (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    mark BLOB NOT NULL,
    -- The mark in the database file when the WAL was started.
    before BLOB,
    probes INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT OR IGNORE INTO wal_mark (only_row, mark) VALUES (1, randomblob(16));";

/// How often a reader compares again, because a host may have made a checkpoint in between.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    let exists =
        connection.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'wal_mark'", [], |row| row.get(0));
    if exists? { Ok(()) } else { connection.execute_batch(&format!("BEGIN IMMEDIATE; {TABLE} COMMIT;")) }
}

/// Gives the store a new mark: in the first transaction after a checkpoint that has moved all of the WAL.
pub(super) fn renew(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "UPDATE wal_mark SET before = mark, mark = randomblob(16)";
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

/// Gives a copy a mark that no WAL knows. Copies of stores from before there were marks have none.
pub(super) fn renew_copy(connection: &Connection) -> rusqlite::Result<()> {
    if marks(connection)?.is_none() {
        return Ok(());
    }
    connection.execute("UPDATE wal_mark SET before = NULL, mark = randomblob(16)", []).map(drop)
}

/// Changes something of no meaning.
pub(super) fn probe(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE wal_mark SET probes = probes + 1")?.execute([]).map(drop)
}

type Mark = Option<Vec<u8>>;

/// The mark and the one before.
fn marks(connection: &Connection) -> rusqlite::Result<Option<(Mark, Mark)>> {
    let exists =
        connection.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'wal_mark'", [], |row| row.get(0));
    if !exists? {
        return Ok(None);
    }
    let row = connection.query_row("SELECT mark, before FROM wal_mark", [], |row| Ok((row.get(0)?, row.get(1)?)));
    row.optional()
}

/// What the marks say of a WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Belongs {
    Yes,
    No,
    /// There are no marks, a checkpoint was interrupted, or what is there cannot be read.
    Unknown,
}

/// Compares the database file with what the WAL makes of it.
fn compare(connection: &Connection, store: &Path) -> Belongs {
    let main = Connection::open_with_flags(immutable(store), immutable_flags()).and_then(|main| marks(&main));
    let (Ok(main), Ok(both)) = (main, marks(connection)) else { return Belongs::Unknown };
    let main = main.and_then(|(mark, _)| mark);
    match both {
        None => Belongs::Unknown,
        Some((mark, _)) if mark == main => Belongs::Unknown,
        Some((_, before)) if before == main => Belongs::Yes,
        Some(_) => Belongs::No,
    }
}

/// Checks a store that a host opens with a WAL. Where the marks do not tell whether it belongs there, the whole store is
/// checked: a clean shutdown leaves no WAL, and a crash nearly always leaves one with a mark.
pub(super) fn check_wal(connection: &Connection, store: &Path, wal: &Path) -> StoreResult<()> {
    if !has_content(wal) {
        return Ok(());
    }
    match compare(connection, store) {
        Belongs::Yes => Ok(()),
        Belongs::No => Err(foreign(store)),
        Belongs::Unknown => {
            let path = store.display();
            tracing::info!("checking {path}: its WAL does not tell whether it belongs to it");
            let problems = quick_check(connection).map_err(|error| failed("check", store, &error))?;
            if problems.is_empty() {
                return Ok(());
            }
            let message = format!(
                "{path} is damaged, or {path}-wal does not belong to it: {}; if a backup was put in place, put it there \
                 again without the -wal file beside it",
                problems.join("; ")
            );
            Err(StoreError::new(StoreErrorKind::Corrupt, message))
        }
    }
}

/// Refuses a store that is opened to be read, possibly beside a host, if its WAL belongs to another.
pub(super) fn refuse_foreign_wal(connection: &Connection, store: &Path, wal: &Path) -> StoreResult<()> {
    for _ in 0..TRIES {
        if !has_content(wal) || compare(connection, store) != Belongs::No {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    Err(foreign(store))
}

fn foreign(store: &Path) -> StoreError {
    let path = store.display();
    let message = format!(
        "{path}-wal belongs to another state of the store than {path}: a file was put in place and the -wal of the one \
         before was left; put the file there again without the -wal beside it, or put back the file that the -wal belongs to"
    );
    StoreError::new(StoreErrorKind::Corrupt, message)
}

/// A name by which SQLite reads the file itself, without its WAL and without locks.
pub(super) fn immutable(store: &Path) -> String {
    use std::fmt::Write;
    let mut uri = String::from("file:");
    for byte in store.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri + "?immutable=1"
}

pub(super) fn immutable_flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX
}
