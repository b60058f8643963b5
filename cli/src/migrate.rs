//! `convgroups migrate`: a store's schema, brought to this program's version.

use crate::settings::Settings;
use convgroups_host::{PostgresStore, store};

use super::{Done, Failed, Outcome, say};

pub(crate) fn migrate(settings: &Settings) -> Outcome {
    store::check_address(&settings.store).map_err(Failed::run)?;
    let name = store::without_password(&settings.store);
    if ["postgres://", "postgresql://"].iter().any(|scheme| settings.store.starts_with(scheme)) {
        let (before, after) = PostgresStore::migrate(&settings.store, &settings.postgres).map_err(Failed::run)?;
        if before == after {
            say(&format!("{name} has the schema's version {after} already"));
        } else {
            say(&format!("{name} went from the schema's version {before} to {after}"));
        }
    } else {
        // Opening is all it takes.
        store::open(&settings.store, &settings.postgres).map_err(Failed::run)?;
        say(&format!("{name} has this program's schema"));
    }
    Ok(Done::Well)
}
