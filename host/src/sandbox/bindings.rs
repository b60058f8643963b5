//! What wasmtime generates from the WIT contract.

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
        ownership: Owning,
        imports: { default: trappable },
        trappable_error_type: {
            "im:conversation-groups/types.creation-error" => crate::store::TransactionError,
            "im:conversation-groups/types.lookup-error" => crate::store::TransactionError,
            "im:conversation-groups/types.rename-error" => crate::store::TransactionError,
        },
    });
}

pub(super) use generated::exports::im::conversation_groups::operations;
pub(super) use generated::im::conversation_groups::{annotation_store, diagnostics, group_store, limits, types};
pub(super) use generated::{Plugin, PluginPre};
