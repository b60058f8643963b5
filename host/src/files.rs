//! Files: what several rooms do with them.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// The directory that a file is in.
#[must_use]
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The path with a suffix behind the file's name and extension.
#[must_use]
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// To write a file that, if it is made, has this mode, as far as the umask allows; without meaning except on Unix.
#[must_use]
pub fn writable(mode: u32) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    options
}

/// To write a file that, if it is made, is for this user alone: what all users have is nobody else's business.
#[must_use]
pub fn private() -> OpenOptions {
    writable(0o600)
}

/// Flushes the directory that a file is in, so that the file is found there after a loss of power.
///
/// # Errors
///
/// When the directory cannot be opened or flushed.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}
