//! Everything, out of one store and into another: lines of JSON.
//!
//! `export.rs` writes the lines of `format.rs`, into `partial.rs` on their way to a file. `import.rs` takes what `read.rs`
//! has checked, and asks `resume.rs` what of it is still to be written. What a store has comes from `stored.rs`; both work on
//! many users side by side, by `ordered.rs`.
//!
//! ```
//! use convgroups_host::MemoryStore;
//! use convgroups_host::transfer::{Export, Import, ImportOptions, Source};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let file = directory.path().join("all.ndjson");
//! let (old, new) = (MemoryStore::new(), MemoryStore::new());
//! // The last argument is told how far it is.
//! let exported = Export::begin(&old, &file, false)?.run(&mut ())?;
//!
//! // Checks all of the file before any of it is written.
//! let import = Import::check(&new, Source::file(&file)?, ImportOptions::default(), &mut ())?;
//! import.write(&mut ())?;
//! assert_eq!(import.verify(&mut ())?.sha256, Some(exported.sha256));
//! # Ok(())
//! # }
//! ```

mod error;
mod export;
mod format;
mod import;
mod ordered;
mod partial;
mod progress;
mod read;
mod resume;
mod stored;

pub use error::TransferError;
pub use export::{Export, Exported, export_to};
pub use format::Counts;
pub use import::{Import, ImportOptions, Source, Verified};
pub use progress::{Phase, Progress};

type Result<T, E = TransferError> = std::result::Result<T, E>;

/// How many versions of a user are left out between the one in an export and the first after its import: more than a user
/// has changes between both, should calls still reach the old store. Whoever saw one of them gets the state as a whole.
const GAP: u64 = 1000;

/// The longest line of a file, with its end. A line has one group at most, and a group at most a million conversations, whose
/// IDs have at most 1,024 bytes: those take less than 1,030 bytes each, unless very many of their characters are escaped.
const MAX_LINE_BYTES: usize = 1 << 30;
/// The longest first line: what is longer is not the first line of an export, whatever it is.
const MAX_HEADER_BYTES: usize = 1 << 10;
