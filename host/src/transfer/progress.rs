//! How far a transfer is.

use super::Counts;

/// What an export or an import is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// An export writes.
    Exporting,
    /// An import checks the file.
    Checking,
    /// An import writes.
    Importing,
    /// An import reads back what it wrote.
    Verifying,
}

/// Is told how far a transfer is.
pub trait Progress {
    /// A phase begins. Its file has this many bytes, if that is known.
    fn begin(&mut self, phase: Phase, bytes: Option<u64>);

    /// This many bytes of the file are done, and with them so much; always 0 bytes while exporting.
    fn advance(&mut self, bytes: u64, counts: &Counts);
}

/// Is told, and tells nobody.
impl Progress for () {
    fn begin(&mut self, _: Phase, _: Option<u64>) {}

    fn advance(&mut self, _: u64, _: &Counts) {}
}
