//! What a store has of its users.

use std::collections::HashSet;

use super::format::{Counters, Group, Part};
use super::{GAP, Result};
use crate::model::{GroupState, UserId, UserState, Version};
use crate::store::{Changes, MAX_BATCH, Store, StoreResult, Versioned};

/// All users, in the order of their ids' bytes.
pub(super) struct Users<'a> {
    store: &'a dyn Store,
    batch: std::vec::IntoIter<UserId>,
    last: Option<UserId>,
}

impl<'a> Users<'a> {
    /// Those after `last`.
    pub(super) fn after(store: &'a dyn Store, last: Option<UserId>) -> Self {
        Self { store, batch: Vec::new().into_iter(), last }
    }
}

impl Iterator for Users<'_> {
    type Item = Result<UserId>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match self.batch.next() {
            Some(user) => user,
            None => match self.store.users(self.last.as_ref(), MAX_BATCH) {
                Ok(batch) => {
                    self.batch = batch.into_iter();
                    self.batch.next()?
                }
                Err(error) => return Some(Err(error.into())),
            },
        };
        self.last = Some(next.clone());
        Some(Ok(next))
    }
}

/// Everything of a user, of one moment.
pub(super) fn whole(store: &dyn Store, user: &UserId) -> Result<Part> {
    read(store, user, || store.state(user))
}

/// Everything of a user who was in another store with these counters; and whether everybody who saw a version there gets
/// the state here as a whole.
pub(super) fn moved(store: &dyn Store, user: &UserId, there: Counters) -> Result<(Part, bool)> {
    let last_seen = Version(there.version.0.saturating_add(GAP));
    let mut moved = false;
    let part = read(store, user, || match store.changes(user, last_seen, 1)? {
        Changes::Full(state) => {
            moved = state.version > last_seen;
            Ok(state)
        }
        Changes::Since(_) => {
            moved = false;
            store.state(user)
        }
    })?;
    Ok((part, moved))
}

/// The groups and their ids are two reads, repeated until both are of the same moment.
fn read(
    store: &dyn Store,
    user: &UserId,
    mut state: impl FnMut() -> StoreResult<Versioned<UserState>>,
) -> Result<Part> {
    loop {
        let list = store.groups(user)?;
        let state = state()?;
        if list.version != state.version {
            continue;
        }
        let UserState { groups, conversations } = state.value;
        let counters = Counters { version: state.version, groups_created: list.value.created };
        let numbered = groups.into_iter().zip(list.value.groups).map(|(group, entry)| {
            let GroupState { group_name: name, conversation_id_list: conversation_ids } = group;
            Group { id: Some(entry.id), name, conversation_ids }
        });
        return Ok(Part { user: user.clone(), counters: Some(counters), groups: numbered.collect(), conversations });
    }
}

impl Part {
    /// Of all that is here, the groups and conversations of another part.
    pub(super) fn keep_those_of(&mut self, other: &Part) {
        let names: HashSet<&str> = other.groups.iter().map(|group| group.name.as_str()).collect();
        self.groups.retain(|group| names.contains(group.name.as_str()));
        let ids: HashSet<&str> = other.conversations.iter().map(|data| data.conversation_id.as_str()).collect();
        self.conversations.retain(|data| ids.contains(data.conversation_id.as_str()));
    }
}
