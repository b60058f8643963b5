//! Whether the file is whole, and what it has can be true.

use rusqlite::{Connection, Row, Transaction};

use super::history;
use crate::store::Verified;
use crate::store::verify::{Checker, decode};

type Read<T> = rusqlite::Result<T>;

/// The most lines about the file's structure: of a damaged file there may be one for each page.
const MAX_LINES: u32 = 100;

/// Checks everything as of one moment. That SQLite's log is not begun anew as long as this takes does no harm.
pub(super) fn verify(connection: &mut Connection, found: &mut dyn FnMut(String)) -> Read<Verified> {
    let transaction = connection.transaction()?;
    structure(&transaction, found)?;
    let mut checker = Checker::new(found);
    if let Err(error) = history::read(&transaction) {
        checker.wrong(format!("the history cannot be read: {error}"));
    }
    users(&transaction, &mut checker)?;
    let verified = checker.finish();
    transaction.commit()?;
    Ok(verified)
}

/// Pages, indices and constraints.
pub(super) fn structure(connection: &Connection, found: &mut dyn FnMut(String)) -> Read<()> {
    let mut check = connection.prepare(&format!("PRAGMA integrity_check({MAX_LINES})"))?;
    let mut lines = check.query([])?;
    while let Some(line) = lines.next()? {
        let line: String = line.get(0)?;
        if line != "ok" {
            found(format!("the file is damaged: {line}"));
        }
    }
    let mut check = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = check.query([])?;
    while let Some(row) = rows.next()? {
        let (table, parent): (String, String) = (row.get(0)?, row.get(2)?);
        found(format!("a row of the table {table} belongs to none of the table {parent}"));
    }
    Ok(())
}

fn users(transaction: &Transaction<'_>, checker: &mut Checker<'_>) -> Read<()> {
    let mut users = transaction.prepare("SELECT id, user_id, version, groups_created FROM users ORDER BY user_id")?;
    let mut groups = transaction.prepare("SELECT number, name FROM groups WHERE user = ?1 ORDER BY number")?;
    let mut members = transaction.prepare(
        "SELECT groups.number, members.conversation_id, members.position
         FROM groups JOIN members ON members.group_id = groups.id WHERE groups.user = ?1",
    )?;
    let mut conversations = transaction
        .prepare("SELECT conversation_id, marks, custom_data, position FROM conversations WHERE user = ?1")?;
    let mut log = transaction.prepare("SELECT version, origin, events FROM log WHERE user = ?1 ORDER BY version")?;
    let mut users = users.query([])?;
    while let Some(user) = users.next()? {
        let id: i64 = user.get(0)?;
        checker.user(text(user, 1)?, user.get(2)?, user.get(3)?);
        let mut rows = groups.query([id])?;
        while let Some(row) = rows.next()? {
            checker.group(row.get(0)?, text(row, 1)?);
        }
        let mut rows = members.query([id])?;
        while let Some(row) = rows.next()? {
            checker.member(row.get(0)?, text(row, 1)?, row.get(2)?);
        }
        let mut rows = conversations.query([id])?;
        while let Some(row) = rows.next()? {
            let marks: i64 = row.get(1)?;
            checker.conversation(text(row, 0)?, marks.cast_unsigned(), text(row, 2)?, row.get(3)?);
        }
        let mut rows = log.query([id])?;
        while let Some(row) = rows.next()? {
            checker.logged(row.get(0)?, decode(text(row, 1)?, text(row, 2)?));
        }
    }
    Ok(())
}

fn text<'a>(row: &'a Row<'_>, column: usize) -> Read<&'a str> {
    Ok(row.get_ref(column)?.as_str()?)
}
