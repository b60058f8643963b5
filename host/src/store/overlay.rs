//! What a call's staged changes do to what is in the store, worked out from the changes themselves: they are the only
//! record of what was staged.

use std::collections::{HashMap, HashSet};

use super::{GroupEntry, GroupList, Memberships};
use crate::model::{Change, ConversationData, Positions, Version};

/// A group as the call sees it.
#[derive(Debug, Default)]
pub(super) struct StagedGroup<'a> {
    /// The name in the store, of a group that is there.
    pub(super) stored: Option<&'a str>,
    /// New members and their places, in order.
    pub(super) added: Vec<(&'a str, u64)>,
    /// Stored members that were taken out.
    pub(super) removed: HashSet<&'a str>,
}

/// Where a name leads.
pub(super) enum Resolved<'a> {
    /// To no group.
    Missing,
    /// To a group that the call left alone.
    Untouched,
    /// To a group that the call changed or created.
    Touched(StagedGroup<'a>),
}

/// All that is staged, by the names that the call knows.
#[derive(Debug, Default)]
pub(super) struct Overlay<'a> {
    groups: HashMap<&'a str, StagedGroup<'a>>,
    /// Names in the store that lead nowhere by now.
    gone: HashSet<&'a str>,
    /// Every change of a conversation's marks or custom data, in order, with the place it has if it had none before.
    data: Vec<(&'a ConversationData, u64)>,
}

impl<'a> Overlay<'a> {
    /// Works out what `changes` do on top of the store at version `base`.
    pub(super) fn new(changes: &'a [Change], base: Version) -> Self {
        let mut overlay = Self::default();
        let mut positions = Positions::of(base.next());
        for change in changes {
            overlay.apply(change, &mut positions);
        }
        overlay
    }

    pub(super) fn resolve(mut self, name: &str) -> Resolved<'a> {
        match self.groups.remove(name) {
            Some(group) => Resolved::Touched(group),
            None if self.gone.contains(name) => Resolved::Missing,
            None => Resolved::Untouched,
        }
    }

    /// All groups, given those in the store, in the order of creation.
    pub(super) fn groups(stored: GroupList, changes: &[Change]) -> Vec<GroupEntry> {
        let GroupList { mut groups, mut created } = stored;
        for change in changes {
            match change {
                Change::GroupCreated { group_name, .. } => {
                    created = created.saturating_add(1);
                    groups.push(GroupEntry { id: created, name: group_name.clone() });
                }
                Change::GroupDeleted { group_name } => groups.retain(|group| group.name != *group_name),
                Change::GroupRenamed { old_name, new_name } => {
                    if let Some(group) = groups.iter_mut().find(|group| group.name == *old_name) {
                        group.name.clone_from(new_name);
                    }
                }
                Change::ConversationsAdded { .. }
                | Change::ConversationsDeleted { .. }
                | Change::ConversationsChanged { .. } => {}
            }
        }
        groups
    }

    /// Which of the groups named `names`, all that the call knows of, hold which of some IDs, given who holds them in the store.
    pub(super) fn memberships(&self, stored: &Memberships, names: Vec<String>, ids: &[&str]) -> Memberships {
        let mut places: HashMap<&str, usize> = HashMap::with_capacity(ids.len());
        places.extend(ids.iter().enumerate().map(|(place, id)| (*id, place)));
        let mut held = vec![Vec::new(); ids.len()];
        // What became of each group of the store, by its name there: the index it has now, and who was taken out of it.
        let mut kept: HashMap<&str, (u32, Option<&HashSet<&str>>)> = HashMap::with_capacity(names.len());
        for (index, name) in (0..).zip(&names) {
            let Some(group) = self.groups.get(name.as_str()) else {
                kept.insert(name, (index, None));
                continue;
            };
            if let Some(stored) = group.stored {
                kept.insert(stored, (index, Some(&group.removed)));
            }
            for place in group.added.iter().filter_map(|(id, _)| places.get(id)) {
                held.get_mut(*place).into_iter().for_each(|held| held.push(index));
            }
        }
        let kept: Vec<_> = stored.groups.iter().map(|name| kept.get(name.as_str())).collect();
        for ((held, stored), id) in held.iter_mut().zip(&stored.held).zip(ids) {
            let still = stored.iter().filter_map(|&group| kept.get(group as usize).copied().flatten());
            held.extend(
                still
                    .filter(|(_, removed)| !removed.is_some_and(|removed| removed.contains(id)))
                    .map(|(index, _)| index),
            );
            held.sort_unstable();
        }
        Memberships { groups: names, held }
    }

    /// Puts what was staged for conversations in the place of what is in the store.
    pub(super) fn lay_over_data(stored: &mut [ConversationData], changes: &[Change]) {
        let lists = changes.iter().filter_map(|change| match change {
            Change::ConversationsChanged { conversation_list } => Some(conversation_list),
            _ => None,
        });
        // The last for each counts.
        let staged: HashMap<&str, &ConversationData> =
            lists.flatten().map(|data| (data.conversation_id.as_str(), data)).collect();
        for data in stored {
            if let Some(&staged) = staged.get(data.conversation_id.as_str()) {
                data.clone_from(staged);
            }
        }
    }

    /// The places of the conversations with marks or custom data, given those in the store.
    pub(super) fn places_of_data(self, stored: HashMap<String, u64>) -> HashMap<String, u64> {
        let mut places = stored;
        for (data, position) in self.data {
            if data.is_none() {
                places.remove(&data.conversation_id);
            } else {
                places.entry(data.conversation_id.clone()).or_insert(position);
            }
        }
        places
    }

    fn apply(&mut self, change: &'a Change, positions: &mut Positions) {
        match change {
            Change::GroupCreated { group_name, conversation_list } => {
                let added = conversation_list.iter().map(|id| (id.as_str(), positions.take())).collect();
                self.groups.insert(group_name, StagedGroup { added, ..StagedGroup::default() });
            }
            Change::GroupDeleted { group_name } => {
                self.groups.remove(group_name.as_str());
                self.gone.insert(group_name);
            }
            Change::GroupRenamed { old_name, new_name } => {
                let group = self.groups.remove(old_name.as_str());
                let group = group.unwrap_or_else(|| StagedGroup { stored: Some(old_name), ..StagedGroup::default() });
                self.gone.insert(old_name);
                self.groups.insert(new_name, group);
            }
            Change::ConversationsAdded { group_name, conversation_list } => {
                let group = self.touch(group_name);
                group.added.extend(conversation_list.iter().map(|id| (id.as_str(), positions.take())));
            }
            Change::ConversationsDeleted { group_name, conversation_list, .. } => {
                let group = self.touch(group_name);
                let mut leaving: HashSet<&str> = conversation_list.iter().map(String::as_str).collect();
                group.added.retain(|(id, _)| !leaving.remove(id));
                group.removed.extend(leaving);
            }
            Change::ConversationsChanged { conversation_list } => {
                self.data.extend(conversation_list.iter().map(|data| (data, positions.take())));
            }
        }
    }

    fn touch(&mut self, name: &'a str) -> &mut StagedGroup<'a> {
        self.groups.entry(name).or_insert_with(|| StagedGroup { stored: Some(name), ..StagedGroup::default() })
    }
}
