//! The types of the WIT contract, as generated; and the same for the worlds that only one example has.

/// Generates bindings in a module `bindings`. Takes what `wit_bindgen::generate!` takes between its braces.
#[macro_export]
macro_rules! bindings {
    ($($options:tt)*) => {
        #[allow(
            missing_docs,
            unreachable_pub,
            unsafe_code,
            rust_2018_idioms,
            clippy::all,
            clippy::pedantic,
            clippy::undocumented_unsafe_blocks,
            clippy::allow_attributes_without_reason,
            reason = "generated code"
        )]
        mod bindings {
            wit_bindgen::generate!({ $($options)* });
        }
    };
}

mod generated {
    crate::bindings! {
        path: "../../wit",
        world: "plugin",
        ownership: Borrowing { duplicate_if_necessary: false },
        pub_export_macro: true,
        default_bindings_module: "test_guests::bindings",
    }
    pub use bindings::*;
}

pub use generated::*;
