//! `FILE.partial`: an export on its way. What interrupts it leaves it there, and another run can go on with it.

use std::cmp::Ordering;
use std::fs::{File, TryLockError};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::format::{self, Counts, Tally};
use super::read::{FilePart, Parts};
use super::stored::Users;
use super::{Result, TransferError};
use crate::files::{private, sync_parent, with_suffix};
use crate::model::UserId;
use crate::store::Store;

/// What of an export is there: whole users.
pub(super) struct Begun {
    pub(super) tally: Tally,
    pub(super) last: UserId,
    /// How many bytes that is.
    end: u64,
}

/// The file, locked against a second export.
pub(super) struct Partial {
    path: PathBuf,
    destination: PathBuf,
    output: BufWriter<File>,
}

impl Partial {
    /// Makes the file; or, where an export was interrupted, cuts off what does not make a whole user.
    pub(super) fn open(destination: &Path, resume: bool, store: &dyn Store) -> Result<(Self, Option<Begun>)> {
        let path = with_suffix(destination, ".partial");
        let refused = |reason: &str| TransferError::Refused { path: destination.to_owned(), reason: reason.to_owned() };
        let failed = TransferError::file("write", &path);
        let exists = || refused("the file exists already; name a new one");
        if destination.exists() {
            return Err(exists());
        }
        let file = private().read(true).create(true).truncate(false).open(&path).map_err(&failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(refused(&format!("another export is writing {}", path.display())));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // The other export may have ended in between, and this be its file under the old name.
        if destination.exists() {
            return Err(exists());
        }
        if file.metadata().map_err(&failed)?.len() > 0 && !resume {
            return Err(TransferError::Interrupted { path: destination.to_owned(), partial: path });
        }
        let begun = begun(&file, &path, store)?;
        let end = begun.as_ref().map_or(0, |begun| begun.end);
        file.set_len(end).map_err(&failed)?;
        (&file).seek(SeekFrom::Start(end)).map_err(&failed)?;
        let partial = Self { path: path.clone(), destination: destination.to_owned(), output: BufWriter::new(file) };
        Ok((partial, begun))
    }

    pub(super) fn write(&mut self, lines: &[u8]) -> Result<()> {
        self.output.write_all(lines).map_err(TransferError::file("write", &self.path))
    }

    /// Gives the file its name, when all of it is on disk.
    pub(super) fn finish(self) -> Result<()> {
        let Self { path, destination, output } = self;
        let finish = || -> io::Result<()> {
            let file = output.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            let mut named = tempfile::TempPath::try_from_path(&path)?;
            named.disable_cleanup(true);
            named.persist_noclobber(&destination).map_err(|error| error.error)?;
            sync_parent(&destination)
        };
        finish().map_err(TransferError::file("write", &destination))
    }
}

/// What an interrupted export has written of whole users; nothing when there are none.
fn begun(file: &File, path: &Path, store: &dyn Store) -> Result<Option<Begun>> {
    let header = format::header()?;
    let unusable = |reason: &str| TransferError::NotResumable { path: path.to_owned(), reason: reason.to_owned() };
    let mut start = Vec::new();
    file.take(header.len() as u64).read_to_end(&mut start).map_err(TransferError::file("read", path))?;
    if start != header {
        let cut_off = start.len() < header.len() && header.starts_with(&start);
        return if cut_off { Ok(None) } else { Err(unusable("it is no export of this version")) };
    }
    let mut reader = file;
    reader.rewind().map_err(TransferError::file("read", path))?;
    let mut tally = Tally::default();
    tally.add(&header, Counts::default());
    let mut whole = None;
    let mut users = Users::after(store, None);
    for read in Parts::new(BufReader::new(reader))? {
        let FilePart { part, end, .. } = match read {
            Ok(read) => read,
            // What comes before it is whole.
            Err(TransferError::Line { .. }) => break,
            Err(failed) => return Err(failed),
        };
        if !is_next(&mut users, &part.user)? {
            return Err(unusable(&format!("it is of another store, where there was a user {}", part.user)));
        }
        tally.add(&part.encode()?, part.counts());
        whole = Some((end, part));
    }
    let Some((end, last)) = whole else { return Ok(None) };
    let version = store.groups(&last.user)?.version;
    if last.counters.is_some_and(|counters| counters.version > version) {
        return Err(unusable(&format!("it is of another store, where user {} had more changes", last.user)));
    }
    Ok(Some(Begun { tally, last: last.user, end }))
}

/// Whether a user is in the store, leaving out those before who have come since.
fn is_next(users: &mut Users<'_>, user: &UserId) -> Result<bool> {
    for next in users {
        match next?.cmp(user) {
            Ordering::Less => {}
            Ordering::Equal => return Ok(true),
            Ordering::Greater => break,
        }
    }
    Ok(false)
}
