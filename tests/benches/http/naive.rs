//! What one would write without this project: the same answers over HTTP from plain statements, in one transaction with one
//! flush for each call. No sandbox, no signatures, no log of changes.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path as Method, State};
use axum::http::HeaderMap;
use axum::routing::post;
use axum::{Json, Router};
use convgroups_host::api::ConversationOperationResult;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use serde::{Deserialize, Serialize};

use crate::Failure;

/// Says whose groups they are.
pub(crate) const USER: &str = "X-User";

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE groups (id INTEGER PRIMARY KEY, user TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (user, name));
    CREATE TABLE members (group_id INTEGER NOT NULL, conversation TEXT NOT NULL, PRIMARY KEY (group_id, conversation))
        WITHOUT ROWID;";

/// The most conversations in a group.
const MOST: usize = 1000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params {
    group_name: String,
    #[serde(rename = "conversationIDList")]
    ids: Vec<String>,
}

#[derive(Serialize)]
struct Answer {
    code: i32,
    desc: String,
    data: Vec<ConversationOperationResult>,
}

impl Answer {
    fn refused(code: i32, desc: &str) -> Self {
        Self { code, desc: desc.to_string(), data: Vec::new() }
    }
}

/// Serves until the runtime ends.
pub(crate) async fn serve(file: &Path) -> Result<SocketAddr, Failure> {
    let connection = Connection::open(file)?;
    connection.execute_batch(SCHEMA)?;
    let store = Arc::new(Mutex::new(connection));
    let router = Router::new().route("/v1/{method}", post(answer)).with_state(store);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async { axum::serve(listener, router).await });
    Ok(address)
}

async fn answer(
    State(store): State<Arc<Mutex<Connection>>>,
    Method(method): Method<String>,
    headers: HeaderMap,
    Json(params): Json<Params>,
) -> Json<Answer> {
    let user = headers.get(USER).and_then(|user| user.to_str().ok()).unwrap_or_default().to_owned();
    let work = move || {
        let mut connection = store.lock().unwrap_or_else(PoisonError::into_inner);
        run(&mut connection, &user, &method, &params).unwrap_or_else(|error| Answer::refused(50005, &error.to_string()))
    };
    Json(tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Answer::refused(50005, &error.to_string())))
}

fn run(connection: &mut Connection, user: &str, method: &str, params: &Params) -> rusqlite::Result<Answer> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let find = "SELECT id FROM groups WHERE user = ?1 AND name = ?2";
    let group: Option<i64> =
        transaction.prepare_cached(find)?.query_row([user, &params.group_name], |row| row.get(0)).optional()?;
    let answer = match (method, group) {
        ("createConversationGroup", None) => {
            transaction
                .prepare_cached("INSERT INTO groups (user, name) VALUES (?1, ?2)")?
                .execute([user, &params.group_name])?;
            add(&transaction, transaction.last_insert_rowid(), &params.ids)?
        }
        ("createConversationGroup", Some(_)) => Answer::refused(50002, "the group exists"),
        (_, None) => Answer::refused(51009, "there is no such group"),
        ("addConversationsToGroup", Some(group)) => add(&transaction, group, &params.ids)?,
        ("deleteConversationsFromGroup", Some(group)) => delete(&transaction, group, &params.ids)?,
        _ => Answer::refused(60003, "there is no such method"),
    };
    transaction.commit()?;
    Ok(answer)
}

fn delete(connection: &Connection, group: i64, ids: &[String]) -> rusqlite::Result<Answer> {
    let mut delete = connection.prepare_cached("DELETE FROM members WHERE group_id = ?1 AND conversation = ?2")?;
    each(ids, |id| Ok(if delete.execute((group, id))? == 1 { "" } else { "not in the group" }))
}

fn add(connection: &Connection, group: i64, ids: &[String]) -> rusqlite::Result<Answer> {
    let mut add =
        connection.prepare_cached("INSERT OR IGNORE INTO members (group_id, conversation) VALUES (?1, ?2)")?;
    let answer = each(ids, |id| Ok(if add.execute((group, id))? == 1 { "" } else { "already in the group" }))?;
    let mut count = connection.prepare_cached("SELECT count(*) FROM members WHERE group_id = ?1")?;
    let size: usize = count.query_row([group], |row| row.get(0))?;
    if size > MOST { Err(rusqlite::Error::ToSqlConversionFailure("the group is full".into())) } else { Ok(answer) }
}

fn each(ids: &[String], mut act: impl FnMut(&str) -> rusqlite::Result<&'static str>) -> rusqlite::Result<Answer> {
    let mut seen = HashSet::new();
    let mut data = Vec::with_capacity(ids.len());
    for id in ids {
        let well_formed =
            id.strip_prefix("c2c_").or_else(|| id.strip_prefix("group_")).is_some_and(|rest| !rest.is_empty());
        let (result_code, result_info) = match () {
            () if !well_formed || id.len() > 255 || id.chars().any(char::is_control) => (50002, "malformed"),
            () if !seen.insert(id) => (0, "repeated in the request"),
            () => (0, act(id)?),
        };
        let result_info = result_info.to_owned();
        data.push(ConversationOperationResult { conversation_id: id.clone(), result_code, result_info });
    }
    Ok(Answer { code: 0, desc: String::new(), data })
}
