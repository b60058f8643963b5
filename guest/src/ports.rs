//! What the rules need from outside: the imports of the WIT world as traits.

use alloc::string::String;
use alloc::vec::Vec;

use crate::bindings::imported::group_store::{Addition, Member, StoreError};
use crate::bindings::imported::mark_store::ConversationData;
use crate::bindings::imported::settings::WhenFull;

/// The interface `group-store`: the calling user's groups inside one transaction. `wit/group-store.wit` says what each
/// function promises.
#[expect(missing_docs, reason = "documented in the WIT contract")]
#[expect(clippy::missing_errors_doc, reason = "documented in the WIT contract")]
pub trait GroupStore {
    fn list_groups(&mut self) -> Vec<String>;
    fn create_group(&mut self, name: &str, conversation_ids: &[&str]) -> Result<u32, StoreError>;
    fn remove_group(&mut self, name: &str) -> Result<(), StoreError>;
    fn rename_group(&mut self, old_name: &str, new_name: &str) -> Result<(), StoreError>;
    fn add_conversations(&mut self, group: &str, conversation_ids: &[&str]) -> Result<Addition, StoreError>;
    fn remove_conversations(&mut self, group: &str, conversation_ids: &[&str]) -> Result<Vec<bool>, StoreError>;
    fn evict_oldest(&mut self, group: &str, count: u32) -> Result<Vec<String>, StoreError>;
    fn page_conversations(&mut self, group: Option<&str>, after: u64, limit: u32) -> Result<Vec<Member>, StoreError>;
    fn memberships(&mut self, conversation_ids: &[&str]) -> Vec<Vec<String>>;
}

/// The interface `mark-store`: marks and custom data of the calling user's conversations, inside the same transaction.
/// `wit/mark-store.wit` says what each function promises.
#[expect(missing_docs, reason = "documented in the WIT contract")]
pub trait MarkStore {
    fn get_conversation_data(&mut self, conversation_ids: &[&str]) -> Vec<ConversationData>;
    fn page_annotated_conversations(&mut self, after: u64, limit: u32) -> Vec<Member>;
    fn set_conversation_data(&mut self, data: &[ConversationData]) -> u32;
}

/// The interface `settings`: the limits in force. `wit/settings.wit` says what each means.
#[expect(missing_docs, reason = "documented in the WIT contract")]
pub trait Settings {
    fn max_groups(&self) -> u32;
    fn max_group_name_bytes(&self) -> u32;
    fn max_conversation_id_bytes(&self) -> u32;
    fn max_conversations_per_call(&self) -> u32;
    fn max_conversations_per_search(&self) -> u32;
    fn max_conversations_per_page(&self) -> u32;
    fn max_conversations_per_group(&self) -> u32;
    fn group_full(&self) -> WhenFull;
    fn max_marked_conversations(&self) -> u32;
    fn max_custom_data_bytes(&self) -> u32;
    fn allow_empty_creation(&self) -> bool;
    fn allow_unusual_group_names(&self) -> bool;
}
