//! The rules. Where Tencent's sources are silent or disagree, the choice made here is the README's table of rules.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::bindings::types::{ConversationOperationResult, OperationError, RenameError, WhenFullPolicy};
use crate::ids::Batch;
use crate::names;
use crate::ports::{GroupStore, Limits};

/// Result codes, with Tencent Cloud Chat's numbers (REST error codes, documents 1047/53437 to 53442).
pub mod code {
    /// Success.
    pub const OK: i32 = 0;
    /// A parameter is malformed, or a name is taken.
    pub const INVALID_PARAMETER: i32 = 50002;
    /// A call names no conversation, or too many.
    pub const BATCH_SIZE: i32 = 51006;
    /// A group would hold too many conversations, or too many would have marks or custom data.
    pub const TOO_MANY_CONVERSATIONS: i32 = 51008;
    /// There is no such group.
    pub const NO_SUCH_GROUP: i32 = 51009;
    /// The user would have too many groups.
    pub const TOO_MANY_GROUPS: i32 = 51010;
    /// A group's name is too long.
    pub const NAME_TOO_LONG: i32 = 51011;
}

/// Remarks on conversations for which there was nothing to do.
pub mod remark {
    /// To remove: it was not in the group.
    pub const NOT_IN_GROUP: &str = "not in the group";
    /// To add: it was in the group already.
    pub const ALREADY_IN_GROUP: &str = "already in the group";
    /// To mark or to give custom data: it was so already.
    pub const UNCHANGED: &str = "unchanged";
    /// The same id stood earlier in the request.
    pub const REPEATED: &str = "repeated in the request";
}

pub(crate) type Outcome<T> = Result<T, OperationError>;

pub(crate) fn refuse<T>(code: i32, desc: impl Into<String>) -> Outcome<T> {
    Err(OperationError { code, desc: desc.into() })
}

/// The operations of the interface `operations`; `wit/operations.wit` documents each. Those on groups are
/// here, the others in `marks` and `listing`.
///
/// An operation that fails may have staged changes before: it relies on its host to discard them.
#[derive(Debug)]
pub struct Rules<D, L> {
    pub(crate) store: D,
    pub(crate) limits: L,
}

#[expect(missing_docs, reason = "documented in the WIT contract")]
#[expect(clippy::missing_errors_doc, reason = "documented in the WIT contract")]
impl<D: GroupStore, L: Limits> Rules<D, L> {
    /// The rules over what is stored of one user.
    pub fn new(store: D, limits: L) -> Self {
        Self { store, limits }
    }

    pub fn create_conversation_group(
        &mut self,
        group_name: &str,
        conversation_ids: Vec<String>,
    ) -> Outcome<Vec<ConversationOperationResult>> {
        self.check_new_name("group name", group_name)?;
        let batch = if conversation_ids.is_empty() && self.limits.allow_empty_creation() {
            self.batch(conversation_ids)
        } else {
            self.checked_batch(conversation_ids)?
        };

        let distinct = batch.distinct();
        let Ok(group_count) = self.store.create_group(group_name, &distinct) else {
            return refuse_taken_name(group_name);
        };
        let max_groups = self.limits.max_groups();
        if group_count > max_groups {
            return refuse(code::TOO_MANY_GROUPS, format!("there are {max_groups} groups already, the most allowed"));
        }
        self.make_room(group_name, u32::try_from(distinct.len()).unwrap_or(u32::MAX))?;
        let all_new = alloc::vec![true; distinct.len()];
        Ok(batch.results(&all_new, ""))
    }

    pub fn get_conversation_group_list(&mut self) -> Outcome<Vec<String>> {
        Ok(self.store.list_groups())
    }

    pub fn delete_conversation_group(&mut self, group_name: &str) -> Outcome<()> {
        check_name("group name", group_name)?;
        self.store.remove_group(group_name).or_else(|_| self.refuse_unknown_group("group name", group_name))
    }

    pub fn rename_conversation_group(&mut self, old_name: &str, new_name: &str) -> Outcome<()> {
        check_name("old name", old_name)?;
        self.check_new_name("new name", new_name)?;
        match self.store.rename_group(old_name, new_name) {
            Ok(()) => Ok(()),
            Err(RenameError::NoSuchGroup) => self.refuse_unknown_group("old name", old_name),
            Err(RenameError::GroupExists) => refuse_taken_name(new_name),
        }
    }

    pub fn add_conversations_to_group(
        &mut self,
        group_name: &str,
        conversation_ids: Vec<String>,
    ) -> Outcome<Vec<ConversationOperationResult>> {
        check_name("group name", group_name)?;
        let batch = self.checked_batch(conversation_ids)?;
        let Ok(addition) = self.store.add_conversations(group_name, &batch.distinct()) else {
            return self.refuse_unknown_group("group name", group_name);
        };
        if addition.added.contains(&true) {
            self.make_room(group_name, addition.size)?;
        }
        Ok(batch.results(&addition.added, remark::ALREADY_IN_GROUP))
    }

    pub fn delete_conversations_from_group(
        &mut self,
        group_name: &str,
        conversation_ids: Vec<String>,
    ) -> Outcome<Vec<ConversationOperationResult>> {
        check_name("group name", group_name)?;
        let batch = self.checked_batch(conversation_ids)?;
        let Ok(removed) = self.store.remove_conversations(group_name, &batch.distinct()) else {
            return self.refuse_unknown_group("group name", group_name);
        };
        Ok(batch.results(&removed, remark::NOT_IN_GROUP))
    }

    /// After an addition that left a group with `size` members: enforces the limit.
    fn make_room(&mut self, group_name: &str, size: u32) -> Outcome<()> {
        let max = self.limits.max_conversations_per_group();
        let Some(surplus) = size.checked_sub(max).filter(|&surplus| surplus > 0) else { return Ok(()) };
        match self.limits.when_full() {
            WhenFullPolicy::Refuse => refuse(
                code::TOO_MANY_CONVERSATIONS,
                format!("the group would hold {size} conversations, at most {max} are allowed"),
            ),
            WhenFullPolicy::EvictOldest => self
                .store
                .evict_oldest(group_name, surplus)
                .map(drop)
                .or_else(|_| self.refuse_unknown_group("group name", group_name)),
        }
    }

    fn batch(&self, ids: Vec<String>) -> Batch {
        Batch::new(ids, self.limits.max_conversation_id_bytes())
    }

    pub(crate) fn checked_batch(&self, ids: Vec<String>) -> Outcome<Batch> {
        check_batch_size(&ids, self.limits.max_conversations_per_call())?;
        Ok(self.batch(ids))
    }

    fn check_new_name(&self, what: &str, name: &str) -> Outcome<()> {
        check_name(what, name)?;
        self.check_name_length(what, name)?;
        match names::oddity(name) {
            Some(oddity) if !self.limits.allow_unusual_group_names() => {
                refuse(code::INVALID_PARAMETER, format!("{what} {oddity}"))
            }
            _ => Ok(()),
        }
    }

    fn check_name_length(&self, what: &str, name: &str) -> Outcome<()> {
        let (bytes, max) = (name.len(), self.limits.max_group_name_bytes());
        if bytes > max as usize {
            return refuse(code::NAME_TOO_LONG, format!("{what} has {bytes} bytes, at most {max} are allowed"));
        }
        Ok(())
    }

    /// A group that exists may have a longer name than is allowed by now, so that the length is only looked at when there
    /// is no such group.
    fn refuse_unknown_group<T>(&self, what: &str, name: &str) -> Outcome<T> {
        self.check_name_length(what, name)?;
        refuse(code::NO_SUCH_GROUP, format!("there is no group named {name:?}"))
    }
}

fn check_name(what: &str, name: &str) -> Outcome<()> {
    if name.is_empty() {
        return refuse(code::INVALID_PARAMETER, format!("{what} is empty"));
    }
    if name.contains(char::is_control) {
        return refuse(code::INVALID_PARAMETER, format!("{what} has control characters"));
    }
    Ok(())
}

pub(crate) fn check_batch_size(ids: &[String], max: u32) -> Outcome<()> {
    if ids.is_empty() {
        return refuse(code::BATCH_SIZE, "the list of conversations is empty: name at least one");
    }
    if ids.len() > max as usize {
        let count = ids.len();
        return refuse(code::BATCH_SIZE, format!("the list has {count} conversations, at most {max} are allowed"));
    }
    Ok(())
}

fn refuse_taken_name<T>(name: &str) -> Outcome<T> {
    refuse(code::INVALID_PARAMETER, format!("a group named {name:?} exists already"))
}
