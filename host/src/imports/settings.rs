//! `settings`: the limits in force.

use crate::bindings::settings::{Host, WhenFull};
use crate::sandbox::CallState;
use crate::settings;

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

    fn group_full(&mut self) -> wasmtime::Result<WhenFull> {
        Ok(match self.limits.when_full {
            settings::WhenFull::Refuse => WhenFull::Refuse,
            settings::WhenFull::EvictOldest => WhenFull::EvictOldest,
        })
    }

    fn max_marked_conversations(&mut self) -> wasmtime::Result<u32> {
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
}
