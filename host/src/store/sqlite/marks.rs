//! Whether a WAL belongs to the database that it lies beside.
//!
//! SQLite takes any WAL under the right name for the database's own. If a backup is copied over a database whose WAL was left,
//! pages of two histories are mixed. So the first transaction after a complete checkpoint, which is the first in the WAL once
//! SQLite starts it anew, gives the store a new random mark and keeps the mark before it. A WAL with these marks continues a
//! database file that has the mark before, or the new one as soon as a checkpoint has moved it there.
//!
//! The file's mark is read without the WAL, and the WAL's from its own bytes: what SQLite makes of both together may be made of
//! pages that do not belong together, those with the mark included.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::failed;
use super::file::quick_check;
use crate::store::{StoreError, StoreErrorKind, StoreResult};

/// Not part of the format: programs that do not know it leave it alone. `probe` changes when a host checks that it can write.
/// The row keeps its size, so that its page has one copy of the marks.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS wal_mark (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    -- How the marks are recognised in the WAL, the mark, and the one before: in the database file when the WAL was started.
    marks BLOB NOT NULL,
    probe BLOB NOT NULL
) STRICT;";

/// Begins the marks. No string has these bytes: they are not UTF-8.
const MAGIC: [u8; 8] = *b"\xff\xfewal-mk";
const MARK: usize = 16;
/// The table's only row lies within this many bytes of the page's end.
const ROW: usize = 128;

/// How often a reader compares again, because a host may have made a checkpoint in between.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// Zeros are the mark of a database from before there were marks.
type Mark = [u8; MARK];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Marks {
    mark: Mark,
    before: Mark,
}

impl Marks {
    fn after(before: Mark) -> Self {
        Self { mark: fastrand::u128(1..).to_be_bytes(), before }
    }

    fn bytes(&self) -> Vec<u8> {
        [&MAGIC[..], &self.mark, &self.before].concat()
    }

    /// Those that begin with the first [`MAGIC`] in some bytes.
    fn find(bytes: &[u8]) -> Option<Self> {
        let start = bytes.windows(MAGIC.len()).position(|window| window == MAGIC)?;
        let (mark, rest) = bytes.get(start + MAGIC.len()..)?.split_first_chunk()?;
        Some(Self { mark: *mark, before: *rest.first_chunk()? })
    }

    /// What a WAL with these marks is to a database file with that one. A file has the WAL's own mark, or a part of it if the
    /// power went, while a checkpoint is made and until the next transaction: then other pages of the file may be newer than
    /// they are in this WAL, if it is not the one that they came from.
    fn continues(&self, main: &Mark) -> Belongs {
        let torn =
            |start: &Mark, end: &Mark| (0..=MARK).any(|cut| main[..cut] == start[..cut] && main[cut..] == end[cut..]);
        match () {
            () if *main == self.before => Belongs::Yes,
            () if torn(&self.mark, &self.before) || torn(&self.before, &self.mark) => Belongs::Unknown,
            () => Belongs::No,
        }
    }

    /// Those of a database; the default if it has none.
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        if !has_table(connection)? {
            return Ok(Self::default());
        }
        let row = connection.query_row("SELECT marks FROM wal_mark", [], |row| row.get::<_, Vec<u8>>(0)).optional()?;
        Ok(row.and_then(|row| Self::find(&row)).unwrap_or_default())
    }
}

fn has_table(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) > 0 FROM sqlite_schema WHERE name = 'wal_mark'", [], |row| row.get(0))
}

/// Creates the table, if there is none.
pub(super) fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    if has_table(connection)? {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLE)?;
    let marks = Marks::after(Mark::default()).bytes();
    transaction.execute("INSERT INTO wal_mark (only_row, marks, probe) VALUES (1, ?1, randomblob(8))", [marks])?;
    transaction.commit()
}

/// Gives the store a new mark: in the first transaction after a checkpoint that has moved all of the WAL.
pub(super) fn renew(connection: &Connection) -> rusqlite::Result<()> {
    let marks = Marks::after(Marks::read(connection)?.mark).bytes();
    connection.prepare_cached("UPDATE wal_mark SET marks = ?1")?.execute([marks]).map(drop)
}

/// Gives a copy a mark that no WAL knows. Copies of stores from before there were marks have none.
pub(super) fn renew_copy(connection: &Connection) -> rusqlite::Result<()> {
    if has_table(connection)? { renew(connection) } else { Ok(()) }
}

/// Changes something of no meaning.
pub(super) fn probe(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE wal_mark SET probe = randomblob(8)")?.execute([]).map(drop)
}

/// What a WAL has, by its own bytes.
#[derive(Debug)]
enum Wal {
    /// Nothing that SQLite would use.
    Empty,
    /// Changes; and their marks in order, if they have any.
    Changes(Vec<Marks>),
}

/// Reads a WAL: all of its marks. As SQLite, it stops at the first frame of an older WAL; checksums are left to SQLite. So the
/// last marks may be of a transaction that was not committed, over whose first frames a shorter one was written.
fn read_wal(wal: &Path) -> std::io::Result<Wal> {
    let mut file = match File::open(wal) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Wal::Empty),
        opened => BufReader::with_capacity(1 << 16, opened?),
    };
    let mut header = [0; 32];
    if !fills(&mut file, &mut header)? {
        return Ok(Wal::Empty);
    }
    let Some(page_size) = page_size(&header) else { return Ok(Wal::Empty) };
    let mut found = None;
    let (mut frame, mut page) = ([0; 24], vec![0; page_size]);
    while fills(&mut file, &mut frame)? && frame[8..16] == header[16..24] && fills(&mut file, &mut page)? {
        // A leaf of a table with one row: a page that was freed may have the rest of an old one.
        let row = if page[0] == 13 && page[3..5] == [0, 1] { &page[page_size - ROW..] } else { &[] };
        let all: &mut Vec<Marks> = found.get_or_insert_default();
        // Probes write them again and again.
        if let Some(marks) = Marks::find(row).filter(|marks| all.last() != Some(marks)) {
            all.push(marks);
        }
    }
    Ok(found.map_or(Wal::Empty, Wal::Changes))
}

/// The size of a WAL's pages; nothing if it is not one that SQLite would use.
fn page_size(header: &[u8; 32]) -> Option<usize> {
    let size = header[8..12].try_into().map(u32::from_be_bytes).ok()?;
    usize::try_from(size).ok().filter(|size| size.is_power_of_two() && (512..=1 << 16).contains(size))
}

/// Whether there was enough to fill this.
fn fills(file: &mut impl Read, bytes: &mut [u8]) -> std::io::Result<bool> {
    match file.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the marks say of a WAL: the later variant is the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Belongs {
    No,
    /// There are no marks, they cannot be read, or a checkpoint was being made.
    Unknown,
    Yes,
}

/// Compares the database file with its WAL.
fn compare(store: &Path, wal: &Path) -> Belongs {
    let main = Connection::open_with_flags(immutable(store), immutable_flags()).and_then(|main| Marks::read(&main));
    match (main, read_wal(wal)) {
        (_, Ok(Wal::Empty)) => Belongs::Yes,
        // One that continues the file is enough: the others may be of transactions that were not committed.
        (Ok(main), Ok(Wal::Changes(all))) => {
            all.iter().map(|marks| marks.continues(&main.mark)).max().unwrap_or(Belongs::Unknown)
        }
        _ => Belongs::Unknown,
    }
}

/// Whether the marks say that a WAL belongs to its database; false if they cannot tell.
pub(super) fn vouch_for_wal(store: &Path, wal: &Path) -> StoreResult<bool> {
    match compare(store, wal) {
        Belongs::Yes => Ok(true),
        Belongs::No => Err(foreign(store)),
        Belongs::Unknown => Ok(false),
    }
}

/// Checks the whole store, because its marks do not tell whether its WAL belongs to it. That is seldom: a clean shutdown leaves
/// no WAL, and a crash leaves one with a new mark, unless it comes between a checkpoint and the next transaction.
pub(super) fn check_sound(connection: &Connection, store: &Path) -> StoreResult<()> {
    let path = store.display();
    tracing::info!("checking {path}: its WAL does not tell whether it belongs to it");
    let problems = quick_check(connection).map_err(|error| failed("check", store, error))?;
    if problems.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{path} is damaged, or {path}-wal does not belong to it: {}; if a backup was put in place, put it there again without \
         the -wal file beside it",
        problems.join("; ")
    );
    Err(StoreError::new(StoreErrorKind::Corrupt, message))
}

/// Refuses a store that is opened to be read, possibly beside a host, if its WAL belongs to another.
pub(super) fn refuse_foreign_wal(store: &Path, wal: &Path) -> StoreResult<()> {
    for _ in 0..TRIES {
        if compare(store, wal) != Belongs::No {
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
