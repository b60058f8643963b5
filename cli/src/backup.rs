//! `convgroups backup`: a copy of a SQLite store.

use std::path::Path;

use convgroups_host::store::{SqliteStore, check_address, without_password};

use super::{Done, Failed, Outcome, say};

pub(crate) fn backup(store: &str, destination: &Path) -> Outcome {
    check_address(store).map_err(Failed::run)?;
    let path = store.strip_prefix("sqlite:").ok_or_else(|| {
        let store = without_password(store);
        Failed::Usage(format!("a backup is made of a store sqlite:PATH, not of {store}"))
    })?;
    let store = SqliteStore::open_read_only(path).map_err(Failed::run)?;
    store.backup(destination).map_err(Failed::run)?;
    say(&format!("copied {path} to {}", destination.display()));
    Ok(Done::Well)
}
