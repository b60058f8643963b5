//! Where a plugin comes from, and how its file is read: within bounds of size and time, whatever kind of file it is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};

use super::PluginError;
use crate::hex::hex;
use crate::sandbox::memory_file;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// Where a plugin comes from.
#[derive(Clone, Debug)]
pub enum PluginSource {
    /// The reference plugin that is built in.
    #[cfg(feature = "bundled-plugin")]
    Bundled,
    /// A component's bytes.
    Bytes(Vec<u8>),
    /// A component in a file.
    File(PathBuf),
}

impl PluginSource {
    /// Whether the plugin is part of this program, so that it can be decoded and compiled in process without risk.
    pub(crate) fn is_trusted(&self) -> bool {
        match self {
            #[cfg(feature = "bundled-plugin")]
            Self::Bundled => true,
            Self::Bytes(_) | Self::File(_) => false,
        }
    }

    /// Copies the plugin, up to a limit in bytes, into a file that no other process can change.
    pub(super) fn read(&self, max_bytes: u64, within: &Deadline) -> Result<Component, PluginError> {
        match self {
            #[cfg(feature = "bundled-plugin")]
            Self::Bundled => Component::copy(super::BUNDLED, u64::MAX, within),
            Self::Bytes(bytes) => Component::copy(bytes.as_slice(), max_bytes, within),
            Self::File(path) => {
                let unreadable = |error: io::Error| PluginError::Unreadable(path.clone(), error.to_string());
                let file = open(path).map_err(unreadable)?;
                // The size first: a file that is too large is not read at all.
                check_size(file.metadata().map_err(unreadable)?.len(), max_bytes)?;
                Component::copy(file, max_bytes, within).map_err(|error| match error {
                    PluginError::Unreadable(_, reason) => PluginError::Unreadable(path.clone(), reason),
                    error => error,
                })
            }
        }
    }
}

/// Opens a regular file. Opening or reading anything else may wait for another program, or never end.
fn open(path: &Path) -> io::Result<File> {
    let regular = |metadata: &fs::Metadata| {
        let reason = "it is not a regular file; copy the plugin to one first";
        if metadata.is_file() { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, reason)) }
    };
    // Before opening, because opening alone starts some devices; and after, because the path may name another file by then.
    regular(&fs::metadata(path)?)?;
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

fn check_size(bytes: u64, max: u64) -> Result<(), PluginError> {
    if bytes > max { Err(PluginError::TooLarge { bytes, max }) } else { Ok(()) }
}

/// How long reading, checking and compiling a plugin may take together.
pub(super) struct Deadline {
    pub(super) at: Instant,
    max_ms: u64,
}

impl Deadline {
    /// Starts now.
    pub(super) fn after(max_ms: u64) -> Self {
        Self { at: Instant::now() + Duration::from_millis(max_ms), max_ms }
    }

    /// Returns the time that is left.
    pub(super) fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Fails when it is over.
    pub(super) fn check(&self) -> Result<(), PluginError> {
        if self.left().is_zero() { Err(self.missed()) } else { Ok(()) }
    }

    /// Returns the error for a plugin that takes longer.
    pub(super) fn missed(&self) -> PluginError {
        PluginError::TooSlow { max_ms: self.max_ms }
    }
}

/// A component's bytes, read once.
pub(super) struct Component {
    /// A file in memory that has no name.
    pub(super) file: File,
    pub(super) bytes: u64,
    /// SHA-256 in hex.
    pub(super) digest: String,
}

impl Component {
    fn copy(mut from: impl Read, max_bytes: u64, within: &Deadline) -> Result<Self, PluginError> {
        let unreadable = |error: io::Error| PluginError::Unreadable(PathBuf::new(), error.to_string());
        let no_memory = |error: io::Error| PluginError::NotExaminable(format!("there is no file in memory: {error}"));
        let mut file = memory_file().map_err(no_memory)?;
        let (mut bytes, mut digest, mut chunk) = (0, Sha256::new(), vec![0; CHUNK_BYTES]);
        loop {
            let read = match from.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => return Err(unreadable(error)),
            };
            bytes += read as u64;
            // A file can grow while it is read.
            check_size(bytes, max_bytes)?;
            within.check()?;
            let read = chunk.get(..read).unwrap_or_default();
            digest.update(read);
            file.write_all(read).map_err(no_memory)?;
        }
        Ok(Self { file, bytes, digest: hex(&digest.finalize()) })
    }

    /// Returns all bytes, for examining in this process.
    pub(super) fn read_all(&self) -> io::Result<Vec<u8>> {
        read_from_start(&self.file)
    }
}

/// Reads a file from its first byte to its last.
pub(super) fn read_from_start(mut file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
