//! `limits`: the limits in force.

use crate::sandbox::CallState;
use crate::sandbox::bindings::limits::{Host, WhenFullPolicy};
use crate::settings::WhenFull;
use crate::store::{MAX_GROUPS, MAX_PAGE};

impl Host for CallState {
    fn max_groups(&mut self) -> wasmtime::Result<u32> {
        Ok(self.limits.max_groups)
    }

    fn max_group_name_bytes(&mut self) -> wasmtime::Result<u32> {
        Ok(self.limits.max_group_name_bytes)
    }

    fn max_conversation_id_bytes(&mut self) -> wasmtime::Result<u32> {
        Ok(self.limits.max_conversation_id_bytes)
    }

    fn max_conversations_per_call(&mut self) -> wasmtime::Result<u32> {
        Ok(self.limits.max_conversations_per_call)
    }

    fn max_conversations_per_search(&mut self) -> wasmtime::Result<u32> {
        Ok(self.limits.max_conversations_per_search)
    }

    fn max_conversations_per_page(&mut self) -> wasmtime::Result<u32> {
        Ok(self.limits.max_conversations_per_page)
    }

    fn max_conversations_per_group(&mut self) -> wasmtime::Result<u32> {
        Ok(self.limits.max_conversations_per_group)
    }

    fn when_full(&mut self) -> wasmtime::Result<WhenFullPolicy> {
        Ok(match self.limits.when_full {
            WhenFull::Refuse => WhenFullPolicy::Refuse,
            WhenFull::EvictOldest => WhenFullPolicy::EvictOldest,
        })
    }

    fn max_annotated_conversations(&mut self) -> wasmtime::Result<u32> {
        Ok(self.limits.max_marked_conversations)
    }

    fn max_custom_data_bytes(&mut self) -> wasmtime::Result<u32> {
        Ok(self.limits.max_custom_data_bytes)
    }

    fn allow_empty_creation(&mut self) -> wasmtime::Result<bool> {
        Ok(self.limits.allow_empty_creation)
    }

    fn allow_unusual_group_names(&mut self) -> wasmtime::Result<bool> {
        Ok(self.limits.allow_unusual_group_names)
    }

    fn max_ids_per_import(&mut self) -> wasmtime::Result<u32> {
        Ok(self.transaction.bounds().max_ids)
    }

    fn max_changes_per_call(&mut self) -> wasmtime::Result<u32> {
        Ok(self.transaction.bounds().max_changes)
    }

    fn max_groups_per_user(&mut self) -> wasmtime::Result<u32> {
        Ok(MAX_GROUPS)
    }

    fn max_members_per_page(&mut self) -> wasmtime::Result<u32> {
        Ok(MAX_PAGE)
    }
}
