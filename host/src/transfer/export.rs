//! Out of a store.

use std::io::Write;
use std::path::Path;

use super::format::{self, Counts, Line, Tally};
use super::ordered::in_order;
use super::partial::{Begun, Partial};
use super::stored::{self, Users};
use super::{Phase, Progress, Result, TransferError};
use crate::model::UserId;
use crate::store::Store;

/// Users that are read at a time.
const READERS: usize = 8;

/// What was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// How much there is of it.
    pub counts: Counts,
    /// The SHA-256 over all lines but the last, in hexadecimal.
    pub sha256: String,
}

/// An export to a file. Until it has ended the file has the suffix `.partial`, and an export that was interrupted can be resumed.
pub struct Export<'a> {
    store: &'a dyn Store,
    partial: Partial,
    begun: Option<Begun>,
}

impl std::fmt::Debug for Export<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Export").field("store", &self.store).finish_non_exhaustive()
    }
}

impl<'a> Export<'a> {
    /// Begins an export to a file that does not exist. If one was interrupted, `resume` says to go on with it.
    ///
    /// # Errors
    ///
    /// When the file exists or cannot be made, an export was interrupted and is not to be resumed, or is of another store.
    pub fn begin(store: &'a dyn Store, file: &Path, resume: bool) -> Result<Self> {
        let (partial, begun) = Partial::open(file, resume, store)?;
        Ok(Self { store, partial, begun })
    }

    /// The last user whom the export that is resumed has written, and how much it has.
    #[must_use]
    pub fn resumed(&self) -> Option<(&UserId, Counts)> {
        self.begun.as_ref().map(|begun| (&begun.last, begun.tally.counts))
    }

    /// Writes all users; the file has its name when everything is on disk. What a user has is of one moment.
    ///
    /// # Errors
    ///
    /// When the store fails, or the file cannot be written. The export can be resumed.
    pub fn run(self, progress: &mut dyn Progress) -> Result<Exported> {
        let Self { store, mut partial, begun } = self;
        let write = |lines: &[u8]| partial.write(lines);
        let exported = match begun {
            Some(Begun { tally, last, .. }) => go_on(store, Some(last), tally, progress, write),
            None => whole(store, progress, write),
        }?;
        partial.finish()?;
        Ok(exported)
    }
}

/// Writes all users to an output. What a user has is of one moment.
///
/// # Errors
///
/// When the store fails, or the output cannot be written ([`TransferError::Output`]).
pub fn export_to(store: &dyn Store, mut output: impl Write, progress: &mut dyn Progress) -> Result<Exported> {
    let exported = whole(store, progress, |lines| output.write_all(lines).map_err(TransferError::Output))?;
    output.flush().map_err(TransferError::Output)?;
    Ok(exported)
}

fn whole(
    store: &dyn Store,
    progress: &mut dyn Progress,
    mut write: impl FnMut(&[u8]) -> Result<()>,
) -> Result<Exported> {
    let header = format::header()?;
    let mut tally = Tally::default();
    tally.add(&header, Counts::default());
    write(&header)?;
    go_on(store, None, tally, progress, write)
}

/// Writes the users after `last`, and the last line.
fn go_on(
    store: &dyn Store,
    last: Option<UserId>,
    mut tally: Tally,
    progress: &mut dyn Progress,
    mut write: impl FnMut(&[u8]) -> Result<()>,
) -> Result<Exported> {
    progress.begin(Phase::Exporting, None);
    let read = |user: UserId| {
        // What a user has is of one moment.
        let part = stored::whole(store, &user)?;
        Ok((part.encode()?, part.counts()))
    };
    let take = |(lines, counts): (Vec<u8>, Counts)| {
        write(&lines)?;
        tally.add(&lines, counts);
        progress.advance(0, &tally.counts);
        Ok(())
    };
    in_order(READERS, Users::after(store, last), |user| user, read, take)?;
    write(&Line::End(tally.end()).encode()?)?;
    Ok(Exported { counts: tally.counts, sha256: tally.sha256() })
}
