//! What one would write without this project: the same changes and the same answers, in the same tables, with plain statements
//! one after another in one transaction for each call. The user's row is locked, so that others wait. No sandbox.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use convgroups_host::UserId;
use convgroups_host::api::{ConversationOperationResult, Request};
use convgroups_host::settings::PostgresSettings;
use deadpool_postgres::{Manager, Pool};
use tokio::runtime::Runtime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{NoTls, Row};

use crate::Failure;
use crate::database::KEPT;

const USER: &str = "SELECT version FROM convgroups.users WHERE user_id = $1 FOR UPDATE";
const GROUP: &str = "SELECT number FROM convgroups.groups WHERE user_id = $1 AND name = $2";
const HELD: &str = "SELECT conversation_id FROM convgroups.members
    WHERE user_id = $1 AND group_number = $2 AND conversation_id = ANY($3)";
const SIZE: &str = "SELECT count(*) FROM convgroups.members WHERE user_id = $1 AND group_number = $2";
const DELETE: &str = "DELETE FROM convgroups.members
    WHERE user_id = $1 AND group_number = $2 AND conversation_id = ANY($3)";
const ADD: &str = "INSERT INTO convgroups.members (user_id, group_number, conversation_id, position)
    SELECT $1, $2, id, $4 + place FROM unnest($3::text[]) WITH ORDINALITY AS new (id, place)";
const LOG: &str = "INSERT INTO convgroups.log (user_id, version, token, origin, events) VALUES ($1, $2, $3, $4, $5)";
const TRIM: &str = "DELETE FROM convgroups.log WHERE user_id = $1 AND version <= $2";
const RAISE: &str = "UPDATE convgroups.users SET version = $2 WHERE user_id = $1";
const NOTIFY: &str = "SELECT pg_notify('plain', $1)";

/// The most conversations in a group.
const MOST: i64 = 1000;

/// A pool of connections, as large as a host's.
pub(crate) struct Naive {
    runtime: Runtime,
    pool: Pool,
    notify: bool,
    trips: AtomicU64,
}

impl Naive {
    pub(crate) fn connect(url: &str, notify: bool) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(std::thread::available_parallelism().map_or(1, usize::from).min(4))
            .enable_all()
            .build()?;
        let size = PostgresSettings::default().max_connections as usize;
        let pool = Pool::builder(Manager::new(url.parse()?, NoTls)).max_size(size).build()?;
        Ok(Self { runtime, pool, notify, trips: AtomicU64::new(0) })
    }

    /// How often the database was asked so far.
    pub(crate) fn trips(&self) -> u64 {
        self.trips.load(Ordering::Relaxed)
    }

    pub(crate) fn call(&self, user: &UserId, request: &Request) -> Result<(), Failure> {
        let (deletes, group_name, ids) = match request {
            Request::DeleteConversationsFromGroup(call) => (true, &call.group_name, &call.conversation_id_list),
            Request::AddConversationsToGroup(call) => (false, &call.group_name, &call.conversation_id_list),
            _ => return Err("no such call".into()),
        };
        let results = self.runtime.block_on(self.change(user, group_name, ids, deletes));
        if results?.len() == ids.len() { Ok(()) } else { Err("a result is missing".into()) }
    }

    async fn change(
        &self,
        user: &UserId,
        group: &str,
        ids: &[String],
        deletes: bool,
    ) -> Result<Vec<ConversationOperationResult>, Failure> {
        let mut connection = self.pool.get().await?;
        let transaction = connection.transaction().await?;
        // To begin and to commit.
        self.trips.fetch_add(2, Ordering::Relaxed);
        let ask = async |statement: &str, params: &[&(dyn ToSql + Sync)]| -> Result<Vec<Row>, tokio_postgres::Error> {
            self.trips.fetch_add(1, Ordering::Relaxed);
            let statement = transaction.prepare_cached(statement).await?;
            transaction.query(&statement, params).await
        };
        let user = user.as_str();
        let version = ask(USER, &[&user]).await?.first().ok_or("no such user")?.get::<_, i64>(0) + 1;
        let number: i64 = ask(GROUP, &[&user, &group]).await?.first().ok_or("no such group")?.get(0);
        let held = ask(HELD, &[&user, &number, &ids]).await?;
        let held: HashSet<String> = held.iter().map(|row| row.get(0)).collect();
        let changed: Vec<&String> = ids.iter().filter(|id| held.contains(*id) == deletes).collect();
        if !changed.is_empty() {
            let event = if deletes {
                ask(DELETE, &[&user, &number, &changed]).await?;
                "onConversationsDeletedFromGroup"
            } else {
                let size: i64 = ask(SIZE, &[&user, &number]).await?.first().map_or(0, |row| row.get(0));
                if size + changed.len() as i64 > MOST {
                    return Err("the group is full".into());
                }
                ask(ADD, &[&user, &number, &changed, &(version << 20)]).await?;
                "onConversationsAddedToGroup"
            };
            let token = fastrand::u128(..).to_be_bytes();
            let origin = serde_json::json!({ "method": event, "requestID": format!("{:032x}", fastrand::u128(..)) });
            let events =
                serde_json::json!([{ "event": event, "groupName": group, "conversationList": changed, "reason": 0 }]);
            let params: [&(dyn ToSql + Sync); 5] =
                [&user, &version, &token.as_slice(), &origin.to_string(), &events.to_string()];
            ask(LOG, &params).await?;
            ask(TRIM, &[&user, &(version - i64::from(KEPT))]).await?;
            ask(RAISE, &[&user, &version]).await?;
            if self.notify {
                ask(NOTIFY, &[&user]).await?;
            }
        }
        transaction.commit().await?;
        let result = |id: &String| ConversationOperationResult {
            conversation_id: id.clone(),
            result_code: 0,
            result_info: match (held.contains(id), deletes) {
                (false, true) => "not in the group".to_owned(),
                (true, false) => "already in the group".to_owned(),
                _ => String::new(),
            },
        };
        Ok(ids.iter().map(result).collect())
    }
}
