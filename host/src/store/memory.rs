//! The store that forgets: for demonstrations, tests, and as the model that other stores are compared with.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;

use super::verify::Checker;
use super::{
    Changes, Commit, CommitOutcome, GroupEntry, GroupList, HeldAndSize, MAX_BATCH, MAX_PAGE, Member, Memberships,
    Store, StoreError, StoreErrorKind, StoreResult, Verified, Versioned, Watch, Watchers, log_reaches,
};
use crate::model::{
    Change, ConversationData, EventId, GroupState, History, LoggedChange, Positions, UserId, UserState, Version,
};

/// Keeps everything in memory, and nothing after the process has ended.
#[derive(Debug)]
pub struct MemoryStore {
    history: History,
    users: Mutex<BTreeMap<UserId, User>>,
    watchers: Arc<Watchers>,
}

#[derive(Clone, Debug, Default)]
struct User {
    version: Version,
    content: Content,
    log: VecDeque<LoggedChange>,
}

/// What changes apply to.
#[derive(Clone, Debug, Default)]
struct Content {
    groups: Vec<Group>,
    groups_created: u32,
    /// Conversations with marks or custom data, and their places, by id.
    data: HashMap<String, (u64, ConversationData)>,
}

#[derive(Clone, Debug, Default)]
struct Group {
    id: u32,
    name: String,
    positions: HashMap<String, u64>,
    members: BTreeMap<u64, String>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self { history: History::random(), users: Mutex::default(), watchers: Arc::default() }
    }

    fn read<T>(&self, user: &UserId, read: impl FnOnce(&Content) -> T) -> StoreResult<Versioned<T>> {
        self.read_user(user, |user| read(&user.content))
    }

    fn read_user<T>(&self, user: &UserId, read: impl FnOnce(&User) -> T) -> StoreResult<Versioned<T>> {
        let users = self.users.lock();
        let nobody = User::default();
        let user = users.get(user).unwrap_or(&nobody);
        Ok(Versioned { version: user.version, value: read(user) })
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for MemoryStore {
    fn groups(&self, user: &UserId) -> StoreResult<Versioned<GroupList>> {
        self.read(user, |user| {
            let entry = |group: &Group| GroupEntry { id: group.id, name: group.name.clone() };
            GroupList { groups: user.groups.iter().map(entry).collect(), created: user.groups_created }
        })
    }

    fn contains(&self, user: &UserId, group_name: &str, ids: &[&str]) -> StoreResult<Versioned<Option<Vec<bool>>>> {
        self.read(user, |user| user.group(group_name).map(|group| group.contains(ids)))
    }

    fn contains_and_size(
        &self,
        user: &UserId,
        group_name: &str,
        ids: &[&str],
    ) -> StoreResult<Versioned<Option<HeldAndSize>>> {
        self.read(user, |user| user.group(group_name).map(|group| (group.contains(ids), count(group.members.len()))))
    }

    fn page(
        &self,
        user: &UserId,
        group_name: Option<&str>,
        after: u64,
        limit: u32,
    ) -> StoreResult<Versioned<Option<Vec<Member>>>> {
        let limit = limit.min(MAX_PAGE) as usize;
        self.read(user, |user| {
            let Some(group_name) = group_name else { return Some(user.page_of_all(after, limit)) };
            let later = user.group(group_name)?.members.range((Bound::Excluded(after), Bound::Unbounded));
            let member = |(&position, id): (&u64, &String)| Member { conversation_id: id.clone(), position };
            Some(later.take(limit).map(member).collect())
        })
    }

    fn memberships(&self, user: &UserId, ids: &[&str], limit: usize) -> StoreResult<Versioned<Option<Memberships>>> {
        self.read(user, |user| {
            let mut found = 0;
            let mut held = Vec::with_capacity(ids.len());
            for &id in ids {
                let holding = (0..).zip(&user.groups).filter(|(_, group)| group.positions.contains_key(id));
                let indices: Vec<u32> = holding.map(|(index, _)| index).collect();
                found += indices.len();
                if found > limit {
                    return None;
                }
                held.push(indices);
            }
            Some(Memberships { groups: user.groups.iter().map(|group| group.name.clone()).collect(), held })
        })
    }

    fn data(&self, user: &UserId, ids: &[&str]) -> StoreResult<Versioned<Vec<ConversationData>>> {
        self.read(user, |user| user.data_of(ids))
    }

    fn data_and_count(&self, user: &UserId, ids: &[&str]) -> StoreResult<Versioned<(Vec<ConversationData>, u32)>> {
        self.read(user, |user| (user.data_of(ids), count(user.data.len())))
    }

    fn page_of_data(&self, user: &UserId, after: u64, limit: u32) -> StoreResult<Versioned<Vec<Member>>> {
        let limit = limit.min(MAX_PAGE) as usize;
        self.read(user, |user| page(user.data.iter().map(|(id, &(position, _))| (id.as_str(), position)), after, limit))
    }

    fn state(&self, user: &UserId) -> StoreResult<Versioned<UserState>> {
        self.read(user, Content::state)
    }

    fn commit(&self, commit: Commit) -> StoreResult<CommitOutcome> {
        let mut users = self.users.lock();
        let current = users.get(&commit.user).map_or(Version::default(), |user| user.version);
        if current != commit.base {
            return Ok(CommitOutcome::Conflict);
        }
        let Some(version) = commit.version() else { return Ok(CommitOutcome::Conflict) };
        // On a copy, so that changes that do not fit leave nothing behind.
        let mut content = users.get(&commit.user).map(|user| user.content.clone()).unwrap_or_default();
        content.apply_all(&commit, version).ok_or_else(|| {
            StoreError::new(StoreErrorKind::Corrupt, "a change does not fit what it was worked out on")
        })?;
        let user = users.entry(commit.user.clone()).or_default();
        user.content = content;
        user.version = version;
        if commit.skip.versions > 0 {
            user.log.clear();
        } else {
            user.log.push_back(LoggedChange { version, origin: commit.origin, events: commit.changes });
        }
        while user.log.len() > commit.keep.max(1) as usize {
            user.log.pop_front();
        }
        drop(users);
        self.watchers.notify(&commit.user);
        Ok(CommitOutcome::Committed(version))
    }

    fn changes_after(&self, user: &UserId, after: EventId, limit: u32) -> StoreResult<(History, Changes)> {
        let read = self.read_user(user, |user| {
            let oldest = user.log.front().map(|change| change.version);
            if !log_reaches(after, self.history, oldest, user.version) {
                return Changes::Full(Versioned { version: user.version, value: user.content.state() });
            }
            let later = user.log.iter().filter(|change| change.version > after.version);
            Changes::Since(later.take(limit.min(MAX_BATCH) as usize).cloned().collect())
        })?;
        Ok((self.history, read.value))
    }

    fn history(&self) -> StoreResult<History> {
        Ok(self.history)
    }

    fn verify(&self, found: &mut dyn FnMut(String)) -> StoreResult<Verified> {
        let users = self.users.lock();
        let mut checker = Checker::new(found);
        for (id, user) in &*users {
            let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            checker.user(id.as_str(), number(user.version.0), user.content.groups_created.into());
            for group in &user.content.groups {
                checker.group(group.id.into(), &group.name);
            }
            for group in &user.content.groups {
                for (&position, id) in &group.members {
                    checker.member(group.id.into(), id, number(position));
                }
            }
            for (position, data) in user.content.data.values() {
                checker.conversation(&data.conversation_id, data.marks, &data.custom_data, number(*position));
            }
            for change in &user.log {
                checker.logged(number(change.version.0), Ok(Some(change.events.len())));
            }
        }
        Ok(checker.finish())
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

impl Content {
    fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    fn group_mut(&mut self, name: &str) -> Option<&mut Group> {
        self.groups.iter_mut().find(|group| group.name == name)
    }

    fn data_of(&self, ids: &[&str]) -> Vec<ConversationData> {
        let data = |id: &&str| match self.data.get(*id) {
            Some((_, data)) => data.clone(),
            None => ConversationData::none(*id),
        };
        ids.iter().map(data).collect()
    }

    fn page_of_all(&self, after: u64, limit: usize) -> Vec<Member> {
        let grouped = self.groups.iter().flat_map(|group| &group.positions).map(|(id, &position)| (id, position));
        let mut earliest: HashMap<&str, u64> = HashMap::new();
        for (id, position) in grouped.chain(self.data.iter().map(|(id, &(position, _))| (id, position))) {
            earliest.entry(id).and_modify(|earlier| *earlier = position.min(*earlier)).or_insert(position);
        }
        page(earliest.into_iter(), after, limit)
    }

    fn state(&self) -> UserState {
        let state = |group: &Group| GroupState {
            group_name: group.name.clone(),
            conversation_id_list: group.members.values().cloned().collect(),
        };
        let mut conversations: Vec<&(u64, ConversationData)> = self.data.values().collect();
        conversations.sort_unstable_by_key(|(position, _)| *position);
        UserState {
            groups: self.groups.iter().map(state).collect(),
            conversations: conversations.into_iter().map(|(_, data)| data.clone()).collect(),
        }
    }

    /// Applies a commit that leads to `version`; `None` when it does not fit.
    fn apply_all(&mut self, commit: &Commit, version: Version) -> Option<()> {
        let mut positions = Positions::of(version);
        let mut left_out = commit.skip.group_ids.iter();
        for change in &commit.changes {
            if let Change::GroupCreated { .. } = change {
                self.skip_group_ids(left_out.next())?;
            }
            self.apply(change, &mut positions)?;
        }
        self.skip_group_ids(left_out.next())
    }

    fn skip_group_ids(&mut self, count: Option<&u32>) -> Option<()> {
        self.groups_created = self.groups_created.checked_add(count.copied().unwrap_or_default())?;
        Some(())
    }

    /// Applies one change; `None` when it does not fit.
    fn apply(&mut self, change: &Change, positions: &mut Positions) -> Option<()> {
        match change {
            Change::GroupCreated { group_name, conversation_list } => {
                if self.group(group_name).is_some() {
                    return None;
                }
                self.groups_created = self.groups_created.checked_add(1)?;
                let mut group = Group { id: self.groups_created, name: group_name.clone(), ..Group::default() };
                group.add(conversation_list, positions)?;
                self.groups.push(group);
            }
            Change::GroupDeleted { group_name } => {
                let index = self.groups.iter().position(|group| group.name == *group_name)?;
                self.groups.remove(index);
            }
            Change::GroupRenamed { old_name, new_name } => {
                if self.group(new_name).is_some() {
                    return None;
                }
                self.group_mut(old_name)?.name.clone_from(new_name);
            }
            Change::ConversationsAdded { group_name, conversation_list } => {
                self.group_mut(group_name)?.add(conversation_list, positions)?;
            }
            Change::ConversationsDeleted { group_name, conversation_list, .. } => {
                let group = self.group_mut(group_name)?;
                for id in conversation_list {
                    let position = group.positions.remove(id)?;
                    group.members.remove(&position)?;
                }
            }
            Change::ConversationsChanged { conversation_list } => {
                for data in conversation_list {
                    let position = positions.take();
                    if data.is_none() {
                        self.data.remove(&data.conversation_id)?;
                    } else {
                        let place = self.data.entry(data.conversation_id.clone());
                        place.or_insert_with(|| (position, ConversationData::default())).1.clone_from(data);
                    }
                }
            }
        }
        Some(())
    }
}

/// Of conversations and their places, the first `limit` after a place, in order.
fn page<'a>(places: impl Iterator<Item = (&'a str, u64)>, after: u64, limit: usize) -> Vec<Member> {
    let mut members: Vec<Member> = places
        .filter(|&(_, position)| position > after)
        .map(|(id, position)| Member { conversation_id: id.to_owned(), position })
        .collect();
    members.sort_unstable_by_key(|member| member.position);
    members.truncate(limit);
    members
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl Group {
    fn contains(&self, ids: &[&str]) -> Vec<bool> {
        ids.iter().map(|&id| self.positions.contains_key(id)).collect()
    }

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
