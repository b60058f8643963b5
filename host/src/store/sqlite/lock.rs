//! The store's files: held by one host, under one name, and still where they were when they were opened.
//!
//! SQLite finds the WAL by the database's path. Two hosts that reach one database by two paths have two WALs, and lose each
//! other's changes; so does a host whose database is moved while its WAL stays. SQLite detects neither.

use std::collections::BTreeSet;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;

use crate::files::{parent, private, with_suffix};
use crate::store::{StoreError, StoreErrorKind, StoreResult};

/// The databases that this process has locked.
static HELD: Mutex<BTreeSet<FileId>> = Mutex::new(BTreeSet::new());

fn unusable(message: String) -> StoreError {
    StoreError::new(StoreErrorKind::Unusable, message)
}

/// A file, whatever its name: the device and the inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FileId(u64, u64);

impl FileId {
    #[cfg(unix)]
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self(metadata.dev(), metadata.ino())
    }

    /// Files have no such number here: all are taken for the same.
    #[cfg(not(unix))]
    fn of(_: &Metadata) -> Self {
        Self(0, 0)
    }

    fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().as_ref().map(Self::of)
    }
}

/// How often a lock is tried, and the pause after each try.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// Keeps other hosts from the store for as long as it lives.
#[derive(Debug)]
pub(super) struct Lock {
    /// `PATH-lock`: held before there is a database. Hosts of all versions respect it.
    _file: File,
    database: DatabaseLock,
}

impl Lock {
    /// Locks a store, and creates its file if there is none.
    pub(super) fn take(store: &Path) -> StoreResult<Self> {
        refuse_network_file_system(store)?;
        let path = with_suffix(store, "-lock");
        let file = private().create(true).truncate(false).open(&path).map_err(|error| {
            unusable(format!("could not open the lock file {}: {error}", path.display())).caused_by(error)
        })?;
        lock(&file, &path, store)?;
        undo_putting_aside(store).map_err(|error| {
            unusable(format!("could not undo an interrupted restore of {}: {error}", store.display())).caused_by(error)
        })?;
        refuse_orphan_wal(store)?;
        check_links(store)?;
        // SQLite gives the files beside it the same permissions. An existing file keeps its own; if it cannot be created,
        // opening it says why.
        let _ = private().create_new(true).open(store);
        Ok(Self { _file: file, database: DatabaseLock::take(store)? })
    }
}

/// Locks a file of a store. Tries again for a moment: when this process starts a child, the child holds all locks of the process
/// until it runs its own program.
fn lock(file: &File, path: &Path, store: &Path) -> StoreResult<()> {
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(error)) => {
                return Err(unusable(format!("could not lock {}: {error}", path.display())).caused_by(error));
            }
        }
    }
    Err(in_use(store))
}

fn in_use(store: &Path) -> StoreError {
    let hint = "stop that one first, or use commands that only read";
    unusable(format!("{} is in use by another host; {hint}", store.display()))
}

/// A lock of the database's inode, which holds under every name and without a lock file.
///
/// SQLite locks ranges of the file by `fcntl`; on Linux `flock` does not interact with those. Elsewhere it does, and would
/// lock SQLite out: there the list of this process and the lock file are all that is held.
///
/// A process that closes any descriptor of a file loses its `fcntl` locks on it. Without SQLite's lock another program that
/// closes the database would delete the WAL. So this descriptor stays open until SQLite has closed the file, and none is
/// opened for a database that this process holds already.
#[derive(Debug)]
struct DatabaseLock {
    id: FileId,
    file: Option<File>,
}

impl DatabaseLock {
    fn take(store: &Path) -> StoreResult<Self> {
        let could_not_open =
            |error: std::io::Error| unusable(format!("could not open {}: {error}", store.display())).caused_by(error);
        let mut held = HELD.lock();
        if FileId::at(store).is_some_and(|id| held.contains(&id)) {
            return Err(in_use(store));
        }
        // For writing, so that on a layered file system it is the file that SQLite will open.
        let file = OpenOptions::new().read(true).write(true).open(store).map_err(could_not_open)?;
        let id = FileId::of(&file.metadata().map_err(could_not_open)?);
        if FileId::at(store) != Some(id) {
            return Err(unusable(format!("{} was replaced while it was opened; try again", store.display())));
        }
        if cfg!(target_os = "linux") {
            lock(&file, store, store)?;
        }
        held.insert(id);
        Ok(Self { id, file: Some(file) })
    }
}

impl Drop for DatabaseLock {
    fn drop(&mut self) {
        let mut held = HELD.lock();
        drop(self.file.take());
        held.remove(&self.id);
    }
}

/// The database, its WAL and its shared memory, as they were when a connection had opened them.
#[derive(Debug)]
pub(super) struct OpenFiles {
    store: PathBuf,
    files: [(PathBuf, Option<FileId>); 3],
}

impl OpenFiles {
    /// Notes the files of a store that was opened after it was locked.
    pub(super) fn note(store: &Path, lock: &Lock) -> StoreResult<Self> {
        let files = ["", "-wal", "-shm"].map(|suffix| {
            let path = with_suffix(store, suffix);
            let id = FileId::at(&path);
            (path, id)
        });
        if FileId::at(store) != Some(lock.database.id) {
            return Err(moved(store, store));
        }
        Ok(Self { store: store.to_owned(), files })
    }

    /// Fails if one of them is no longer at its path: what is committed would not be found there after a restart.
    pub(super) fn check(&self) -> StoreResult<()> {
        match self.files.iter().find(|(path, id)| FileId::at(path) != *id) {
            None => Ok(()),
            Some((path, _)) => Err(moved(path, &self.store)),
        }
    }
}

fn moved(path: &Path, store: &Path) -> StoreError {
    let (path, store) = (path.display(), store.display());
    let message = format!(
        "{path} was moved, removed or replaced while this host had it open, so nothing is committed any more: stop the \
         host, put {store} and {store}-wal back together, and start the host again"
    );
    StoreError::new(StoreErrorKind::Unavailable, message)
}

/// Refuses a WAL without its database, which SQLite would delete.
pub(super) fn refuse_orphan_wal(store: &Path) -> StoreResult<()> {
    let wal = with_suffix(store, "-wal");
    if !has_content(store) && has_content(&wal) {
        let (path, wal) = (store.display(), wal.display());
        return Err(unusable(format!(
            "{wal} has changes of a store that is no longer at {path}, and opening would delete them: put the store back, \
             or move {wal} away if its changes are not needed"
        )));
    }
    Ok(())
}

/// Refuses a database that is reachable under another name. Only for the start: a host that has locked the database keeps other
/// hosts out under every name, and goes on if somebody makes a link later.
pub(super) fn check_links(store: &Path) -> StoreResult<()> {
    let path = store.display();
    let Ok(metadata) = std::fs::metadata(store) else { return Ok(()) };
    let links = links(&metadata);
    if links > 1 {
        return Err(unusable(format!(
            "{path} has {links} hard links: a host on another link would have another WAL, and changes would be lost; \
             remove the other links"
        )));
    }
    if is_mount_point(store) {
        return Err(unusable(format!(
            "{path} is mounted as a single file, and its WAL would not be beside the file that is mounted: mount its \
             directory instead"
        )));
    }
    Ok(())
}

/// What SQLite keeps beside a database.
pub(super) const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Where a restore puts a store that cannot be read.
pub(super) fn aside(store: &Path) -> PathBuf {
    with_suffix(store, "-damaged")
}

/// Undoes what a restore that was interrupted has done to put a damaged store aside: the database is still at its path then,
/// and has a second name.
pub(super) fn undo_putting_aside(store: &Path) -> std::io::Result<()> {
    let aside = aside(store);
    let linked = std::fs::metadata(store).is_ok_and(|metadata| links(&metadata) > 1);
    if !linked || FileId::at(store) != FileId::at(&aside) {
        return Ok(());
    }
    for suffix in BESIDE {
        let (from, to) = (with_suffix(&aside, suffix), with_suffix(store, suffix));
        if !from.exists() {
            continue;
        }
        if has_content(&to) {
            let message = format!("{} and {} are both there: move one away", from.display(), to.display());
            return Err(std::io::Error::other(message));
        }
        std::fs::rename(from, to)?;
    }
    // Last: this name tells that there is something to undo.
    std::fs::remove_file(aside)
}

pub(super) fn has_content(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
}

#[cfg(unix)]
fn links(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

#[cfg(not(unix))]
fn links(_: &Metadata) -> u64 {
    1
}

/// Whether the kernel says that a file is mounted by itself; kernels before 5.8 do not say.
#[cfg(target_os = "linux")]
fn is_mount_point(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS)
        .is_ok_and(|status| status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Other systems mount directories only.
#[cfg(not(target_os = "linux"))]
fn is_mount_point(_: &Path) -> bool {
    false
}

/// Fails on a network file system, where locks and memory maps, which the WAL depends on, cannot be trusted.
#[cfg(target_os = "linux")]
fn refuse_network_file_system(path: &Path) -> StoreResult<()> {
    // From linux/magic.h and the file systems' own headers.
    const NETWORK: [(u32, &str); 6] = [
        (0x6969, "NFS"),
        (0x517b, "SMB"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB2"),
        (0x5346_414f, "AFS"),
        (0x00c3_6400, "Ceph"),
    ];
    let directory = parent(path);
    let status = rustix::fs::statfs(directory).map_err(|error| {
        unusable(format!("could not open the directory {}: {error}", directory.display())).caused_by(error)
    })?;
    // The kernel's type is signed on some machines; the magic numbers are 32 bits.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "compared as bit patterns")]
    let kind = status.f_type as u32;
    match NETWORK.iter().find(|(magic, _)| *magic == kind) {
        None => Ok(()),
        Some((_, name)) => Err(unusable(format!(
            "{} lies on a network file system ({name}), where SQLite is not safe; use a local disk",
            path.display()
        ))),
    }
}

#[cfg(not(target_os = "linux"))]
fn refuse_network_file_system(_path: &Path) -> StoreResult<()> {
    Ok(())
}

/// How a store is opened to be read.
#[derive(Debug)]
pub(super) enum Access {
    /// Beside a host that may be writing.
    Shared,
    /// Without a WAL and without locks, where neither can be made. The lock file, if there is one, keeps hosts away meanwhile.
    Immutable { _lock: Option<File> },
}

impl Access {
    /// On a read-only file system SQLite can read a store only as immutable, which is right if there is no WAL and no host.
    pub(super) fn to(store: &Path) -> Self {
        if can_write(parent(store)) || has_content(&with_suffix(store, "-wal")) {
            return Self::Shared;
        }
        match File::open(with_suffix(store, "-lock")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::Immutable { _lock: None },
            Ok(file) if file.try_lock_shared().is_ok() => Self::Immutable { _lock: Some(file) },
            // A host is writing, or nobody can tell whether one is.
            _ => Self::Shared,
        }
    }
}

#[cfg(unix)]
pub(super) fn can_write(directory: &Path) -> bool {
    rustix::fs::access(directory, rustix::fs::Access::WRITE_OK).is_ok()
}

#[cfg(not(unix))]
pub(super) fn can_write(_: &Path) -> bool {
    true
}
