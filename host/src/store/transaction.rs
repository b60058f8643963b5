//! One call's view of its user's groups and conversations: reads see the store and what the call staged; writes are only staged.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::overlay::{Overlay, Resolved, StagedGroup};
use super::{GroupEntry, MAX_PAGE, Member, Memberships, Store, StoreError, StoreResult, Versioned};
use crate::model::{Change, ConversationData, DeletionReason, UserId, Version};

/// The longest group name that a plugin can store, in bytes. What callers may use is a setting, and less.
pub const MAX_GROUP_NAME_BYTES: usize = 256;
/// The longest conversation id that a plugin can store, in bytes. What callers may use is a setting, and less.
pub const MAX_CONVERSATION_ID_BYTES: usize = 1024;
/// The longest custom data that a plugin can store, in bytes. What callers may use is a setting, and less.
pub const MAX_CUSTOM_DATA_BYTES: usize = 4096;

/// The most groups that a plugin can give to a user, and the most lookups (ids times groups) of one operation: what one
/// import costs the host is bounded by these, whatever the deadline says.
pub const MAX_GROUPS: u32 = 1000;
const MAX_LOOKUPS: usize = 1_000_000;

/// What a string or an entry costs the host beside its bytes.
const ENTRY_BYTES: usize = 32;

/// How much one call may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Ids in one operation.
    pub max_ids: u32,
    /// Groups and conversations changed in all.
    pub max_changes: u32,
    /// The result of one operation, in bytes: its strings, and 32 bytes for each of them. It is counted before it is made.
    pub max_result_bytes: usize,
    /// What the host may hold for the changes of the whole call, or to answer one operation, in bytes, counted likewise.
    pub max_held_bytes: usize,
}

impl Default for Bounds {
    /// Those of the default settings.
    fn default() -> Self {
        Self { max_ids: 10_000, max_changes: 10_000, max_result_bytes: 4 << 20, max_held_bytes: 16 << 20 }
    }
}

/// Why a call cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another call has changed the user's groups since this one began.
    #[error("the user's groups were changed by another call")]
    Conflict,
    /// The plugin asked for something that no plugin may ask for.
    #[error("{0}")]
    OutOfBounds(String),
}

/// Why an operation of a [`Transaction`] did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// There is no group of that name.
    #[error("no such group")]
    NoSuchGroup,
    /// There is a group of that name.
    #[error("the group exists")]
    GroupExists,
    /// The call cannot go on.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What a transaction that succeeded leaves to commit.
#[derive(Debug)]
pub struct Staged {
    /// The version that the changes were worked out on.
    pub base: Version,
    /// What changed, in order; not empty.
    pub changes: Vec<Change>,
}

/// One user's groups and conversations inside one call. `wit/group-store.wit` and `wit/mark-store.wit` say what each
/// operation promises.
#[derive(Debug)]
pub struct Transaction {
    store: Arc<dyn Store>,
    user: UserId,
    bounds: Bounds,
    /// The version that all reads must agree on; known from the first.
    base: Option<Version>,
    changes: Vec<Change>,
    staged: u64,
    staged_bytes: usize,
    /// How many conversations more than in the store have marks or custom data.
    data_growth: i32,
    longest_read: Duration,
    reading: Duration,
}

type Outcome<T> = Result<T, TransactionError>;

impl Transaction {
    /// Begins a transaction; nothing is read yet.
    pub fn new(store: Arc<dyn Store>, user: UserId, bounds: Bounds) -> Self {
        Self {
            store,
            user,
            bounds,
            base: None,
            changes: Vec::new(),
            staged: 0,
            staged_bytes: 0,
            data_growth: 0,
            longest_read: Duration::ZERO,
            reading: Duration::ZERO,
        }
    }

    /// What to commit; nothing when nothing was changed.
    #[must_use]
    pub fn into_staged(self) -> Option<Staged> {
        let base = self.base.filter(|_| !self.changes.is_empty())?;
        Some(Staged { base, changes: self.changes })
    }

    /// The longest time that the store has kept this call waiting.
    pub(crate) fn longest_read(&self) -> Duration {
        self.longest_read
    }

    /// The time that the store has kept this call waiting, all reads together.
    pub(crate) fn reading(&self) -> Duration {
        self.reading
    }

    /// What one call may ask for and stage.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The names of all groups, in the order they were created.
    ///
    /// # Errors
    ///
    /// A [`Fault`].
    pub fn list_groups(&mut self) -> Result<Vec<String>, Fault> {
        let groups = self.groups()?;
        if groups.iter().map(|group| ENTRY_BYTES + group.name.len()).sum::<usize>() > self.bounds.max_result_bytes {
            return Err(too_large("group names", self.bounds.max_result_bytes));
        }
        Ok(groups.into_iter().map(|group| group.name).collect())
    }

    /// All groups with their ids, in the order they were created. Those that the call has created have the ids that they
    /// get when it is committed.
    ///
    /// # Errors
    ///
    /// A [`Fault`].
    pub fn groups(&mut self) -> Result<Vec<GroupEntry>, Fault> {
        let stored = self.read(Store::groups)?;
        Ok(Overlay::groups(stored, &self.changes))
    }

    /// Creates a group; answers how many there are now.
    ///
    /// # Errors
    ///
    /// [`TransactionError::GroupExists`], or a [`Fault`].
    pub fn create_group(&mut self, group_name: &str, ids: &[&str]) -> Outcome<u32> {
        check_name(group_name)?;
        self.check_ids(ids)?;
        let names = self.list_groups()?;
        if names.iter().any(|existing| existing == group_name) {
            return Err(TransactionError::GroupExists);
        }
        if names.len() >= MAX_GROUPS as usize {
            return Err(Fault::OutOfBounds(format!("wanted more than {MAX_GROUPS} groups for one user")).into());
        }
        let mut seen = HashSet::new();
        let conversation_list: Vec<String> =
            ids.iter().filter(|id| seen.insert(**id)).map(|&id| id.to_owned()).collect();
        self.stage(Change::GroupCreated { group_name: group_name.to_owned(), conversation_list })?;
        Ok(count(names.len() + 1))
    }

    /// Removes a group.
    ///
    /// # Errors
    ///
    /// [`TransactionError::NoSuchGroup`], or a [`Fault`].
    pub fn remove_group(&mut self, group_name: &str) -> Outcome<()> {
        self.contains(group_name, &[])?;
        Ok(self.stage(Change::GroupDeleted { group_name: group_name.to_owned() })?)
    }

    /// Renames a group.
    ///
    /// # Errors
    ///
    /// [`TransactionError::NoSuchGroup`], [`TransactionError::GroupExists`], or a [`Fault`].
    pub fn rename_group(&mut self, old_name: &str, new_name: &str) -> Outcome<()> {
        check_name(new_name)?;
        let names = self.list_groups()?;
        let exists = |name: &str| names.iter().any(|existing| existing == name);
        if !exists(old_name) {
            return Err(TransactionError::NoSuchGroup);
        }
        if exists(new_name) {
            return Err(TransactionError::GroupExists);
        }
        Ok(self.stage(Change::GroupRenamed { old_name: old_name.to_owned(), new_name: new_name.to_owned() })?)
    }

    /// Adds conversations; answers which are new, and the size of the group afterwards.
    ///
    /// # Errors
    ///
    /// [`TransactionError::NoSuchGroup`], or a [`Fault`].
    pub fn add_conversations(&mut self, group_name: &str, ids: &[&str]) -> Outcome<(Vec<bool>, u32)> {
        self.check_ids(ids)?;
        let (present, size) = self.contains_and_size(group_name, ids)?;
        let (added, new) = pick(ids, present.iter().map(|present| !present));
        let size = size.saturating_add(count(new.len()));
        if !new.is_empty() {
            self.stage(Change::ConversationsAdded { group_name: group_name.to_owned(), conversation_list: new })?;
        }
        Ok((added, size))
    }

    /// Removes conversations; answers which were there.
    ///
    /// # Errors
    ///
    /// [`TransactionError::NoSuchGroup`], or a [`Fault`].
    pub fn remove_conversations(&mut self, group_name: &str, ids: &[&str]) -> Outcome<Vec<bool>> {
        self.check_ids(ids)?;
        let present = self.contains(group_name, ids)?;
        let (removed, leaving) = pick(ids, present.iter().copied());
        self.stage_deletion(group_name, leaving, DeletionReason::Requested)?;
        Ok(removed)
    }

    /// Removes the conversations that were added first; answers which.
    ///
    /// # Errors
    ///
    /// [`TransactionError::NoSuchGroup`], or a [`Fault`].
    pub fn evict_oldest(&mut self, group_name: &str, count: u32) -> Outcome<Vec<String>> {
        // As many as one call can change and return: a group that is far above a limit that was lowered shrinks call by call.
        let left = u64::from(self.bounds.max_changes).saturating_sub(self.staged);
        let count = count.min(self.bounds.max_ids).min(u32::try_from(left).unwrap_or(u32::MAX));
        let (mut oldest, mut bytes) = (Vec::new(), 0);
        let mut after = 0;
        // Asked at least once, so that a missing group is noticed even if none is to leave.
        'pages: loop {
            let wanted = u32::try_from(count as usize - oldest.len()).unwrap_or(MAX_PAGE);
            let page = self.page(Some(group_name), after, wanted.min(MAX_PAGE))?;
            let Some(last) = page.last() else { break };
            after = last.position;
            for member in page {
                bytes += ENTRY_BYTES + member.conversation_id.len();
                if bytes > self.bounds.max_result_bytes {
                    break 'pages;
                }
                oldest.push(member.conversation_id);
            }
            if oldest.len() == count as usize {
                break;
            }
        }
        self.stage_deletion(group_name, oldest.clone(), DeletionReason::Evicted)?;
        Ok(oldest)
    }

    /// Up to `limit` members after a place: of one group, or of all that are in some group or have marks or custom data.
    ///
    /// # Errors
    ///
    /// [`TransactionError::NoSuchGroup`], or a [`Fault`].
    pub fn page_conversations(&mut self, group_name: Option<&str>, after: u64, limit: u32) -> Outcome<Vec<Member>> {
        let page = self.page(group_name, after, limit.min(MAX_PAGE))?;
        Ok(self.check_page(page)?)
    }

    /// Returns up to `limit` conversations with marks or custom data, after a place.
    ///
    /// # Errors
    ///
    /// A [`Fault`].
    pub fn page_annotated_conversations(&mut self, after: u64, limit: u32) -> Result<Vec<Member>, Fault> {
        let limit = limit.min(MAX_PAGE);
        let page = if self.changes.is_empty() {
            self.read(|store, user| store.page_of_data(user, after, limit))?
        } else {
            let (mut bytes, max) = (0, self.bounds.max_held_bytes);
            let places = self.places_of_data(|members| {
                bytes += page_bytes(members);
                if bytes > max { Err(too_large("conversations", max)) } else { Ok(()) }
            })?;
            page_of_places(places, after, limit)
        };
        self.check_page(page)
    }

    fn check_page(&self, page: Vec<Member>) -> Result<Vec<Member>, Fault> {
        let max = self.bounds.max_result_bytes;
        if page_bytes(&page) > max { Err(too_large("conversations", max)) } else { Ok(page) }
    }

    fn page(&mut self, group_name: Option<&str>, after: u64, limit: u32) -> Outcome<Vec<Member>> {
        match group_name {
            Some(name) => self.page_of_group(name, after, limit),
            None if self.changes.is_empty() => {
                let page = self.read(|store, user| store.page(user, None, after, limit))?;
                Ok(page.unwrap_or_default())
            }
            None => self.page_of_all_staged(after, limit),
        }
    }

    /// For each id, the names of the groups that hold it.
    ///
    /// # Errors
    ///
    /// A [`Fault`].
    pub fn memberships(&mut self, ids: &[&str]) -> Result<Vec<Vec<String>>, Fault> {
        self.check_ids(ids)?;
        let Distinct { ids: distinct, places } = Distinct::of(ids);
        // So few that they are not too many lookups whatever groups there are.
        let few = distinct.len() <= MAX_LOOKUPS / MAX_GROUPS as usize;
        let names = if few && self.changes.is_empty() { Vec::new() } else { self.list_groups()? };
        if distinct.len().saturating_mul(names.len()) > MAX_LOOKUPS {
            let (ids, groups) = (distinct.len(), names.len());
            return Err(Fault::OutOfBounds(format!("looked for {ids} conversations in {groups} groups at once")));
        }
        let max = self.bounds.max_result_bytes;
        let stored = self.read(|store, user| store.memberships(user, &distinct, max / ENTRY_BYTES))?;
        let stored = stored.ok_or_else(|| too_large("memberships", max))?;
        let Memberships { groups, held } = if self.changes.is_empty() {
            stored
        } else {
            Overlay::new(&self.changes, self.base.unwrap_or_default()).memberships(&stored, names, &distinct)
        };
        let name = |index: &u32| groups.get(*index as usize).map_or("", String::as_str);
        let cost = |held: &Vec<u32>| held.iter().map(|index| ENTRY_BYTES + name(index).len()).sum::<usize>();
        let costs: Vec<usize> = held.iter().map(cost).collect();
        let at = |place: &usize| costs.get(*place).copied().unwrap_or_default();
        if places.iter().map(at).sum::<usize>() > max {
            return Err(too_large("memberships", max));
        }
        let names_of =
            |place: &usize| held.get(*place).into_iter().flatten().map(|index| name(index).to_owned()).collect();
        Ok(places.iter().map(names_of).collect())
    }

    /// For each id, its marks and custom data.
    ///
    /// # Errors
    ///
    /// A [`Fault`].
    pub fn conversation_data(&mut self, ids: &[&str]) -> Result<Vec<ConversationData>, Fault> {
        self.check_ids(ids)?;
        let Distinct { ids: distinct, places } = Distinct::of(ids);
        let mut repeats = vec![0_usize; distinct.len()];
        for &place in &places {
            repeats.get_mut(place).into_iter().for_each(|count| *count += 1);
        }
        let mut repeats = repeats.into_iter();
        let (mut found, mut bytes) = (Vec::with_capacity(distinct.len()), 0);
        for ids in distinct.chunks(MAX_PAGE as usize) {
            let mut data = self.read(|store, user| store.data(user, ids))?;
            Overlay::lay_over_data(&mut data, &self.changes);
            let costs = data.iter().map(data_bytes).zip(repeats.by_ref());
            bytes += costs.map(|(cost, repeats)| cost.saturating_mul(repeats)).sum::<usize>();
            if bytes > self.bounds.max_result_bytes {
                return Err(too_large("marks and custom data", self.bounds.max_result_bytes));
            }
            found.append(&mut data);
        }
        Ok(places.iter().filter_map(|&place| found.get(place).cloned()).collect())
    }

    /// Gives conversations other marks and custom data; of an id that is repeated, the last entry counts. Answers how many
    /// conversations have marks or custom data now.
    ///
    /// # Errors
    ///
    /// A [`Fault`].
    pub fn set_conversation_data(&mut self, data: Vec<ConversationData>) -> Result<u32, Fault> {
        data.iter().try_for_each(|data| check_custom_data(&data.custom_data))?;
        let ids: Vec<&str> = data.iter().map(|data| data.conversation_id.as_str()).collect();
        self.check_ids(&ids)?;
        let mut seen = HashSet::with_capacity(ids.len());
        let last: Vec<bool> = ids.iter().rev().map(|&id| seen.insert(id)).collect();
        let mut wanted = data.into_iter().zip(last.into_iter().rev()).filter(|(_, last)| *last).map(|(data, _)| data);

        let mut changed = Vec::new();
        let mut growth = 0;
        let mut stored = None;
        loop {
            let some: Vec<ConversationData> = wanted.by_ref().take(MAX_PAGE as usize).collect();
            if some.is_empty() {
                break;
            }
            let ids: Vec<&str> = some.iter().map(|data| data.conversation_id.as_str()).collect();
            let (mut present, count) = self.read(|store, user| store.data_and_count(user, &ids))?;
            stored = Some(count);
            Overlay::lay_over_data(&mut present, &self.changes);
            for (wanted, present) in some.into_iter().zip(present).filter(|(wanted, present)| wanted != present) {
                growth += i32::from(present.is_none()) - i32::from(wanted.is_none());
                changed.push(wanted);
            }
        }
        let stored = match stored {
            Some(count) => count,
            None => self.read(Store::data_count)?,
        };
        if !changed.is_empty() {
            self.stage(Change::ConversationsChanged { conversation_list: changed })?;
            self.data_growth += growth;
        }
        Ok(stored.saturating_add_signed(self.data_growth))
    }

    fn contains(&mut self, group_name: &str, ids: &[&str]) -> Outcome<Vec<bool>> {
        check_possible(group_name)?;
        let Some(staged) = self.touched(group_name)? else {
            let held = self.read(|store, user| store.contains(user, group_name, ids))?;
            return held.ok_or(TransactionError::NoSuchGroup);
        };
        let mut held = match &staged.stored {
            Some(name) => self.read(|store, user| store.contains(user, name, ids))?.ok_or(Fault::Conflict)?,
            None => vec![false; ids.len()],
        };
        staged.lay_over(&mut held, ids);
        Ok(held)
    }

    fn contains_and_size(&mut self, group_name: &str, ids: &[&str]) -> Outcome<(Vec<bool>, u32)> {
        check_possible(group_name)?;
        let Some(staged) = self.touched(group_name)? else {
            let held = self.read(|store, user| store.contains_and_size(user, group_name, ids))?;
            return held.ok_or(TransactionError::NoSuchGroup);
        };
        let (mut held, stored) = match &staged.stored {
            Some(name) => self.read(|store, user| store.contains_and_size(user, name, ids))?.ok_or(Fault::Conflict)?,
            None => (vec![false; ids.len()], 0),
        };
        staged.lay_over(&mut held, ids);
        let size = stored.saturating_sub(count(staged.removed.len())).saturating_add(count(staged.added.len()));
        Ok((held, size))
    }

    fn page_of_group(&mut self, group_name: &str, after: u64, limit: u32) -> Outcome<Vec<Member>> {
        check_possible(group_name)?;
        let Some(staged) = self.touched(group_name)? else {
            let page = self.read(|store, user| store.page(user, Some(group_name), after, limit))?;
            return page.ok_or(TransactionError::NoSuchGroup);
        };
        let mut page = Vec::new();
        if let Some(name) = &staged.stored {
            let mut after = after;
            // Pages of the store until enough is left of them.
            while page.len() < limit as usize {
                let stored = self.read(|store, user| store.page(user, Some(name), after, MAX_PAGE))?;
                let stored = stored.ok_or(Fault::Conflict)?;
                let Some(last) = stored.last() else { break };
                after = last.position;
                page.extend(stored.into_iter().filter(|member| !staged.removed.contains(&member.conversation_id)));
            }
        }
        let added = staged.added.into_iter().filter(|&(_, position)| position > after);
        page.extend(added.map(|(conversation_id, position)| Member { conversation_id, position }));
        page.truncate(limit as usize);
        Ok(page)
    }

    /// Merges what has marks or custom data with the groups one by one: rare, for a plugin that lists everything after it
    /// has changed something.
    fn page_of_all_staged(&mut self, after: u64, limit: u32) -> Outcome<Vec<Member>> {
        let mut bytes = 0;
        let mut charge = |members: &[Member], max: usize| {
            bytes += page_bytes(members);
            if bytes > max { Err(too_large("conversations", max)) } else { Ok(()) }
        };
        let max = self.bounds.max_held_bytes;
        let mut earliest = self.places_of_data(|members| charge(members, max))?;
        for name in self.list_groups()? {
            let mut read_to = 0;
            loop {
                let page = self.page_of_group(&name, read_to, MAX_PAGE)?;
                let Some(last) = page.last() else { break };
                read_to = last.position;
                charge(&page, max)?;
                for member in page {
                    let position = earliest.entry(member.conversation_id).or_insert(member.position);
                    *position = member.position.min(*position);
                }
            }
        }
        Ok(page_of_places(earliest, after, limit))
    }

    /// The conversations with marks or custom data, and their places.
    fn places_of_data(
        &mut self,
        mut charge: impl FnMut(&[Member]) -> Result<(), Fault>,
    ) -> Result<HashMap<String, u64>, Fault> {
        let mut stored = HashMap::new();
        let mut after = 0;
        loop {
            let page = self.read(|store, user| store.page_of_data(user, after, MAX_PAGE))?;
            let Some(last) = page.last() else { break };
            after = last.position;
            charge(&page)?;
            stored.extend(page.into_iter().map(|member| (member.conversation_id, member.position)));
        }
        Ok(Overlay::new(&self.changes, self.base.unwrap_or_default()).places_of_data(stored))
    }

    /// What was staged for a group; nothing when the call left it alone.
    fn touched(&self, name: &str) -> Outcome<Option<TouchedGroup>> {
        if self.changes.is_empty() {
            return Ok(None);
        }
        match Overlay::new(&self.changes, self.base.unwrap_or_default()).resolve(name) {
            Resolved::Missing => Err(TransactionError::NoSuchGroup),
            Resolved::Untouched => Ok(None),
            Resolved::Touched(group) => Ok(Some(TouchedGroup::from(group))),
        }
    }

    fn read<T>(&mut self, read: impl FnOnce(&dyn Store, &UserId) -> StoreResult<Versioned<T>>) -> Result<T, Fault> {
        let started = Instant::now();
        let answer = read(&*self.store, &self.user);
        let took = started.elapsed();
        self.longest_read = self.longest_read.max(took);
        self.reading += took;
        let Versioned { version, value } = answer?;
        if *self.base.get_or_insert(version) != version {
            return Err(Fault::Conflict);
        }
        Ok(value)
    }

    fn stage_deletion(&mut self, group_name: &str, leaving: Vec<String>, reason: DeletionReason) -> Outcome<()> {
        if leaving.is_empty() {
            return Ok(());
        }
        let group_name = group_name.to_owned();
        Ok(self.stage(Change::ConversationsDeleted { group_name, conversation_list: leaving, reason })?)
    }

    fn stage(&mut self, change: Change) -> Result<(), Fault> {
        self.staged += change_size(&change) as u64;
        if self.staged > u64::from(self.bounds.max_changes) {
            let max = self.bounds.max_changes;
            return Err(Fault::OutOfBounds(format!("staged more than {max} changes")));
        }
        self.staged_bytes = self.staged_bytes.saturating_add(change_bytes(&change));
        if self.staged_bytes > self.bounds.max_held_bytes {
            let max = self.bounds.max_held_bytes;
            return Err(Fault::OutOfBounds(format!("staged changes of more than {max} bytes")));
        }
        self.changes.push(change);
        Ok(())
    }

    fn check_ids(&self, ids: &[&str]) -> Result<(), Fault> {
        if ids.len() > self.bounds.max_ids as usize {
            let (count, max) = (ids.len(), self.bounds.max_ids);
            return Err(Fault::OutOfBounds(format!("passed {count} conversation ids, at most {max} are allowed")));
        }
        ids.iter().try_for_each(|id| check_text("conversation id", id, MAX_CONVERSATION_ID_BYTES))
    }
}

/// [`StagedGroup`] with texts of its own, so that the transaction can be read from meanwhile.
struct TouchedGroup {
    stored: Option<String>,
    added: Vec<(String, u64)>,
    removed: HashSet<String>,
}

impl TouchedGroup {
    /// Makes of whether the store holds ids whether the group does.
    fn lay_over(&self, held: &mut [bool], ids: &[&str]) {
        let added: HashSet<&str> = self.added.iter().map(|(id, _)| id.as_str()).collect();
        for (held, &id) in held.iter_mut().zip(ids) {
            *held = added.contains(id) || (*held && !self.removed.contains(id));
        }
    }
}

impl From<StagedGroup<'_>> for TouchedGroup {
    fn from(group: StagedGroup<'_>) -> Self {
        Self {
            stored: group.stored.map(str::to_owned),
            added: group.added.into_iter().map(|(id, position)| (id.to_owned(), position)).collect(),
            removed: group.removed.into_iter().map(str::to_owned).collect(),
        }
    }
}

/// The ids that are wanted, each once; and for each place whether it was picked.
fn pick(ids: &[&str], wanted: impl Iterator<Item = bool>) -> (Vec<bool>, Vec<String>) {
    let mut seen = HashSet::with_capacity(ids.len());
    let mut picked = Vec::with_capacity(ids.len());
    let places = ids.iter().zip(wanted).map(|(&id, wanted)| {
        let first = wanted && seen.insert(id);
        if first {
            picked.push(id.to_owned());
        }
        first
    });
    (places.collect(), picked)
}

fn change_size(change: &Change) -> usize {
    match change {
        Change::ConversationsAdded { conversation_list, .. }
        | Change::ConversationsDeleted { conversation_list, .. } => conversation_list.len(),
        Change::GroupCreated { conversation_list, .. } => conversation_list.len() + 1,
        Change::ConversationsChanged { conversation_list } => conversation_list.len(),
        Change::GroupDeleted { .. } | Change::GroupRenamed { .. } => 1,
    }
}

/// What a change costs to hold.
fn change_bytes(change: &Change) -> usize {
    let names = |names: &[String]| names.iter().map(|name| ENTRY_BYTES + name.len()).sum::<usize>();
    match change {
        Change::GroupCreated { group_name, conversation_list }
        | Change::ConversationsAdded { group_name, conversation_list }
        | Change::ConversationsDeleted { group_name, conversation_list, .. } => {
            ENTRY_BYTES + group_name.len() + names(conversation_list)
        }
        Change::GroupDeleted { group_name } => ENTRY_BYTES + group_name.len(),
        Change::GroupRenamed { old_name, new_name } => 2 * ENTRY_BYTES + old_name.len() + new_name.len(),
        Change::ConversationsChanged { conversation_list } => conversation_list.iter().map(data_bytes).sum(),
    }
}

/// What a page costs to hold, or to return.
fn page_bytes(page: &[Member]) -> usize {
    page.iter().map(|member| ENTRY_BYTES + member.conversation_id.len()).sum()
}

/// The first `limit` conversations with a place after `after`, in order.
fn page_of_places(places: HashMap<String, u64>, after: u64, limit: u32) -> Vec<Member> {
    let later = places.into_iter().filter(|&(_, position)| position > after);
    let mut page: Vec<Member> = later.map(|(conversation_id, position)| Member { conversation_id, position }).collect();
    page.sort_unstable_by_key(|member| member.position);
    page.truncate(limit as usize);
    page
}

fn data_bytes(data: &ConversationData) -> usize {
    2 * ENTRY_BYTES + data.conversation_id.len() + data.custom_data.len()
}

fn too_large(what: &str, max: usize) -> Fault {
    Fault::OutOfBounds(format!("asked for more than {max} bytes of {what} at once"))
}

/// IDs, each once, and the place of each of the given ones among them.
struct Distinct<'a> {
    ids: Vec<&'a str>,
    places: Vec<usize>,
}

impl<'a> Distinct<'a> {
    fn of(ids: &[&'a str]) -> Self {
        let mut known = HashMap::with_capacity(ids.len());
        let mut distinct = Vec::with_capacity(ids.len());
        let place = |&id: &&'a str| {
            *known.entry(id).or_insert_with(|| {
                distinct.push(id);
                distinct.len() - 1
            })
        };
        let places = ids.iter().map(place).collect();
        Self { ids: distinct, places }
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn check_name(name: &str) -> Result<(), Fault> {
    check_text("group name", name, MAX_GROUP_NAME_BYTES)
}

/// A name that no group can have is the name of no group.
fn check_possible(name: &str) -> Result<(), TransactionError> {
    check_name(name).map_err(|_| TransactionError::NoSuchGroup)
}

fn check_custom_data(text: &str) -> Result<(), Fault> {
    if text.len() > MAX_CUSTOM_DATA_BYTES {
        let bytes = text.len();
        return Err(Fault::OutOfBounds(format!("passed {bytes} bytes of custom data for one conversation")));
    }
    // Not every database can keep it.
    if text.contains('\0') {
        return Err(Fault::OutOfBounds("passed custom data with the character U+0000".to_owned()));
    }
    Ok(())
}

fn check_text(what: &str, text: &str, max_bytes: usize) -> Result<(), Fault> {
    let wrong = if text.is_empty() {
        "an empty".to_owned()
    } else if text.len() > max_bytes {
        format!("a {} bytes long", text.len())
    } else if text.contains(char::is_control) {
        "control characters in a".to_owned()
    } else {
        return Ok(());
    };
    Err(Fault::OutOfBounds(format!("passed {wrong} {what}")))
}
