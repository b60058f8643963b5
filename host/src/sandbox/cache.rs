//! Compiled plugins on disk, for the next start, each with a note of the caller's: what the plugin says of itself, so that
//! nothing has to be read from the plugin's own file again.
//!
//! A file holds machine code, which wasmtime cannot check. Its digest is stored with it, so that a damaged file is not
//! used; and neither it nor its directory may be another user's or writable by others, because whoever can write there
//! decides what code runs.
//!
//! A file is the SHA-256 of all that follows, the length of the note in four bytes, the note, and the machine code.

use std::fs::{self, DirBuilder, File, Metadata, TryLockError};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::files;

use super::code;

const DIGEST_BYTES: usize = 32;
/// A longer note is not ours.
const MAX_NOTE_BYTES: u32 = 16 << 20;
/// Bytes that are copied at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// Files that are kept; those that were written first go.
const MAX_FILES: usize = 32;
const SUFFIX: &str = "compiled";
/// How often to look whether another process has finished.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(crate) struct CompileCache {
    directory: PathBuf,
    hits: AtomicUsize,
}

/// A directory that compiled plugins cannot be taken from, because other users could put code there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cache directory {} cannot be used: {reason} (cache_dir, cache)", directory.display())]
#[non_exhaustive]
pub struct UnusableCache {
    /// The directory.
    pub directory: PathBuf,
    /// Why, and what to do.
    pub reason: String,
}

/// A plugin that was compiled, and the note that goes with it.
pub(crate) struct Kept {
    pub(crate) note: Vec<u8>,
    pub(crate) component: Component,
}

/// A file being made that may take only so long.
pub(super) struct TookTooLong;

impl CompileCache {
    /// Opens a directory, and creates it if there is none. Nothing where it cannot be created: that costs time at every start
    /// and nothing else. A directory that others can write to is an error.
    pub(crate) fn open(directory: &Path) -> Result<Option<Self>, UnusableCache> {
        let unusable = |reason: String| UnusableCache { directory: directory.to_owned(), reason };
        let mut create = DirBuilder::new();
        create.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut create, 0o700);
        if let Err(error) = create.create(directory) {
            tracing::warn!(reason = %unusable(error.to_string()), "plugins are compiled at every start");
            return Ok(None);
        }
        let metadata = fs::metadata(directory).map_err(|error| unusable(error.to_string()))?;
        if let Some(reason) = others_can_write(&metadata) {
            return Err(unusable(reason.to_owned()));
        }
        Ok(Some(Self { directory: directory.to_owned(), hits: AtomicUsize::new(0) }))
    }

    /// How many compilations were spared.
    pub(super) fn hits(&self) -> usize {
        self.hits.load(Ordering::Relaxed)
    }

    /// A name for what is compiled and how: by the SHA-256 of the plugin in hex, and whatever else the result depends on.
    pub(super) fn path(&self, engine: &Engine, digest: &str, depends_on: impl Hash) -> PathBuf {
        let mut settings = std::hash::DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut settings);
        depends_on.hash(&mut settings);
        self.directory.join(format!("{digest}-{:016x}.{SUFFIX}", settings.finish()))
    }

    /// What was kept, if it is there, whole, and fits this engine.
    pub(super) fn get(&self, engine: &Engine, path: &Path) -> Option<Kept> {
        let (note, code) = read_whole(path)?;
        match code::load(engine, &code) {
            Ok(component) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                Some(Kept { note, component })
            }
            Err(error) => {
                tracing::info!(%error, file = %path.display(), "compiling again");
                None
            }
        }
    }

    /// Keeps something for the next start. That it cannot be written costs time then and nothing else.
    pub(super) fn keep(&self, path: &Path, note: &[u8], code: &File) {
        if let Err(error) = self.write(path, note, code) {
            tracing::warn!(%error, file = %path.display(), "could not keep the compiled plugin");
        }
    }

    /// Writes a file that appears under its name when it is complete.
    fn write(&self, path: &Path, note: &[u8], mut code: &File) -> io::Result<()> {
        let length = u32::try_from(note.len()).map_err(io::Error::other)?;
        let partial = path.with_extension(format!("{}-partial", std::process::id()));
        // Whatever the umask says: a file that others can write to would not be read.
        let opened = files::writable(0o644).create(true).truncate(true).open(&partial);
        let written = opened.and_then(|mut file| {
            file.write_all(&[0; DIGEST_BYTES])?;
            let mut output = Hashing { file: &mut file, digest: Sha256::new() };
            output.write_all(&length.to_le_bytes())?;
            output.write_all(note)?;
            code.rewind()?;
            copy(&mut code, &mut output)?;
            let digest = output.digest.finalize();
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&digest)?;
            fs::rename(&partial, path)
        });
        if written.is_err() {
            // Best effort: what is left of it is never read.
            let _ = fs::remove_file(&partial);
        }
        written?;
        self.prune()
    }

    fn prune(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == SUFFIX) {
                files.push((fs::metadata(&path)?.modified()?, path));
            }
        }
        files.sort_unstable();
        let surplus = files.len().saturating_sub(MAX_FILES);
        files.iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

/// Why others could write to a file or directory; nothing if they could not.
#[cfg(unix)]
fn others_can_write(metadata: &Metadata) -> Option<&'static str> {
    use std::os::unix::fs::MetadataExt;
    let owner = metadata.uid();
    if owner != rustix::process::Uid::ROOT.as_raw() && owner != rustix::process::geteuid().as_raw() {
        return Some("it belongs to another user, who so could run code; name a directory of your own");
    }
    (metadata.mode() & 0o022 != 0).then_some("others can write to it, and so could run code; chmod go-w helps")
}

#[cfg(not(unix))]
fn others_can_write(_: &Metadata) -> Option<&'static str> {
    None
}

/// A file that is locked while the one beside it is made, and is gone then. Whoever waited for it finds what was made; if that
/// came to nothing, two may try at once, which costs time and nothing else.
#[derive(Debug)]
pub(super) struct Turn {
    path: PathBuf,
    _locked: File,
}

impl Turn {
    /// Waits until no other host makes the file of this name, at most until a moment. Where files cannot be locked, several
    /// may make it.
    pub(super) fn wait(path: &Path, until: Instant) -> Result<Option<Self>, TookTooLong> {
        let path = path.with_extension("lock");
        let unlocked = |error: io::Error| {
            tracing::info!(%error, file = %path.display(), "others may compile the same plugin at the same time");
            Ok(None)
        };
        let file = match files::private().create(true).truncate(false).open(&path) {
            Ok(file) => file,
            Err(error) => return unlocked(error),
        };
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self { path, _locked: file })),
                Err(TryLockError::Error(error)) => return unlocked(error),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => return Err(TookTooLong),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK_AGAIN),
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Whoever waited before has removed it, or nobody can.
        let _ = fs::remove_file(&self.path);
    }
}

/// The note and the code that were written, if the file is there, undamaged, and nobody else's to write.
fn read_whole(path: &Path) -> Option<(Vec<u8>, File)> {
    let mut file = File::open(path).ok()?;
    // Of the file that is read, not of whatever has its name by now.
    if let Some(reason) = others_can_write(&file.metadata().ok()?) {
        tracing::warn!(file = %path.display(), reason, "the compiled plugin is not used; compiling again");
        return None;
    }
    match read_parts(&mut file) {
        Ok(None) => tracing::warn!(file = %path.display(), "the compiled plugin is damaged; compiling again"),
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "the compiled plugin cannot be read; compiling again");
        }
        Ok(read) => return read,
    }
    None
}

fn read_parts(file: &mut File) -> io::Result<Option<(Vec<u8>, File)>> {
    let mut expected = [0; DIGEST_BYTES];
    let mut length = [0; size_of::<u32>()];
    if file.metadata()?.len() < (expected.len() + length.len()) as u64 {
        return Ok(None);
    }
    file.read_exact(&mut expected)?;
    file.read_exact(&mut length)?;
    let mut digest = Sha256::new();
    digest.update(length);
    let length = u32::from_le_bytes(length);
    if length > MAX_NOTE_BYTES {
        return Ok(None);
    }
    let mut note = Vec::new();
    file.take(length.into()).read_to_end(&mut note)?;
    digest.update(&note);
    let mut code = code::memory_file()?;
    let mut output = Hashing { file: &mut code, digest };
    copy(file, &mut output)?;
    let whole = output.digest.finalize().as_slice() == expected;
    Ok(whole.then_some((note, code)))
}

fn copy(from: &mut impl Read, to: &mut Hashing<'_>) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok(()),
            read => to.write_all(chunk.get(..read).unwrap_or_default())?,
        }
    }
}

/// A file, and the digest of what is written to it.
struct Hashing<'a> {
    file: &'a mut File,
    digest: Sha256,
}

impl Hashing<'_> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.file.write_all(bytes)
    }
}
