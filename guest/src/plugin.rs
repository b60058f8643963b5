//! The rules as a plugin: exports over [`Rules`], the traits over imports, and what a program without a standard library
//! has to bring along.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use crate::bindings::exported::{
    ConversationFilter, ConversationOperationResult, ConversationPage, ConversationSearchResult, Guest, OperationError,
};
use crate::bindings::imported::diagnostics;
use crate::bindings::imported::group_store::{self, Addition, Member, StoreError};
use crate::bindings::imported::mark_store::{self, ConversationData};
use crate::bindings::imported::settings::{self, WhenFull};
use crate::{GroupStore, MarkStore, Rules, Settings};

/// The exports of the world.
pub(crate) struct Plugin;

const RULES: fn() -> Rules<Host, Host> = || Rules::new(Host, Host);

impl Guest for Plugin {
    fn create_conversation_group(
        group_name: String,
        conversation_id_list: Vec<String>,
    ) -> Result<Vec<ConversationOperationResult>, OperationError> {
        RULES().create_conversation_group(&group_name, conversation_id_list)
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
        conversation_id_list: Vec<String>,
    ) -> Result<Vec<ConversationOperationResult>, OperationError> {
        RULES().add_conversations_to_group(&group_name, conversation_id_list)
    }

    fn delete_conversations_from_group(
        group_name: String,
        conversation_id_list: Vec<String>,
    ) -> Result<Vec<ConversationOperationResult>, OperationError> {
        RULES().delete_conversations_from_group(&group_name, conversation_id_list)
    }

    fn mark_conversation(
        mark_type: u64,
        enable_mark: bool,
        conversation_id_list: Vec<String>,
    ) -> Result<Vec<ConversationOperationResult>, OperationError> {
        RULES().mark_conversation(mark_type, enable_mark, conversation_id_list)
    }

    fn set_conversation_custom_data(
        custom_data: String,
        conversation_id_list: Vec<String>,
    ) -> Result<Vec<ConversationOperationResult>, OperationError> {
        RULES().set_conversation_custom_data(&custom_data, conversation_id_list)
    }

    fn get_conversation_list_by_filter(
        filter: ConversationFilter,
        next_seq: u64,
        count: u32,
    ) -> Result<ConversationPage, OperationError> {
        RULES().get_conversation_list_by_filter(&filter, next_seq, count)
    }

    fn search_conversations(
        conversation_id_list: Vec<String>,
    ) -> Result<Vec<ConversationSearchResult>, OperationError> {
        RULES().search_conversations(conversation_id_list)
    }
}

/// The host's side of the traits.
struct Host;

impl GroupStore for Host {
    fn list_groups(&mut self) -> Vec<String> {
        group_store::list_groups()
    }
    fn create_group(&mut self, name: &str, conversation_ids: &[&str]) -> Result<u32, StoreError> {
        group_store::create_group(name, conversation_ids)
    }
    fn remove_group(&mut self, name: &str) -> Result<(), StoreError> {
        group_store::remove_group(name)
    }
    fn rename_group(&mut self, old_name: &str, new_name: &str) -> Result<(), StoreError> {
        group_store::rename_group(old_name, new_name)
    }
    fn add_conversations(&mut self, group: &str, conversation_ids: &[&str]) -> Result<Addition, StoreError> {
        group_store::add_conversations(group, conversation_ids)
    }
    fn remove_conversations(&mut self, group: &str, conversation_ids: &[&str]) -> Result<Vec<bool>, StoreError> {
        group_store::remove_conversations(group, conversation_ids)
    }
    fn evict_oldest(&mut self, group: &str, count: u32) -> Result<Vec<String>, StoreError> {
        group_store::evict_oldest(group, count)
    }
    fn page_conversations(&mut self, group: Option<&str>, after: u64, limit: u32) -> Result<Vec<Member>, StoreError> {
        group_store::page_conversations(group, after, limit)
    }
    fn memberships(&mut self, conversation_ids: &[&str]) -> Vec<Vec<String>> {
        group_store::memberships(conversation_ids)
    }
}

impl MarkStore for Host {
    fn get_conversation_data(&mut self, conversation_ids: &[&str]) -> Vec<ConversationData> {
        mark_store::get_conversation_data(conversation_ids)
    }
    fn page_annotated_conversations(&mut self, after: u64, limit: u32) -> Vec<Member> {
        mark_store::page_annotated_conversations(after, limit)
    }
    fn set_conversation_data(&mut self, data: &[ConversationData]) -> u32 {
        mark_store::set_conversation_data(&data.iter().collect::<Vec<_>>())
    }
}

impl Settings for Host {
    fn max_groups(&self) -> u32 {
        settings::max_groups()
    }
    fn max_group_name_bytes(&self) -> u32 {
        settings::max_group_name_bytes()
    }
    fn max_conversation_id_bytes(&self) -> u32 {
        settings::max_conversation_id_bytes()
    }
    fn max_conversations_per_call(&self) -> u32 {
        settings::max_conversations_per_call()
    }
    fn max_conversations_per_search(&self) -> u32 {
        settings::max_conversations_per_search()
    }
    fn max_conversations_per_page(&self) -> u32 {
        settings::max_conversations_per_page()
    }
    fn max_conversations_per_group(&self) -> u32 {
        settings::max_conversations_per_group()
    }
    fn group_full(&self) -> WhenFull {
        settings::group_full()
    }
    fn max_marked_conversations(&self) -> u32 {
        settings::max_marked_conversations()
    }
    fn max_custom_data_bytes(&self) -> u32 {
        settings::max_custom_data_bytes()
    }
    fn allow_empty_creation(&self) -> bool {
        settings::allow_empty_creation()
    }
    fn allow_unusual_group_names(&self) -> bool {
        settings::allow_unusual_group_names()
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
