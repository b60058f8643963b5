//! `FILE.partial`: an export on its way. What interrupts it leaves it there, and another run can go on with it.

use std::cmp::Ordering;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use convgroups_host::UserId;
use convgroups_host::store::Store;

use super::format::{self, Counts, Tally};
use super::read::{FilePart, Parts, Unreadable};
use super::stored::Users;
use crate::Failed;

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
    pub(super) fn open(destination: &Path, resume: bool, store: &dyn Store) -> Result<(Self, Option<Begun>), Failed> {
        let path = {
            let mut name = destination.as_os_str().to_owned();
            name.push(".partial");
            PathBuf::from(name)
        };
        let refused = |reason: &str| Failed::Run(format!("could not write {}: {reason}", destination.display()));
        let failed = |error: io::Error| failed(&path, &error);
        let exists = || refused("the file exists already; name a new one");
        if destination.exists() {
            return Err(exists());
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        // Everything of all users is nobody else's business.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(failed)?;
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
        if file.metadata().map_err(failed)?.len() > 0 && !resume {
            let reason = format!("{} is there, from an export that was interrupted", path.display());
            return Err(refused(&(reason + ": go on with --resume, or remove it to begin anew")));
        }
        let begun = begun(&file, &path, store)?;
        let end = begun.as_ref().map_or(0, |begun| begun.end);
        file.set_len(end).map_err(failed)?;
        (&file).seek(SeekFrom::Start(end)).map_err(failed)?;
        let partial = Self { path: path.clone(), destination: destination.to_owned(), output: BufWriter::new(file) };
        Ok((partial, begun))
    }

    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Failed> {
        self.output.write_all(lines).map_err(|error| failed(&self.path, &error))
    }

    /// Gives the file its name, when all of it is on disk.
    pub(super) fn finish(self) -> Result<(), Failed> {
        let Self { path, destination, output } = self;
        let finish = || -> io::Result<()> {
            let file = output.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            let mut named = tempfile::TempPath::try_from_path(&path)?;
            named.disable_cleanup(true);
            named.persist_noclobber(&destination).map_err(|error| error.error)?;
            let directory = destination.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
        };
        finish().map_err(|error| failed(&destination, &error))
    }
}

fn failed(path: &Path, error: &io::Error) -> Failed {
    Failed::Run(format!("could not write {}: {error}", path.display()))
}

/// What an interrupted export has written of whole users; nothing when there are none.
fn begun(file: &File, path: &Path, store: &dyn Store) -> Result<Option<Begun>, Failed> {
    let header = format::header()?;
    let unusable = |reason: &str| Failed::Run(format!("cannot go on with {}: {reason}; remove it", path.display()));
    let mut start = Vec::new();
    file.take(header.len() as u64).read_to_end(&mut start).map_err(|error| unusable(&error.to_string()))?;
    if start != header {
        let cut_off = start.len() < header.len() && header.starts_with(&start);
        return if cut_off { Ok(None) } else { Err(unusable("it is no export of this version")) };
    }
    let mut reader = file;
    reader.rewind().map_err(|error| unusable(&error.to_string()))?;
    let mut tally = Tally::default();
    tally.add(&header, Counts::default());
    let mut whole = None;
    let mut users = Users::after(store, None);
    for read in Parts::new(BufReader::new(reader))? {
        let FilePart { part, end, .. } = match read {
            Ok(read) => read,
            Err(Unreadable::Io(failed)) => return Err(failed),
            // What comes before it is whole.
            Err(Unreadable::Line(_)) => break,
        };
        if !is_next(&mut users, &part.user)? {
            return Err(unusable(&format!("it is of another store, where there was a user {}", part.user)));
        }
        tally.add(&part.encode()?, part.counts());
        whole = Some((end, part));
    }
    let Some((end, last)) = whole else { return Ok(None) };
    let version = store.groups(&last.user).map_err(Failed::run)?.version;
    if last.counters.is_some_and(|counters| counters.version > version) {
        return Err(unusable(&format!("it is of another store, where user {} had more changes", last.user)));
    }
    Ok(Some(Begun { tally, last: last.user, end }))
}

/// Whether a user is in the store, leaving out those before who have come since.
fn is_next(users: &mut Users<'_>, user: &UserId) -> Result<bool, Failed> {
    for next in users {
        match next?.cmp(user) {
            Ordering::Less => {}
            Ordering::Equal => return Ok(true),
            Ordering::Greater => break,
        }
    }
    Ok(false)
}
