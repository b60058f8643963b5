//! Compiled plugins on disk, for the next start.
//!
//! A file holds machine code, which wasmtime cannot check. Its digest is stored with it, so that a damaged file is not
//! used; and neither it nor its directory may be another user's or writable by others, because whoever can write there
//! decides what code runs.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

const DIGEST_BYTES: usize = 32;
/// Files that are kept; those that were written first go.
const MAX_FILES: usize = 32;
const SUFFIX: &str = "compiled";

#[derive(Debug)]
pub(super) struct CompileCache {
    directory: PathBuf,
    hits: AtomicUsize,
}

impl CompileCache {
    /// Opens a directory, and creates it if there is none. Nothing where it cannot be created: that costs time at every start
    /// and nothing else. A directory that others can write to is an error.
    pub(super) fn open(directory: &Path) -> Result<Option<Self>, String> {
        let unusable = |error: &dyn std::fmt::Display| {
            format!("the cache directory {} cannot be used: {error} (cache_dir, cache)", directory.display())
        };
        let mut create = DirBuilder::new();
        create.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut create, 0o700);
        if let Err(error) = create.create(directory) {
            tracing::warn!(reason = unusable(&error), "plugins are compiled at every start");
            return Ok(None);
        }
        let metadata = fs::metadata(directory).map_err(|error| unusable(&error))?;
        if let Some(reason) = others_can_write(&metadata) {
            return Err(unusable(&reason));
        }
        Ok(Some(Self { directory: directory.to_owned(), hits: AtomicUsize::new(0) }))
    }

    /// How many compilations were spared.
    pub(super) fn hits(&self) -> usize {
        self.hits.load(Ordering::Relaxed)
    }

    /// The compiled component with this SHA-256 in hex, from the cache if it is there and whole. Of all who want it at once, in
    /// this process and others, one compiles it, and the others wait for that. That the cache cannot be written to costs time
    /// at the next start and nothing else.
    pub(super) fn get_or_compile(
        &self,
        engine: &Engine,
        digest: &str,
        compile: impl FnOnce() -> wasmtime::Result<Component>,
    ) -> wasmtime::Result<Component> {
        let path = self.path(engine, digest);
        if let Some(component) = self.load(engine, &path) {
            return Ok(component);
        }
        let _turn = Turn::wait(&path);
        if let Some(component) = self.load(engine, &path) {
            return Ok(component);
        }
        let component = compile()?;
        if let Err(error) = self.write(&path, &component.serialize()?) {
            tracing::warn!(%error, file = %path.display(), "could not keep the compiled plugin");
        }
        Ok(component)
    }

    /// What was kept, if it is there, whole, and fits this engine.
    fn load(&self, engine: &Engine, path: &Path) -> Option<Component> {
        let compiled = read_whole(path)?;
        // SAFETY: these bytes are what `Component::serialize` gave to this program: their digest says that they are
        // whole, and nobody else can write to the file or the directory. Wasmtime itself checks that its version and
        // settings are the same.
        #[expect(unsafe_code, reason = "machine code cannot be checked, only where it comes from")]
        match unsafe { Component::deserialize(engine, compiled) } {
            Ok(component) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                Some(component)
            }
            Err(error) => {
                tracing::info!(%error, file = %path.display(), "compiling again");
                None
            }
        }
    }

    /// A name for what is compiled and how.
    fn path(&self, engine: &Engine, digest: &str) -> PathBuf {
        let mut settings = std::hash::DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut settings);
        self.directory.join(format!("{digest}-{:016x}.{SUFFIX}", settings.finish()))
    }

    /// Writes a file that appears under its name when it is complete.
    fn write(&self, path: &Path, compiled: &[u8]) -> io::Result<()> {
        let partial = path.with_extension(format!("{}-partial", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        // Whatever the umask says: a file that others can write to would not be read.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o644);
        let written = options.open(&partial).and_then(|mut file| {
            file.write_all(&Sha256::digest(compiled))?;
            file.write_all(compiled)?;
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
struct Turn {
    path: PathBuf,
    _locked: File,
}

impl Turn {
    /// Waits until nobody else makes the file of this name. Where files cannot be locked there are no turns.
    fn wait(path: &Path) -> Option<Self> {
        let path = path.with_extension("lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&path).and_then(|file| file.lock().map(|()| file)) {
            Ok(locked) => Some(Self { path, _locked: locked }),
            Err(error) => {
                tracing::info!(%error, file = %path.display(), "others may compile the same plugin at the same time");
                None
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

/// What was written, if the file is there, undamaged, and nobody else's to write.
fn read_whole(path: &Path) -> Option<Vec<u8>> {
    let mut opened = File::open(path).ok()?;
    // Of the file that is read, not of whatever has its name by now.
    if let Some(reason) = others_can_write(&opened.metadata().ok()?) {
        tracing::warn!(file = %path.display(), reason, "the compiled plugin is not used; compiling again");
        return None;
    }
    let mut file = Vec::new();
    opened.read_to_end(&mut file).ok()?;
    if file.len() < DIGEST_BYTES {
        return None;
    }
    let compiled = file.split_off(DIGEST_BYTES);
    let whole = file == Sha256::digest(&compiled).as_slice();
    if !whole {
        tracing::warn!(file = %path.display(), "the compiled plugin is damaged; compiling again");
    }
    whole.then_some(compiled)
}
