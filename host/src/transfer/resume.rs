//! What of a part is in the store already, and what is still to be written.

use std::collections::HashSet;

use super::format::{Group, Part};
use super::read::{FilePart, MAX_GROUPS_CREATED, MAX_VERSION};
use super::{Result, TransferError, stored};
use crate::model::Version;
use crate::store::{MAX_PAGE, Store};

/// Where the writing of a part begins.
pub(super) struct Start {
    /// The user's version.
    pub(super) version: Version,
    /// How many groups were ever created for the user.
    pub(super) groups_created: u32,
    /// As the store counts them: with those that other groups than the part's have taken.
    pub(super) all_groups_created: u32,
    /// How many of the part's groups are there.
    pub(super) groups: usize,
    /// How many of the part's conversations with marks or custom data are there.
    pub(super) conversations: usize,
    /// Whether a reader that has seen a version of the user's former store gets a full snapshot here.
    pub(super) moved: bool,
}

impl Start {
    /// Whether the user can still be moved and given groups when the part is imported.
    pub(super) fn check(&self, read: &FilePart) -> Result<()> {
        let FilePart { part, line, .. } = read;
        let refused = |reason: &str| Err(TransferError::line(*line, format!("user {} {reason}", part.user)));
        // An import of the part that was begun has left out versions already.
        if self.version > MAX_VERSION && !self.moved {
            return refused(&format!("is at version {} in the store: at most {MAX_VERSION} is expected", self.version));
        }
        let last = self.groups.checked_sub(1).and_then(|last| part.groups.get(last)?.id).unwrap_or_default();
        let still_to_count = match part.counters {
            None => u32::try_from(part.groups.len() - self.groups).unwrap_or(u32::MAX),
            Some(counters) if part.groups.is_empty() => counters.groups_created.saturating_sub(self.groups_created),
            Some(_) if part.groups.len() == self.groups => 0,
            Some(counters) => counters.groups_created.saturating_sub(last),
        };
        let (there, most) = (self.all_groups_created, MAX_GROUPS_CREATED);
        if still_to_count > 0 && there.saturating_add(still_to_count) > most {
            return refused(&format!(
                "has created {there} groups in the store already: with groupsCreated {still_to_count} more it would be more \
                 than {most}"
            ));
        }
        Ok(())
    }
}

/// For a part of which nothing may be there.
pub(super) fn anew(store: &dyn Store, read: &FilePart) -> Result<Start> {
    let FilePart { part, .. } = read;
    let user = &part.user;
    let list = store.groups(user)?;
    let names: HashSet<&str> = list.value.groups.iter().map(|group| group.name.as_str()).collect();
    for (group, &line) in part.groups.iter().zip(&read.group_lines) {
        if names.contains(group.name.as_str()) {
            let what = "a group of this name";
            return Err(TransferError::AlreadyThere { line, user: user.clone(), what });
        }
    }
    if !part.conversations.is_empty() && store.data_count(user)?.value > 0 {
        let mut lines = read.conversation_lines.iter();
        for some in part.conversations.chunks(MAX_PAGE as usize) {
            let ids: Vec<&str> = some.iter().map(|data| data.conversation_id.as_str()).collect();
            for (there, &line) in store.data(user, &ids)?.value.iter().zip(&mut lines) {
                if !there.is_none() {
                    let what = "marks or custom data of this conversation";
                    return Err(TransferError::AlreadyThere { line, user: user.clone(), what });
                }
            }
        }
    }
    let (version, groups_created) = (list.version, list.value.created);
    let all_groups_created = groups_created;
    Ok(Start { version, groups_created, all_groups_created, groups: 0, conversations: 0, moved: false })
}

/// For a part of which an interrupted import may have written the beginning.
pub(super) fn again(store: &dyn Store, read: &FilePart) -> Result<Start> {
    let there = There::of(store, &read.part)?;
    if let Some(line) = there.first_difference(read) {
        return Err(TransferError::line(line, format!("user {} has something else there already", read.part.user)));
    }
    let Part { groups, conversations, .. } = &there.part;
    if groups.len() < read.part.groups.len()
        && let Some(Group { id: Some(last), .. }) = groups.last()
        && *last != there.groups_created
    {
        let reason = format!("user {} has created groups since the import that is to go on", read.part.user);
        return Err(TransferError::line(read.line, reason));
    }
    Ok(Start {
        version: there.version,
        groups_created: there.groups_created,
        all_groups_created: there.all_groups_created,
        groups: groups.len(),
        conversations: conversations.len(),
        moved: there.moved,
    })
}

/// Whether the store has everything of a part; as it has it.
pub(super) fn complete(store: &dyn Store, read: &FilePart) -> Result<Part> {
    let FilePart { part, .. } = read;
    let there = There::of(store, part)?;
    let differs = |line| TransferError::line(line, format!("user {} has something else in the store", part.user));
    if let Some(line) = there.first_difference(read) {
        return Err(differs(line));
    }
    if let Some(&line) = read.group_lines.get(there.part.groups.len()) {
        return Err(differs(line));
    }
    if let Some(&line) = read.conversation_lines.get(there.part.conversations.len()) {
        return Err(differs(line));
    }
    if part.counters.is_some_and(|counters| !there.moved || there.groups_created < counters.groups_created) {
        return Err(differs(read.line));
    }
    Ok(there.part)
}

/// What a store has of what a part has, with the part's counters.
struct There {
    version: Version,
    groups_created: u32,
    all_groups_created: u32,
    moved: bool,
    part: Part,
}

impl There {
    fn of(store: &dyn Store, part: &Part) -> Result<Self> {
        let (mut there, moved) = match part.counters {
            Some(counters) => stored::moved(store, &part.user, counters)?,
            None => (stored::whole(store, &part.user)?, false),
        };
        there.keep_those_of(part);
        let counters = std::mem::replace(&mut there.counters, part.counters);
        let (version, mut groups_created) =
            counters.map_or_else(Default::default, |counters| (counters.version, counters.groups_created));
        // Where the user had created groups before, all ids are higher by their number.
        let shift = match (there.groups.first(), part.groups.first()) {
            (Some(Group { id: Some(there), .. }), Some(Group { id: Some(here), .. })) => there.checked_sub(*here),
            _ => Some(0),
        };
        let shift = shift.unwrap_or_default();
        let all_groups_created = groups_created;
        groups_created = groups_created.saturating_sub(shift);
        for group in &mut there.groups {
            group.id = group.id.filter(|_| part.counters.is_some()).map(|id| id.saturating_sub(shift));
        }
        Ok(Self { version, groups_created, all_groups_created, moved, part: there })
    }

    /// The line of the first group or conversation that is there, but not as the file has it.
    fn first_difference(&self, read: &FilePart) -> Option<u64> {
        fn first<T: PartialEq>(there: &[T], part: &[T], lines: &[u64]) -> Option<u64> {
            there.iter().zip(part).zip(lines).find(|((there, here), _)| there != here).map(|(_, &line)| line)
        }
        first(&self.part.groups, &read.part.groups, &read.group_lines)
            .or_else(|| first(&self.part.conversations, &read.part.conversations, &read.conversation_lines))
    }
}
