//! `convgroups export` and `import`: everything, out of one store and into another.
//!
//! `export.rs` writes the lines of `format.rs`, into `partial.rs` on their way to a file. `import.rs` takes what `read.rs`
//! has checked, and asks `resume.rs` what of it is still to be written. What a store has comes from `stored.rs`; both work on
//! many users side by side, by `ordered.rs`.

mod export;
mod format;
mod import;
mod ordered;
mod partial;
mod read;
mod resume;
mod stored;

pub(crate) use export::export;
pub(crate) use import::import;

use super::Failed;

/// How many versions of a user are left out between the one in an export and the first after its import: more than a user
/// has changes between both, should calls still reach the old store. Whoever saw one of them gets the state as a whole.
const GAP: u64 = 1000;

/// The longest line of a file, with its end. A line has one group at most, and a group at most a million conversations, whose
/// IDs have at most 1,024 bytes: those take less than 1,030 bytes each, unless very many of their characters are escaped.
const MAX_LINE_BYTES: usize = 1 << 30;
/// The longest first line: what is longer is not the first line of an export, whatever it is.
const MAX_HEADER_BYTES: usize = 1 << 10;

/// For messages about something that is there before it is imported.
const ADVICE: &str = "if an import of this file was interrupted, go on with --resume";

fn bad_line(number: u64, reason: &str) -> Failed {
    Failed::Run(format!("line {number}: {reason}"))
}
