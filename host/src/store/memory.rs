//! The store that forgets: for demonstrations, tests, and as the model that other stores are compared with.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    Changes, Commit, CommitOutcome, MAX_BATCH, MAX_PAGE, Member, Store, StoreError, StoreErrorKind, StoreResult,
    Versioned, Watch, Watchers, log_reaches,
};
use crate::model::{Change, GroupState, LoggedChange, Positions, UserId, Version};

/// Keeps everything in memory, and nothing after the process has ended.
#[derive(Debug, Default)]
pub struct MemoryStore {
    users: Mutex<BTreeMap<UserId, User>>,
    watchers: Arc<Watchers>,
}

#[derive(Clone, Debug, Default)]
struct User {
    version: Version,
    groups: Vec<Group>,
    log: VecDeque<LoggedChange>,
}

#[derive(Clone, Debug, Default)]
struct Group {
    name: String,
    positions: HashMap<String, u64>,
    members: BTreeMap<u64, String>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn read<T>(&self, user: &UserId, read: impl FnOnce(&User) -> T) -> StoreResult<Versioned<T>> {
        let users = self.users.lock();
        let nobody = User::default();
        let user = users.get(user).unwrap_or(&nobody);
        Ok(Versioned { version: user.version, value: read(user) })
    }
}

impl Store for MemoryStore {
    fn groups(&self, user: &UserId) -> StoreResult<Versioned<Vec<String>>> {
        self.read(user, |user| user.groups.iter().map(|group| group.name.clone()).collect())
    }

    fn contains(&self, user: &UserId, group: &str, ids: &[&str]) -> StoreResult<Versioned<Option<Vec<bool>>>> {
        self.read(user, |user| {
            let group = user.group(group)?;
            Some(ids.iter().map(|&id| group.positions.contains_key(id)).collect())
        })
    }

    fn size(&self, user: &UserId, group: &str) -> StoreResult<Versioned<Option<u32>>> {
        self.read(user, |user| user.group(group).map(|group| u32::try_from(group.members.len()).unwrap_or(u32::MAX)))
    }

    fn page(
        &self,
        user: &UserId,
        group: Option<&str>,
        after: u64,
        limit: u32,
    ) -> StoreResult<Versioned<Option<Vec<Member>>>> {
        let limit = limit.min(MAX_PAGE) as usize;
        self.read(user, |user| {
            let Some(name) = group else { return Some(user.page_of_all(after, limit)) };
            let later = user.group(name)?.members.range((Bound::Excluded(after), Bound::Unbounded));
            let member = |(&position, id): (&u64, &String)| Member { conversation_id: id.clone(), position };
            Some(later.take(limit).map(member).collect())
        })
    }

    fn memberships(&self, user: &UserId, ids: &[&str]) -> StoreResult<Versioned<Vec<Vec<String>>>> {
        self.read(user, |user| {
            let holders = |id: &&str| {
                let holding = user.groups.iter().filter(|group| group.positions.contains_key(*id));
                holding.map(|group| group.name.clone()).collect()
            };
            ids.iter().map(holders).collect()
        })
    }

    fn state(&self, user: &UserId) -> StoreResult<Versioned<Vec<GroupState>>> {
        self.read(user, User::state)
    }

    fn commit(&self, commit: Commit) -> StoreResult<CommitOutcome> {
        let mut users = self.users.lock();
        let current = users.get(&commit.user).map_or(Version::default(), |user| user.version);
        if current != commit.base {
            return Ok(CommitOutcome::Conflict);
        }
        let version = commit.base.next();
        // On a copy, so that changes that do not fit leave nothing behind.
        let mut groups = users.get(&commit.user).map(|user| user.groups.clone()).unwrap_or_default();
        let mut positions = Positions::of(version);
        for change in &commit.changes {
            apply(&mut groups, change, &mut positions).ok_or_else(|| {
                StoreError::new(StoreErrorKind::Corrupt, "a change does not fit the groups it was worked out on")
            })?;
        }
        let user = users.entry(commit.user.clone()).or_default();
        user.groups = groups;
        user.version = version;
        user.log.push_back(LoggedChange { version, origin: commit.origin, events: commit.changes });
        while user.log.len() > commit.keep.max(1) as usize {
            user.log.pop_front();
        }
        drop(users);
        self.watchers.notify(&commit.user);
        Ok(CommitOutcome::Committed(version))
    }

    fn changes(&self, user: &UserId, after: Version) -> StoreResult<Changes> {
        let read = self.read(user, |user| {
            let oldest = user.log.front().map(|change| change.version);
            if !log_reaches(after, oldest, user.version) {
                return Changes::Full(Versioned { version: user.version, value: user.state() });
            }
            let later = user.log.iter().filter(|change| change.version > after);
            Changes::Since(later.take(MAX_BATCH as usize).cloned().collect())
        })?;
        Ok(read.value)
    }

    fn users(&self, after: Option<&UserId>, limit: u32) -> StoreResult<Vec<UserId>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let users = self.users.lock();
        let later = users.range::<UserId, _>((from, Bound::Unbounded)).map(|(user, _)| user.clone());
        Ok(later.take(limit.min(MAX_BATCH) as usize).collect())
    }

    fn watch(&self, user: &UserId) -> Option<Watch> {
        Some(self.watchers.watch(user.clone()))
    }

    fn health(&self) -> StoreResult<()> {
        Ok(())
    }
}

impl User {
    fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    fn page_of_all(&self, after: u64, limit: usize) -> Vec<Member> {
        let mut earliest: HashMap<&str, u64> = HashMap::new();
        for (id, &position) in self.groups.iter().flat_map(|group| &group.positions) {
            earliest.entry(id).and_modify(|earlier| *earlier = position.min(*earlier)).or_insert(position);
        }
        let mut members: Vec<Member> = earliest
            .into_iter()
            .filter(|&(_, position)| position > after)
            .map(|(id, position)| Member { conversation_id: id.to_owned(), position })
            .collect();
        members.sort_unstable_by_key(|member| member.position);
        members.truncate(limit);
        members
    }

    fn state(&self) -> Vec<GroupState> {
        let state = |group: &Group| GroupState {
            group_name: group.name.clone(),
            conversation_id_list: group.members.values().cloned().collect(),
        };
        self.groups.iter().map(state).collect()
    }
}

/// Applies one change; `None` when it does not fit.
fn apply(groups: &mut Vec<Group>, change: &Change, positions: &mut Positions) -> Option<()> {
    let find = |groups: &[Group], name: &str| groups.iter().position(|group| group.name == name);
    match change {
        Change::GroupCreated { group_name, conversation_list } => {
            if find(groups, group_name).is_some() {
                return None;
            }
            positions.take();
            let mut group = Group { name: group_name.clone(), ..Group::default() };
            group.add(conversation_list, positions)?;
            groups.push(group);
        }
        Change::GroupDeleted { group_name } => {
            let index = find(groups, group_name)?;
            groups.remove(index);
        }
        Change::GroupRenamed { old_name, new_name } => {
            if find(groups, new_name).is_some() {
                return None;
            }
            let index = find(groups, old_name)?;
            groups.get_mut(index)?.name.clone_from(new_name);
        }
        Change::ConversationsAdded { group_name, conversation_list } => {
            let index = find(groups, group_name)?;
            groups.get_mut(index)?.add(conversation_list, positions)?;
        }
        Change::ConversationsDeleted { group_name, conversation_list, .. } => {
            let index = find(groups, group_name)?;
            let group = groups.get_mut(index)?;
            for id in conversation_list {
                let position = group.positions.remove(id)?;
                group.members.remove(&position)?;
            }
        }
    }
    Some(())
}

impl Group {
    fn add(&mut self, ids: &[String], positions: &mut Positions) -> Option<()> {
        for id in ids {
            let position = positions.take();
            if self.positions.insert(id.clone(), position).is_some() {
                return None;
            }
            self.members.insert(position, id.clone());
        }
        Some(())
    }
}
