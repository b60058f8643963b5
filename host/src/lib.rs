//! Runs conversation-group plugins: each call in a fresh WebAssembly sandbox and one transaction, all or nothing.
//!
//! Chat users sort their conversations into named groups, and mark them. A *plugin*, a component for the WIT world
//! `im:conversation-groups/plugin`, implements the operations; a [`Host`] loads it, gives every call what one user
//! has and nothing else, and keeps the result in a [`store`]. What a call changes becomes visible and durable when the
//! plugin succeeds, and vanishes when it refuses, fails, or takes too long.
//!
//! ```
//! use std::time::Duration;
//!
//! use convgroups_host::api::{CreateConversationGroup, DeleteConversationsFromGroup};
//! use convgroups_host::{Host, MemoryStore, UserId, Version};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The reference plugin is built in; `MemoryStore` forgets, `SqliteStore` does not.
//! let host = Host::builder().store(MemoryStore::new()).build()?;
//! let alice = UserId::new("alice")?;
//!
//! host.call(&alice, &CreateConversationGroup::new("Work", ["c2c_bob", "group_42"]))?;
//! let reply = host.call(&alice, &DeleteConversationsFromGroup::new("Work", ["c2c_bob", "c2c_eve"]))?;
//! assert_eq!(reply.result[0].result_info, "");
//! assert_eq!(reply.result[1].result_info, "not in the group");
//!
//! // What happened, from the beginning; a real reader would go on with `wait`.
//! let mut events = host.events(alice, Version::default());
//! assert_eq!(events.read()?.len(), 2);
//! assert!(events.wait(Duration::from_millis(1))?.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! Calls block the calling thread; from an async program they belong on its threads for blocking work.
//!
//! # Features
//!
//! | feature | what it brings |
//! |---|---|
//! | `bundled-plugin` (default) | the reference plugin, built and embedded (needs the target `wasm32-wasip1`) |
//! | `sqlite` (default) | [`SqliteStore`], the durable store |
//! | `postgres` | `PostgresStore`, which any number of hosts share |
//! | `transfer` | export of everything in a store, and import |
//! | `wasi` | plugins whose toolchain needs WASI, with nothing behind it |
//! | `openapi` | schemas of the operations' JSON, for `utoipa` |
//!
//! The HTTP server is the crate `convgroups-server`, the program is the package `convgroups`.

pub mod api;
pub mod call;
pub mod escape;
pub mod events;
pub mod files;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod hex;
pub mod marks;
#[cfg(feature = "measure")]
#[doc(hidden)]
pub mod measure;
pub mod model;
pub mod object;
pub mod plugin;
mod range;
mod sandbox;
#[cfg(feature = "openapi")]
pub mod schema;
pub mod settings;
pub mod store;
#[cfg(feature = "transfer")]
pub mod transfer;

pub use call::{BuildError, CallError, Completed, Failure, Host, HostBuilder, HostFault};
pub use model::{EventId, History, UserId, Version};
pub use plugin::{Examiner, PluginSource};
pub use sandbox::{Operation, PluginFault, PluginFaultKind, PluginNeeds, SandboxError, UnusableCache};
pub use settings::Settings;
pub use store::MemoryStore;
#[cfg(feature = "postgres")]
pub use store::PostgresStore;
#[cfg(feature = "sqlite")]
pub use store::SqliteStore;
