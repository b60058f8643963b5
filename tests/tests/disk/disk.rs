//! A disk whose files are a directory's, and which can fail.
//!
//! It keeps, beside what the process sees, what may be left when the power goes: what was flushed for certain, and of
//! everything later, for each sector, each version that there was. A flush that fails leaves this as it is, and what it was
//! to write will not be written by a later one either, as on Linux: the system has forgotten that it has to.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tempfile::TempDir;

use super::calls::place;

/// What is written as a whole, or torn.
const SECTOR: usize = 512;
/// What the system keeps track of as a whole, in sectors.
const PAGE: usize = 8;

/// What a program does with files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Read,
    Write,
    Truncate,
    Flush,
    Unlink,
    Rename,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// There is no room: for writes. The first gets half of its bytes in.
    Full,
    /// An input/output error.
    Broken,
    /// Nothing works from this moment on, and what was not flushed may be lost.
    PowerLoss,
}

/// When something goes wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) fault: Fault,
    /// Whether it is an operation that it can happen to.
    pub(super) concerns: fn(Operation) -> bool,
    /// How many such operations still go well.
    pub(super) after: usize,
    /// Whether it stays so, until the disk is mended.
    pub(super) lasting: bool,
}

/// What is to become of an operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    Goes,
    /// It fails with this error, halfway.
    Part(c_int),
    /// It fails with this error.
    Fails(c_int),
}

/// What is left of what was not flushed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Lost,
    Kept,
    /// Something of it, decided by a seed; some sectors are torn.
    Mixed(u64),
}

type Sector = [u8; SECTOR];

/// A file's contents since it was last cut off.
#[derive(Clone, Debug)]
struct Generation {
    /// Of each sector the versions that may be on the disk, oldest first.
    sectors: Vec<Vec<Sector>>,
    sizes: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Contents {
    /// The last is what the process sees; one before it is what is on the disk where the file was cut off since.
    generations: Vec<Generation>,
    /// The pages that the next flush writes.
    dirty: BTreeSet<usize>,
    /// Whether it writes the size.
    resized: bool,
}

impl Contents {
    fn new(bytes: &[u8]) -> Self {
        let sectors = bytes.chunks(SECTOR).map(|part| {
            let mut sector = [0; SECTOR];
            sector[..part.len()].copy_from_slice(part);
            vec![sector]
        });
        let generation = Generation { sectors: sectors.collect(), sizes: vec![bytes.len()] };
        Self { generations: vec![generation], dirty: BTreeSet::new(), resized: false }
    }

    fn newest(&mut self) -> &mut Generation {
        self.generations.last_mut().expect("there is always one")
    }

    fn write(&mut self, mut offset: usize, mut bytes: &[u8]) {
        let end = offset + bytes.len();
        let newest = self.newest();
        if newest.sectors.len() * SECTOR < end {
            newest.sectors.resize(end.div_ceil(SECTOR), vec![[0; SECTOR]]);
        }
        let size = *newest.sizes.last().expect("there is always one");
        if end > size {
            newest.sizes.push(end);
        }
        let mut dirty = BTreeSet::new();
        while !bytes.is_empty() {
            let (place, start) = (offset / SECTOR, offset % SECTOR);
            let (now, later) = bytes.split_at(bytes.len().min(SECTOR - start));
            let versions = &mut newest.sectors[place];
            let mut sector = *versions.last().expect("there is always one");
            sector[start..start + now.len()].copy_from_slice(now);
            versions.push(sector);
            dirty.insert(place / PAGE);
            (offset, bytes) = (offset + now.len(), later);
        }
        // The system learns of a new size when it writes the page that has the end.
        let last = size.max(end).saturating_sub(1) / SECTOR / PAGE;
        self.resized |= dirty.contains(&last);
        self.dirty.append(&mut dirty);
    }

    fn truncate(&mut self, size: usize) {
        let old = *self.newest().sizes.last().expect("there is always one");
        if size < old {
            let mut generation = self.newest().clone();
            generation.sectors.truncate(size.div_ceil(SECTOR));
            if let Some(versions) = generation.sectors.last_mut().filter(|_| !size.is_multiple_of(SECTOR)) {
                for version in versions {
                    version[size % SECTOR..].fill(0);
                }
            }
            generation.sizes = vec![size];
            self.generations.push(generation);
            self.dirty.retain(|page| page * PAGE * SECTOR < size);
        } else if size > old {
            let newest = self.newest();
            newest.sectors.resize(size.div_ceil(SECTOR), vec![[0; SECTOR]]);
            newest.sizes.push(size);
        }
        self.resized = true;
    }

    fn flush(&mut self) {
        self.generations.drain(..self.generations.len() - 1);
        let (dirty, resized) = (std::mem::take(&mut self.dirty), std::mem::take(&mut self.resized));
        let newest = self.newest();
        for page in dirty {
            for versions in newest.sectors.iter_mut().skip(page * PAGE).take(PAGE) {
                versions.drain(..versions.len() - 1);
            }
        }
        if resized {
            newest.sizes.drain(..newest.sizes.len() - 1);
        }
    }

    fn fail_to_flush(&mut self) {
        self.dirty.clear();
        self.resized = false;
    }

    fn left(&self, random: &mut Option<fastrand::Rng>, oldest: bool) -> Vec<u8> {
        let generation = pick(&self.generations, random, oldest);
        let size = *pick(&generation.sizes, random, oldest);
        let mut bytes = Vec::with_capacity(size + SECTOR);
        for versions in &generation.sectors {
            let mut sector = *pick(versions, random, oldest);
            if let Some(random) = random
                && versions.len() > 1
                && random.u8(..4) == 0
            {
                let cut = random.usize(..SECTOR);
                let other = random.choice(versions).expect("there is always one");
                sector[cut..].copy_from_slice(&other[cut..]);
            }
            bytes.extend_from_slice(&sector);
        }
        bytes.resize(size, 0);
        bytes
    }
}

/// One of these, which are never none.
fn pick<'a, T>(versions: &'a [T], random: &mut Option<fastrand::Rng>, oldest: bool) -> &'a T {
    let last = versions.len() - 1;
    let place = match random {
        Some(random) => random.usize(..=last),
        None if oldest => 0,
        None => last,
    };
    &versions[place]
}

#[derive(Debug, Default)]
struct State {
    files: Vec<Contents>,
    /// Which file had a name, oldest first. The last is what the process sees; the first is on the disk.
    names: BTreeMap<String, Vec<Option<usize>>>,
    done: BTreeMap<Operation, usize>,
    plan: Option<Plan>,
    /// Whether the half of a write that found the disk full was taken.
    halved: bool,
    off: bool,
    /// Whether a read has failed.
    misread: bool,
}

impl State {
    fn verdict(&mut self, operation: Operation) -> Verdict {
        *self.done.entry(operation).or_default() += 1;
        if self.off {
            return Verdict::Fails(libc::EIO);
        }
        let Some(plan) = self.plan.as_mut().filter(|plan| (plan.concerns)(operation)) else { return Verdict::Goes };
        if let Some(after) = plan.after.checked_sub(1) {
            plan.after = after;
            return Verdict::Goes;
        }
        let fault = plan.fault;
        if fault == Fault::Full && !std::mem::replace(&mut self.halved, true) {
            return Verdict::Part(libc::ENOSPC);
        }
        if !plan.lasting {
            self.plan = None;
        }
        self.off = fault == Fault::PowerLoss;
        self.misread |= operation == Operation::Read;
        match fault {
            Fault::Full => Verdict::Fails(libc::ENOSPC),
            Fault::Broken | Fault::PowerLoss => Verdict::Part(libc::EIO),
        }
    }

    /// The file of a name, which is new if nobody has written to it.
    fn file(&mut self, name: &str) -> &mut Contents {
        let versions = self.names.entry(name.to_owned()).or_insert_with(|| vec![None]);
        let number = match versions.last().copied().flatten() {
            Some(number) => number,
            None => {
                self.files.push(Contents::new(&[]));
                versions.push(Some(self.files.len() - 1));
                self.files.len() - 1
            }
        };
        &mut self.files[number]
    }

    fn name(&mut self, name: &str, file: Option<usize>) {
        self.names.entry(name.to_owned()).or_insert_with(|| vec![None]).push(file);
    }
}

/// A disk that can fail.
#[derive(Debug)]
pub(super) struct Disk {
    directory: TempDir,
    root: PathBuf,
    state: Mutex<State>,
}

/// All that there are.
static DISKS: Mutex<Vec<Weak<Disk>>> = Mutex::new(Vec::new());

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    /// One with these files, all of them there for certain.
    pub(super) fn with(files: &BTreeMap<String, Vec<u8>>) -> Arc<Self> {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let mut state = State::default();
        for (name, bytes) in files {
            std::fs::write(directory.path().join(name), bytes).expect("there is room");
            state.files.push(Contents::new(bytes));
            state.names.insert(name.clone(), vec![Some(state.files.len() - 1)]);
        }
        let root = directory.path().canonicalize().expect("it is there");
        let disk = Arc::new(Self { directory, root, state: Mutex::new(state) });
        locked(&DISKS).push(Arc::downgrade(&disk));
        disk
    }

    /// An empty one.
    pub(super) fn new() -> Arc<Self> {
        Self::with(&BTreeMap::new())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Lets something go wrong, and counts operations anew.
    pub(super) fn plan(&self, plan: Plan) {
        let mut state = locked(&self.state);
        (state.plan, state.halved) = (Some(plan), false);
    }

    /// Lets everything work again, but for what only a restart of the machine brings back.
    pub(super) fn mend(&self) {
        locked(&self.state).plan = None;
    }

    /// Whether what was read may be said to be damaged: SQLite takes a page that cannot be read for that.
    pub(super) fn may_not_be_read(&self) -> bool {
        let state = locked(&self.state);
        state.off || state.misread
    }

    pub(super) fn is_off(&self) -> bool {
        locked(&self.state).off
    }

    /// Turns the power off.
    pub(super) fn turn_off(&self) {
        locked(&self.state).off = true;
    }

    /// How many of these operations there were.
    pub(super) fn done(&self, concerns: fn(Operation) -> bool) -> usize {
        locked(&self.state).done.iter().filter(|(operation, _)| concerns(**operation)).map(|(_, count)| count).sum()
    }

    /// The disk as it is when the power is back.
    pub(super) fn after_power_loss(&self, fate: Fate) -> Arc<Self> {
        let mut state = locked(&self.state);
        self.look(&mut state);
        let (mut random, oldest) = match fate {
            Fate::Lost => (None, true),
            Fate::Kept => (None, false),
            Fate::Mixed(seed) => (Some(fastrand::Rng::with_seed(seed)), false),
        };
        let mut files = BTreeMap::new();
        for (name, versions) in &state.names {
            if let Some(file) = *pick(versions, &mut random, oldest) {
                files.insert(name.clone(), state.files[file].left(&mut random, oldest));
            }
        }
        drop(state);
        Self::with(&files)
    }

    /// Fails unless what is remembered as what the process sees is what it sees.
    pub(super) fn assert_complete(&self) {
        let seen: BTreeMap<String, Vec<u8>> = std::fs::read_dir(self.directory.path())
            .expect("it is there")
            .map(|entry| entry.expect("it is there").path())
            .filter_map(|path| Some((watched(place(&path)?.1)?.to_owned(), std::fs::read(&path).ok()?)))
            .collect();
        let mut state = locked(&self.state);
        self.look(&mut state);
        let known: BTreeMap<String, Vec<u8>> = state
            .names
            .iter()
            .filter_map(|(name, versions)| {
                let file = versions.last().copied().flatten()?;
                Some((name.clone(), state.files[file].left(&mut None, false)))
            })
            .collect();
        let unlike = |name: &&String| seen.get(*name) != known.get(*name);
        let unlike: BTreeSet<&String> = seen.keys().chain(known.keys()).filter(unlike).collect();
        assert!(unlike.is_empty(), "system calls were not seen that changed {unlike:?}");
    }

    /// Takes note of files that were made and not written to.
    fn look(&self, state: &mut State) {
        let entries = std::fs::read_dir(self.directory.path()).into_iter().flatten().flatten();
        for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
            if watched(&name).is_some() {
                state.file(&name);
            }
        }
    }

    /// Whether there are any.
    pub(super) fn any() -> bool {
        !locked(&DISKS).is_empty()
    }

    fn of(root: &Path) -> Option<Arc<Self>> {
        let mut disks = locked(&DISKS);
        disks.retain(|disk| disk.strong_count() > 0);
        disks.iter().filter_map(Weak::upgrade).find(|disk| disk.root == root)
    }

    fn find(path: &Path) -> Option<(Arc<Self>, &str)> {
        let (root, name) = place(path)?;
        Some((Self::of(root)?, name))
    }

    /// Before a file is read.
    pub(super) fn read(path: &Path) -> Verdict {
        Self::find(path).map_or(Verdict::Goes, |(disk, _)| locked(&disk.state).verdict(Operation::Read))
    }

    /// Instead of writing `count` bytes at an offset: who writes is told how many, and answers what to return and what was
    /// written.
    pub(super) fn write<'a>(
        path: &Path,
        offset: usize,
        count: usize,
        write: impl FnOnce(usize, Verdict) -> (isize, &'a [u8]),
    ) -> isize {
        let Some((disk, name)) = Self::find(path) else { return write(count, Verdict::Goes).0 };
        let mut state = locked(&disk.state);
        let (count, verdict) = match state.verdict(Operation::Write) {
            // The system says how much it could take; only the next write fails.
            Verdict::Part(libc::ENOSPC) if count > 1 => (count / 2, Verdict::Goes),
            verdict => (count, verdict),
        };
        let (answer, written) = write(count, verdict);
        if let Some(name) = watched(name) {
            state.file(name).write(offset, written);
        }
        answer
    }

    /// Instead of giving a file another size: who does it is told with what error not to.
    pub(super) fn truncate(path: &Path, size: usize, truncate: impl FnOnce(Option<c_int>) -> isize) -> isize {
        let Some((disk, name)) = Self::find(path) else { return truncate(None) };
        let mut state = locked(&disk.state);
        let error = state.verdict(Operation::Truncate).error();
        if let Some(name) = watched(name).filter(|_| error.is_none()) {
            state.file(name).truncate(size);
        }
        truncate(error)
    }

    /// Instead of flushing a file or a directory: with what error it fails.
    pub(super) fn flush(path: &Path) -> Option<c_int> {
        let (disk, name) = match Self::of(path) {
            Some(disk) => (disk, None),
            None => Self::find(path).map(|(disk, name)| (disk, Some(name)))?,
        };
        let mut state = locked(&disk.state);
        let error = state.verdict(Operation::Flush).error();
        match (name.map(watched), error) {
            (None, None) => {
                disk.look(&mut state);
                state.names.values_mut().for_each(|versions| drop(versions.drain(..versions.len() - 1)));
            }
            (Some(Some(name)), None) => state.file(name).flush(),
            (Some(Some(name)), Some(_)) if !state.off => state.file(name).fail_to_flush(),
            _ => {}
        }
        error
    }

    /// Instead of removing a file, as [`Disk::truncate`].
    pub(super) fn unlink(path: &Path, unlink: impl FnOnce(Option<c_int>) -> isize) -> isize {
        let Some((disk, name)) = Self::find(path) else { return unlink(None) };
        let mut state = locked(&disk.state);
        let answer = unlink(state.verdict(Operation::Unlink).error());
        if let Some(name) = watched(name).filter(|_| answer == 0) {
            state.name(name, None);
        }
        answer
    }

    /// Instead of renaming a file, as [`Disk::truncate`].
    pub(super) fn rename(from: &Path, to: &Path, rename: impl FnOnce(Option<c_int>) -> isize) -> isize {
        let (Some((disk, from)), Some((_, to))) = (Self::find(from), Self::find(to)) else { return rename(None) };
        let mut state = locked(&disk.state);
        disk.look(&mut state);
        let answer = rename(state.verdict(Operation::Rename).error());
        if answer == 0 {
            let file = state.names.get(from).and_then(|versions| versions.last().copied().flatten());
            state.name(to, file);
            state.name(from, None);
        }
        answer
    }
}

impl Verdict {
    fn error(self) -> Option<c_int> {
        match self {
            Self::Goes => None,
            Self::Part(error) | Self::Fails(error) => Some(error),
        }
    }
}

/// A name whose contents matter after a restart. SQLite's shared memory and the lock file have nothing to keep, and one that
/// was removed while it was open cannot be found again.
fn watched(name: &str) -> Option<&str> {
    let forgotten =
        name.ends_with("-shm") || name.ends_with("-lock") || name.ends_with("-history") || name.ends_with(" (deleted)");
    (!forgotten).then_some(name)
}
