//! The rules as a plugin: exports over [`Rules`], the traits over imports, and what a program without a standard library
//! has to bring along.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use crate::bindings::operations::Guest;
use crate::bindings::types::{
    Addition, Annotation, ConversationFilter, ConversationOperationResult, ConversationPage, ConversationSearchResult,
    CreationError, LookupError, Member, OperationError, RenameError, WhenFullPolicy,
};
use crate::bindings::{annotation_store, diagnostics, group_store, limits};
use crate::{AnnotationStore, GroupStore, Limits, Rules};

/// The exports of the world.
pub(crate) struct Plugin;

const RULES: fn() -> Rules<Host, Host> = || Rules::new(Host, Host);

impl Guest for Plugin {
    fn create_conversation_group(
        group_name: String,
        conversation_ids: Vec<String>,
    ) -> Result<Vec<ConversationOperationResult>, OperationError> {
        RULES().create_conversation_group(&group_name, conversation_ids)
    }

    fn get_conversation_group_list() -> Result<Vec<String>, OperationError> {
        RULES().get_conversation_group_list()
    }

    fn delete_conversation_group(group_name: String) -> Result<(), OperationError> {
        RULES().delete_conversation_group(&group_name)
    }

    fn rename_conversation_group(old_name: String, new_name: String) -> Result<(), OperationError> {
        RULES().rename_conversation_group(&old_name, &new_name)
    }

    fn add_conversations_to_group(
        group_name: String,
        conversation_ids: Vec<String>,
    ) -> Result<Vec<ConversationOperationResult>, OperationError> {
        RULES().add_conversations_to_group(&group_name, conversation_ids)
    }

    fn delete_conversations_from_group(
        group_name: String,
        conversation_ids: Vec<String>,
    ) -> Result<Vec<ConversationOperationResult>, OperationError> {
        RULES().delete_conversations_from_group(&group_name, conversation_ids)
    }

    fn mark_conversation(
        mark_type: u64,
        enable_mark: bool,
        conversation_ids: Vec<String>,
    ) -> Result<Vec<ConversationOperationResult>, OperationError> {
        RULES().mark_conversation(mark_type, enable_mark, conversation_ids)
    }

    fn set_conversation_custom_data(
        custom_data: String,
        conversation_ids: Vec<String>,
    ) -> Result<Vec<ConversationOperationResult>, OperationError> {
        RULES().set_conversation_custom_data(&custom_data, conversation_ids)
    }

    fn get_conversation_list_by_filter(
        filter: ConversationFilter,
        next_seq: u64,
        count: u32,
    ) -> Result<ConversationPage, OperationError> {
        RULES().get_conversation_list_by_filter(&filter, next_seq, count)
    }

    fn search_conversations(conversation_ids: Vec<String>) -> Result<Vec<ConversationSearchResult>, OperationError> {
        RULES().search_conversations(conversation_ids)
    }
}

/// The host's side of the traits.
struct Host;

impl GroupStore for Host {
    fn list_groups(&mut self) -> Vec<String> {
        group_store::list_groups()
    }
    fn create_group(&mut self, group_name: &str, conversation_ids: &[&str]) -> Result<u32, CreationError> {
        group_store::create_group(group_name, conversation_ids)
    }
    fn remove_group(&mut self, group_name: &str) -> Result<(), LookupError> {
        group_store::remove_group(group_name)
    }
    fn rename_group(&mut self, old_name: &str, new_name: &str) -> Result<(), RenameError> {
        group_store::rename_group(old_name, new_name)
    }
    fn add_conversations(&mut self, group_name: &str, conversation_ids: &[&str]) -> Result<Addition, LookupError> {
        group_store::add_conversations(group_name, conversation_ids)
    }
    fn remove_conversations(&mut self, group_name: &str, conversation_ids: &[&str]) -> Result<Vec<bool>, LookupError> {
        group_store::remove_conversations(group_name, conversation_ids)
    }
    fn evict_oldest(&mut self, group_name: &str, count: u32) -> Result<Vec<String>, LookupError> {
        group_store::evict_oldest(group_name, count)
    }
    fn page_conversations(
        &mut self,
        group_name: Option<&str>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Member>, LookupError> {
        group_store::page_conversations(group_name, after, limit)
    }
    fn memberships(&mut self, conversation_ids: &[&str]) -> Vec<Vec<String>> {
        group_store::memberships(conversation_ids)
    }
}

impl AnnotationStore for Host {
    fn get_annotations(&mut self, conversation_ids: &[&str]) -> Vec<Annotation> {
        annotation_store::get_annotations(conversation_ids)
    }
    fn page_annotated_conversations(&mut self, after: u64, limit: u32) -> Vec<Member> {
        annotation_store::page_annotated_conversations(after, limit)
    }
    fn set_annotations(&mut self, annotations: &[Annotation]) -> u32 {
        annotation_store::set_annotations(&annotations.iter().collect::<Vec<_>>())
    }
}

impl Limits for Host {
    fn max_groups(&self) -> u32 {
        limits::max_groups()
    }
    fn max_group_name_bytes(&self) -> u32 {
        limits::max_group_name_bytes()
    }
    fn max_conversation_id_bytes(&self) -> u32 {
        limits::max_conversation_id_bytes()
    }
    fn max_conversations_per_call(&self) -> u32 {
        limits::max_conversations_per_call()
    }
    fn max_conversations_per_search(&self) -> u32 {
        limits::max_conversations_per_search()
    }
    fn max_conversations_per_page(&self) -> u32 {
        limits::max_conversations_per_page()
    }
    fn max_conversations_per_group(&self) -> u32 {
        limits::max_conversations_per_group()
    }
    fn when_full(&self) -> WhenFullPolicy {
        limits::when_full()
    }
    fn max_annotated_conversations(&self) -> u32 {
        limits::max_annotated_conversations()
    }
    fn max_custom_data_bytes(&self) -> u32 {
        limits::max_custom_data_bytes()
    }
    fn allow_empty_creation(&self) -> bool {
        limits::allow_empty_creation()
    }
    fn allow_unusual_group_names(&self) -> bool {
        limits::allow_unusual_group_names()
    }
    fn max_ids_per_import(&self) -> u32 {
        limits::max_ids_per_import()
    }
    fn max_members_per_page(&self) -> u32 {
        limits::max_members_per_page()
    }
}

/// Text of bounded length, without the heap: a panic may be about having run out of that.
struct LastWords {
    text: [u8; 512],
    used: usize,
}

impl Write for LastWords {
    fn write_str(&mut self, words: &str) -> core::fmt::Result {
        let room = self.text.len() - self.used;
        let fitting = &words[..words.floor_char_boundary(room)];
        self.text[self.used..self.used + fitting.len()].copy_from_slice(fitting.as_bytes());
        self.used += fitting.len();
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let mut words = LastWords { text: [0; 512], used: 0 };
    // Writing into a buffer that cuts what does not fit cannot fail.
    let _ = write!(words, "{info}");
    diagnostics::panicked(core::str::from_utf8(&words.text[..words.used]).unwrap_or_default());
    core::arch::wasm32::unreachable()
}
