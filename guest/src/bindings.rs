//! The types of the WIT contract, as generated.

#[cfg_attr(target_family = "wasm", expect(unsafe_code, reason = "generated code"))]
#[allow(
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
mod generated {
    wit_bindgen::generate!({
        path: "../wit",
        world: "plugin",
        ownership: Borrowing { duplicate_if_necessary: false },
        generate_unused_types: true,
        pub_export_macro: false,
        additional_derives: [PartialEq, Eq],
    });

    #[cfg(target_family = "wasm")]
    export!(Plugin);
    #[cfg(target_family = "wasm")]
    use crate::plugin::Plugin;
}

/// The operations, which the plugin exports.
pub use generated::exports::im::conversation_groups::operations;
/// The types of the contract.
pub use generated::im::conversation_groups::types;
#[cfg(target_family = "wasm")]
pub(crate) use generated::im::conversation_groups::{annotation_store, diagnostics, group_store, limits};
