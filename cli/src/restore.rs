//! `convgroups restore`: a backup in the place of a store, and a new history.

use std::path::Path;

use crate::settings::Settings;
use convgroups_host::store::without_password;
use convgroups_host::{PostgresStore, SqliteStore};

use super::{Done, Failed, Outcome, say};

/// Restores a file; without one, only begins a new history.
pub(crate) fn restore(settings: &Settings, file: Option<&Path>) -> Outcome {
    let name = without_password(&settings.store);
    let path = settings.store.strip_prefix("sqlite:");
    let history = match (path, file) {
        (Some(path), Some(file)) => {
            let history = SqliteStore::restore(file, path).map_err(Failed::run)?;
            say(&format!("restored {} to {path}", file.display()));
            history
        }
        (Some(path), None) => SqliteStore::begin_history(path).map_err(Failed::run)?,
        (None, None) if settings.store.starts_with("postgres") => {
            PostgresStore::begin_history(&settings.store, &settings.postgres).map_err(Failed::run)?
        }
        (None, Some(_)) => {
            let reason = format!("a backup is restored to a store sqlite:PATH, not to {name}");
            return Err(Failed::Usage(
                reason + "; for PostgreSQL use its own tools, then `convgroups restore --new-history`",
            ));
        }
        (None, None) => return Err(Failed::Usage(format!("{name} has no history that outlives the process"))),
    };
    say(&format!("{name} has the new history {history}: readers of events begin with the whole state"));
    Ok(Done::Well)
}
