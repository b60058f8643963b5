//! Which history the database has, and whether it is still where it was made.
//!
//! A point-in-time recovery and a standby that takes over begin a new timeline; a dump that is restored writes the row by another
//! transaction, perhaps in another cluster. In each case commits that readers of events have seen may be missing. So the row
//! says where it was made, and hosts compare: at the start, with each read of a change log, since a pooler hides that a connection
//! is a new one, and twice a second for readers that wait. Whichever host sees a difference first begins a new history by an update
//! on the condition that nobody has meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

use super::Shared;
use super::statement::{Statement, Trouble, column};
use crate::model::History;
use crate::store::StoreResult;

/// The transaction that wrote the row, as the row has it and as the one that is running.
const WRITTEN_BY: (&str, &str) = ("xmin::text::bigint", "txid_current() & 4294967295");
/// The cluster.
const SYSTEM: &str = "(SELECT system_identifier::text FROM pg_control_system())";
/// The timeline; not told by a standby.
const TIMELINE: &str =
    "CASE WHEN pg_is_in_recovery() THEN NULL ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END";

/// The statements, with as much of where the row was made as the database tells this host.
#[derive(Debug)]
pub(super) struct Histories {
    read: Statement,
    /// Whether the row was made elsewhere, as an expression that costs little: without the cluster, which takes reading a file.
    pub(super) elsewhere: String,
    insert: Statement,
    renew: Statement,
    /// Whether what the database tells can be compared: not where a row that was just written seems to be another's.
    pub(super) comparable: AtomicBool,
}

impl Histories {
    /// Finds out what the database tells. Databases of other makes, and hosted ones, leave some of it out.
    pub(super) async fn of(client: &Client) -> Result<Self, Error> {
        let written_by = told(client, &format!("{} FROM convgroups.history", WRITTEN_BY.0)).await?;
        let (written_by, writing) = if written_by { WRITTEN_BY } else { ("NULL::bigint", "NULL::bigint") };
        let system = if told(client, SYSTEM).await? { SYSTEM } else { "NULL::text" };
        let timeline = if told(client, TIMELINE).await? { TIMELINE } else { "NULL::text" };
        // What either does not know is not compared.
        let elsewhere = format!("{written_by} <> written_by OR timeline <> {timeline}");
        let read = format!(
            "SELECT TAG, (SELECT identity FROM convgroups.history),
             (SELECT ({elsewhere} OR system_identifier <> {system}) IS TRUE FROM convgroups.history), pg_is_in_recovery()"
        );
        let elsewhere = format!("(SELECT ({elsewhere}) IS TRUE FROM convgroups.history)");
        let insert = format!(
            "WITH made AS (
                 INSERT INTO convgroups.history (identity, system_identifier, timeline, written_by)
                 SELECT $1, {system}, {timeline}, {writing} WHERE $2 = TAG ON CONFLICT DO NOTHING RETURNING identity
             ) SELECT TAG, EXISTS (SELECT FROM made)"
        );
        let renew = format!(
            "WITH made AS (
                 UPDATE convgroups.history
                 SET identity = $1, system_identifier = {system}, timeline = {timeline}, written_by = {writing}
                 WHERE $2 = TAG AND identity = $3 RETURNING identity
             ) SELECT TAG, EXISTS (SELECT FROM made)"
        );
        Ok(Self {
            read: Statement::new(&read, &[]),
            elsewhere,
            insert: Statement::new(&insert, &[Type::TEXT, Type::INT8]),
            renew: Statement::new(&renew, &[Type::TEXT, Type::INT8, Type::TEXT]),
            comparable: AtomicBool::new(true),
        })
    }
}

/// Whether the database tells the value of an expression.
async fn told(client: &Client, expression: &str) -> Result<bool, Error> {
    match client.query_typed(&format!("SELECT {expression}"), &[]).await {
        Ok(_) => Ok(true),
        // There is no such function or column, it is not for this role, or not to be had here.
        Err(error)
            if error.code().is_some_and(|code| code.code().starts_with("42") || code.code().starts_with("0A")) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// What the row says.
struct Found {
    history: Option<History>,
    /// Whether it was made elsewhere.
    elsewhere: bool,
    /// Whether nothing can be written.
    standby: bool,
}

fn found(row: &Row) -> Result<Found, Trouble> {
    let history = column::<Option<&str>>(row, 1)?.map(decode).transpose()?;
    Ok(Found { history, elsewhere: column::<Option<bool>>(row, 2)?.unwrap_or_default(), standby: column(row, 3)? })
}

pub(super) fn decode(identity: &str) -> Result<History, Trouble> {
    identity.parse().map_err(|error: crate::model::InvalidHistory| Trouble::Unreadable(error.to_string()))
}

impl Shared {
    /// The history that the database has now. Begins one where there is none, and a new one where the database is not the one
    /// that it was made in, if this host writes.
    pub(super) async fn settle_history(&self) -> StoreResult<Option<History>> {
        let mut begun = None;
        loop {
            let Found { history, elsewhere, standby } = self.read(&self.histories.read, &[], found).await?;
            let elsewhere = elsewhere && self.histories.comparable.load(Ordering::Relaxed);
            if self.read_only || standby || (history.is_some() && !elsewhere) {
                return Ok(history);
            }
            let database = self.address.name();
            if begun.is_some() && begun == history {
                self.histories.comparable.store(false, Ordering::Relaxed);
                tracing::warn!(
                    database,
                    "the database does not tell where it is: a restore or failover will not be noticed"
                );
                continue;
            }
            begun = match self.begin_history(history).await {
                // It can only be read at the moment.
                Err(error) if history.is_some() => {
                    tracing::debug!(%error, "could not begin a new history");
                    return Ok(history);
                }
                begun => begun?,
            };
            if let (Some(old), Some(new)) = (history, begun) {
                tracing::warn!(
                    %old, %new, database,
                    "the database was restored, or another one took over: readers of events get the full state"
                );
            }
        }
    }

    /// Begins a new history in the place of `old`; nothing if another host has done so.
    pub(super) async fn begin_history(&self, old: Option<History>) -> StoreResult<Option<History>> {
        let new = History::random();
        let (identity, begun) = (new.to_string(), |row: &Row| column::<bool>(row, 1));
        let Histories { insert, renew, .. } = &self.histories;
        let begun = match old {
            None => self.read(insert, &[&identity, &insert.tag()], begun).await?,
            Some(old) => self.read(renew, &[&identity, &renew.tag(), &old.to_string()], begun).await?,
        };
        Ok(begun.then_some(new))
    }
}
