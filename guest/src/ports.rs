//! What the rules need from outside: the imports of the WIT world as traits.

use alloc::string::String;
use alloc::vec::Vec;

use crate::bindings::types::{Addition, Annotation, CreationError, LookupError, Member, RenameError, WhenFullPolicy};

/// The interface `group-store`: the calling user's groups inside one transaction. `wit/group-store.wit` says what each
/// function promises.
#[expect(missing_docs, reason = "documented in the WIT contract")]
#[expect(clippy::missing_errors_doc, reason = "documented in the WIT contract")]
pub trait GroupStore {
    fn list_groups(&mut self) -> Vec<String>;
    fn create_group(&mut self, group_name: &str, conversation_ids: &[&str]) -> Result<u32, CreationError>;
    fn remove_group(&mut self, group_name: &str) -> Result<(), LookupError>;
    fn rename_group(&mut self, old_name: &str, new_name: &str) -> Result<(), RenameError>;
    fn add_conversations(&mut self, group_name: &str, conversation_ids: &[&str]) -> Result<Addition, LookupError>;
    fn remove_conversations(&mut self, group_name: &str, conversation_ids: &[&str]) -> Result<Vec<bool>, LookupError>;
    fn evict_oldest(&mut self, group_name: &str, count: u32) -> Result<Vec<String>, LookupError>;
    fn page_conversations(
        &mut self,
        group_name: Option<&str>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Member>, LookupError>;
    fn memberships(&mut self, conversation_ids: &[&str]) -> Vec<Vec<String>>;
}

/// The interface `annotation-store`: the annotations of the calling user's conversations, inside the same transaction.
/// `wit/annotation-store.wit` says what each function promises.
#[expect(missing_docs, reason = "documented in the WIT contract")]
pub trait AnnotationStore {
    fn get_annotations(&mut self, conversation_ids: &[&str]) -> Vec<Annotation>;
    fn page_annotated_conversations(&mut self, after: u64, limit: u32) -> Vec<Member>;
    fn set_annotations(&mut self, annotations: &[Annotation]) -> u32;
}

/// The interface `limits`: the limits in force. `wit/limits.wit` says what each means.
#[expect(missing_docs, reason = "documented in the WIT contract")]
pub trait Limits {
    fn max_groups(&self) -> u32;
    fn max_group_name_bytes(&self) -> u32;
    fn max_conversation_id_bytes(&self) -> u32;
    fn max_conversations_per_call(&self) -> u32;
    fn max_conversations_per_search(&self) -> u32;
    fn max_conversations_per_page(&self) -> u32;
    fn max_conversations_per_group(&self) -> u32;
    fn when_full(&self) -> WhenFullPolicy;
    fn max_annotated_conversations(&self) -> u32;
    fn max_custom_data_bytes(&self) -> u32;
    fn allow_empty_creation(&self) -> bool;
    fn allow_unusual_group_names(&self) -> bool;
    fn max_ids_per_import(&self) -> u32;
    fn max_members_per_page(&self) -> u32;
}
