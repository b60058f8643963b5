//! What a call's staged changes do to the groups in the store, worked out from the changes themselves: they are the only
//! record of what was staged.

use std::collections::{HashMap, HashSet};

use crate::model::{Change, Positions, Version};

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

    /// The names of all groups, given those in the store, in the order of creation.
    pub(super) fn names(stored: Vec<String>, changes: &[Change]) -> Vec<String> {
        let mut names = stored;
        for change in changes {
            match change {
                Change::GroupCreated { group_name, .. } => names.push(group_name.clone()),
                Change::GroupDeleted { group_name } => names.retain(|name| name != group_name),
                Change::GroupRenamed { old_name, new_name } => {
                    if let Some(name) = names.iter_mut().find(|name| *name == old_name) {
                        name.clone_from(new_name);
                    }
                }
                Change::ConversationsAdded { .. } | Change::ConversationsDeleted { .. } => {}
            }
        }
        names
    }

    fn apply(&mut self, change: &'a Change, positions: &mut Positions) {
        match change {
            Change::GroupCreated { group_name, conversation_list } => {
                positions.take();
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
        }
    }

    fn touch(&mut self, name: &'a str) -> &mut StagedGroup<'a> {
        self.groups.entry(name).or_insert_with(|| StagedGroup { stored: Some(name), ..StagedGroup::default() })
    }
}
