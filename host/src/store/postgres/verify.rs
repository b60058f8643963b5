//! Whether what the database has can be true.

use std::iter::Peekable;
use std::vec::IntoIter;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, IsolationLevel, Row, Transaction};

use super::history;
use super::statement::{Trouble, column};
use crate::store::Verified;
use crate::store::verify::{Checker, decode};

/// Users whose rows are held at a time.
const USERS: i64 = 50;
/// The most users that are told of where rows of a table belong to nobody.
const MAX_LINES: u32 = 100;

/// Checks everything as of one moment, by a transaction that only reads.
pub(super) async fn verify(client: &mut Client, found: &mut (dyn FnMut(String) + '_)) -> Result<Verified, Trouble> {
    let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let transaction = transaction.start().await.map_err(Trouble::Failed)?;
    let mut checker = Checker::new(found);
    check_history(&transaction, &mut checker).await?;
    let mut last = String::new();
    loop {
        let users = "SELECT user_id, version, groups_created FROM convgroups.users
                     WHERE user_id > $1 ORDER BY user_id LIMIT $2";
        let params = [(&last as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT), (&USERS, Type::INT8)];
        let users = transaction.query_typed(users, &params).await.map_err(Trouble::Failed)?;
        let Some(newest) = users.last() else { break };
        let newest = column::<String>(newest, 0)?;
        check_users(&transaction, &users, &mut checker).await?;
        last = newest;
    }
    for table in ["groups", "members", "conversations", "log"] {
        let strays = format!(
            "SELECT DISTINCT user_id FROM convgroups.{table} WHERE NOT EXISTS (
                 SELECT FROM convgroups.users WHERE users.user_id = {table}.user_id
             ) ORDER BY user_id LIMIT {MAX_LINES}"
        );
        for row in transaction.query_typed(&strays, &[]).await.map_err(Trouble::Failed)? {
            let user: &str = column(&row, 0)?;
            checker.wrong(format!("user {user:?}: the table {table} has rows of this user, the table users has none"));
        }
    }
    let verified = checker.finish();
    transaction.rollback().await.map_err(Trouble::Failed)?;
    Ok(verified)
}

async fn check_history(transaction: &Transaction<'_>, checker: &mut Checker<'_>) -> Result<(), Trouble> {
    let rows =
        transaction.query_typed("SELECT identity FROM convgroups.history", &[]).await.map_err(Trouble::Failed)?;
    match rows.as_slice() {
        [row] => {
            if let Err(trouble) = history::decode(column(row, 0)?) {
                checker.wrong(format!("the history cannot be read: {trouble}"));
            }
        }
        rows => checker.wrong(format!("the table history has {} rows, 1 is expected", rows.len())),
    }
    Ok(())
}

async fn check_users(transaction: &Transaction<'_>, users: &[Row], checker: &mut Checker<'_>) -> Result<(), Trouble> {
    let ids = users.iter().map(|row| column(row, 0)).collect::<Result<Vec<&str>, Trouble>>()?;
    let of_users = async |columns: &str, table: &str, order: &str| {
        let query = format!(
            "SELECT user_id, {columns} FROM convgroups.{table} WHERE user_id = ANY($1) ORDER BY user_id{order}"
        );
        let rows = transaction.query_typed(&query, &[(&ids, Type::TEXT_ARRAY)]).await.map_err(Trouble::Failed)?;
        Ok::<_, Trouble>(rows.into_iter().peekable())
    };
    let mut groups = of_users("number, name", "groups", ", number").await?;
    let mut members = of_users("group_number, conversation_id, position", "members", "").await?;
    let mut conversations = of_users("conversation_id, marks, custom_data, position", "conversations", "").await?;
    let mut log = of_users("version, origin, events", "log", ", version").await?;
    for user in users {
        let id: &str = column(user, 0)?;
        checker.user(id, column(user, 1)?, column(user, 2)?);
        while let Some(row) = next_of(&mut groups, id)? {
            checker.group(column(&row, 1)?, column(&row, 2)?);
        }
        while let Some(row) = next_of(&mut members, id)? {
            checker.member(column(&row, 1)?, column(&row, 2)?, column(&row, 3)?);
        }
        while let Some(row) = next_of(&mut conversations, id)? {
            let marks: i64 = column(&row, 2)?;
            checker.conversation(column(&row, 1)?, marks.cast_unsigned(), column(&row, 3)?, column(&row, 4)?);
        }
        while let Some(row) = next_of(&mut log, id)? {
            checker.logged(column(&row, 1)?, decode(column(&row, 2)?, column(&row, 3)?));
        }
    }
    Ok(())
}

/// The next row, if it is this user's.
fn next_of(rows: &mut Peekable<IntoIter<Row>>, user: &str) -> Result<Option<Row>, Trouble> {
    let Some(row) = rows.peek() else { return Ok(None) };
    Ok(if column::<&str>(row, 0)? == user { rows.next() } else { None })
}
