//! Which history the file has, and whether it is the file that a host had open last.
//!
//! A copy that is put in the place of the file has versions that readers of events have seen with other changes. So each host
//! that writes to the file gives it a new random mark, by its first commit and when it closes the file, and notes the mark in
//! `PATH-history` beside it, together with what tells this file from others of its name: its number and when it was made. A file
//! whose mark or number is not the noted one was put in place by other means, and gets a new history. While a mark is committed,
//! both that and the one before are noted, for the process may be killed in between. A history that is new
//! without need costs readers one full snapshot; so the note is not flushed.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::UNIX_EPOCH;

use rusqlite::Connection;

use super::file::{FileMark, Writable, keep_rights, number};
use super::{commit, failed};
use crate::files::{private, with_suffix};
use crate::model::History;
use crate::store::StoreResult;

/// The mark of a store that no host has written to yet.
const NEW: &str = "new";
/// The mark of a store that `convgroups backup` has written.
pub(super) const COPY: &str = "copy";

/// Reads the history.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<History> {
    let mut identity = connection.prepare_cached("SELECT identity FROM history")?;
    let identity: String = identity.query_row([], |row| row.get(0))?;
    identity.parse().map_err(|error| super::read::invalid(0, error))
}

/// Goes on with the history of a file that was just opened to write, or begins a new one where the file was put in place by
/// other means since a host wrote to it.
pub(super) fn go_on(writable: &mut Writable, path: &Path) -> StoreResult<()> {
    let go_on = |writable: &mut Writable| -> rusqlite::Result<()> {
        if is_noted(path, &read_mark(&writable.connection)?) {
            return Ok(());
        }
        let history = History::random();
        begin(writable, path, history)?;
        let path = path.display();
        tracing::warn!(
            %history,
            "{path} is not the file that a host wrote to last: a new history begins, readers of events get the full state"
        );
        Ok(())
    };
    go_on(writable).map_err(|error| failed("open", path, error))
}

/// Begins a history.
pub(super) fn begin(writable: &mut Writable, path: &Path, history: History) -> rusqlite::Result<()> {
    let transaction = commit::begin(writable, path)?;
    transaction.execute("UPDATE history SET identity = ?1", [history.to_string()])?;
    transaction.commit()?;
    writable.committed(path);
    Ok(())
}

/// Gives the file, which a host is about to close, a new mark. It is flushed by the checkpoint that follows, if at all.
pub(super) fn mark_anew(writable: &mut Writable, path: &Path) -> rusqlite::Result<()> {
    writable.file_mark = FileMark::Old;
    writable.connection.pragma_update(None, "synchronous", "normal")?;
    commit::begin(writable, path)?.commit()?;
    writable.committed(path);
    Ok(())
}

/// Gives the file a new mark, and notes it beside the one that the file has until this is committed.
pub(super) fn mark(connection: &Connection, path: &Path) -> rusqlite::Result<String> {
    let before = read_mark(connection)?;
    let mark = History::random().to_string();
    connection.prepare_cached("UPDATE history SET mark = ?1")?.execute([&mark])?;
    // A file that was put in place is none that a host wrote to before its new history is committed.
    let before = if is_noted(path, &before) { note(path, &before) } else { None };
    if let Some(note) = note(path, &mark) {
        write_note(path, &(before.unwrap_or_default() + &note));
    }
    Ok(mark)
}

fn read_mark(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_row("SELECT mark FROM history", [], |row| row.get(0))
}

/// Gives a copy that is about to be put in the place of `path` a history and a mark.
pub(super) fn give(copy: &Connection, file: &Path, path: &Path, history: History) -> rusqlite::Result<()> {
    let mark = History::random().to_string();
    copy.execute("UPDATE history SET identity = ?1, mark = ?2", [history.to_string(), mark.clone()])?;
    take_note(file, path, &mark);
    Ok(())
}

/// Notes beside `path` a file that is there, or soon will be.
pub(super) fn take_note(file: &Path, path: &Path, mark: &str) {
    if let Some(note) = note(file, mark) {
        write_note(path, &note);
    }
}

fn write_note(path: &Path, note: &str) {
    let noted = with_suffix(path, "-history");
    let write = || private().create(true).truncate(true).open(&noted)?.write_all(note.as_bytes());
    if let Err(error) = write() {
        let noted = noted.display();
        tracing::warn!(%error, "could not write {noted}: the next start begins a new history");
    } else if let Err(error) = keep_rights(path, &noted) {
        let (noted, path) = (noted.display(), path.display());
        tracing::warn!(%error, "could not give {noted} the owner and the mode of {path}: a server of that owner cannot read it");
    }
}

/// What is noted of a file with a mark; nothing when the file cannot be looked at.
fn note(file: &Path, mark: &str) -> Option<String> {
    let metadata = std::fs::metadata(file).ok()?;
    // Some file systems do not know it.
    let made = metadata.created().ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    Some(format!("{mark} {} {}\n", number(file), made.as_nanos()))
}

/// Whether a host wrote to the file with this mark last, or none did ever.
fn is_noted(path: &Path, mark: &str) -> bool {
    match (noted(path), note(path, mark)) {
        (None, _) => mark == NEW,
        (Some(noted), note) => note.is_some_and(|note| noted.split_inclusive('\n').any(|line| line == note)),
    }
}

/// What is noted beside `path`, if anything.
fn noted(path: &Path) -> Option<String> {
    let noted = with_suffix(path, "-history");
    match std::fs::read_to_string(&noted) {
        Ok(note) => Some(note),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            let noted = noted.display();
            tracing::warn!(%error, "could not read {noted}; give it to the user that the server runs as");
            // Something is noted, and it cannot be told that it is of this file.
            Some(String::new())
        }
    }
}
