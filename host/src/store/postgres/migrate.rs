//! The schema's versions: numbered files, applied in order, each in a transaction of its own.
//!
//! Hosts that start at once may all try. A row holds the version, and whoever raises it by a conditional update applies the
//! file in the same transaction; the others wait for that row, and find the work done.

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

/// What leads from each version to the next.
const MIGRATIONS: [&str; 3] = [
    include_str!("migrations/0001_tables.sql"),
    include_str!("migrations/0002_memberships.sql"),
    include_str!("migrations/0003_history.sql"),
];

/// The version that this program works with.
pub(super) const CURRENT: i32 = MIGRATIONS.len() as i32;

/// How often the table with the version is tried to be created: databases report a creation that runs into another's in
/// several ways, `IF NOT EXISTS` or not.
const TRIES: u32 = 20;

/// The version that the database is at; 0 for one without tables.
pub(super) async fn version(client: &Client) -> Result<i32, Error> {
    let exists = "SELECT to_regclass('convgroups.schema_version') IS NOT NULL";
    if !client.query_typed_one(exists, &[]).await?.try_get(0)? {
        return Ok(0);
    }
    let row = client.query_typed_opt("SELECT version FROM convgroups.schema_version", &[]).await?;
    row.map_or(Ok(0), |row| row.try_get(0))
}

/// Brings the database to [`CURRENT`], unless it is there or beyond. Answers the version that it is at then.
pub(super) async fn migrate(client: &mut Client) -> Result<i32, Error> {
    let mut at = version(client).await?;
    if at == 0 {
        create_version(client).await?;
    }
    while let Some(migration) = usize::try_from(at).ok().and_then(|at| MIGRATIONS.get(at)) {
        let transaction = client.transaction().await?;
        let raise = format!("UPDATE convgroups.schema_version SET version = {at} + 1 WHERE version = {at}");
        if transaction.execute_typed(&raise, &[]).await? == 1 {
            transaction.batch_execute(migration).await?;
            transaction.commit().await?;
            tracing::info!(version = at + 1, "the database's schema has been migrated");
        } else {
            transaction.rollback().await?;
        }
        at = version(client).await?;
    }
    Ok(at)
}

async fn create_version(client: &Client) -> Result<(), Error> {
    let create = "
        CREATE SCHEMA IF NOT EXISTS convgroups;
        CREATE TABLE IF NOT EXISTS convgroups.schema_version (
            only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
            version integer NOT NULL
        );
        INSERT INTO convgroups.schema_version (version) VALUES (0) ON CONFLICT DO NOTHING;";
    let mut tries = 0;
    loop {
        let result = client.batch_execute(create).await;
        tries += 1;
        match &result {
            Err(error) if tries < TRIES && is_race(error) => {
                let pause = std::time::Duration::from_millis(20).mul_f64(fastrand::f64());
                tokio::time::sleep(pause).await;
            }
            _ => return result,
        }
    }
}

fn is_race(error: &Error) -> bool {
    let races = [
        SqlState::UNIQUE_VIOLATION,
        SqlState::DUPLICATE_SCHEMA,
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_OBJECT,
        SqlState::T_R_SERIALIZATION_FAILURE,
    ];
    error.code().is_some_and(|code| races.contains(code))
}
