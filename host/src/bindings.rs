//! What wasmtime generates from the WIT contract. Only `imports` and `sandbox` see it.

#[allow(
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    unsafe_code,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
mod generated {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
        imports: { default: trappable },
        trappable_error_type: {
            "im:conversation-groups/group-store.store-error" => crate::store::TransactionError,
        },
    });
}

pub(crate) use generated::exports::im::conversation_groups::conversation_groups as exported;
pub(crate) use generated::im::conversation_groups::{diagnostics, group_store, mark_store, settings};
pub(crate) use generated::{Plugin, PluginPre};
