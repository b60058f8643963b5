//! Small files with keys and certificates.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::usersig::InvalidKeys;

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// A file with keys or certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", .path.display())]
pub struct UnusableFile {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: FileProblem,
}

/// What is wrong with a file with keys or certificates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileProblem {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    /// It is a directory, a device or the like.
    #[error("it is not a regular file")]
    NotRegular,
    /// It is too large.
    #[error("it is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// Its text is in another encoding.
    #[error("it is in UTF-16: save it in UTF-8")]
    Utf16,
    /// Its text is in another encoding.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// It has a secret, and other users of the machine could read or replace it.
    #[error(
        "it can be {access} (mode {mode:04o}), but it contains a secret: expected mode 0600, or 0640 if it belongs to root; use \
         `chmod 600`"
    )]
    Exposed {
        /// What others could do with it.
        access: &'static str,
        /// Its mode.
        mode: u32,
    },
    /// It is not a list of keys.
    #[error(transparent)]
    Keys(#[from] InvalidKeys),
    /// It is not in PEM, or has no private key.
    #[error(transparent)]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// There is no certificate in it.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// TLS cannot be spoken with it.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

impl FileProblem {
    /// This problem, of this file.
    pub(super) fn of(self, path: &Path) -> UnusableFile {
        UnusableFile { path: path.to_owned(), problem: self }
    }
}

/// Whether other users may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrecy {
    Public,
    Secret,
}

/// The content of a file, without a byte-order mark.
pub(super) fn read(path: &Path, secrecy: Secrecy) -> Result<Vec<u8>, UnusableFile> {
    content(path, secrecy).map_err(|problem| problem.of(path))
}

fn content(path: &Path, secrecy: Secrecy) -> Result<Vec<u8>, FileProblem> {
    let file = open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(FileProblem::NotRegular);
    }
    if secrecy == Secrecy::Secret {
        check_secrecy(&metadata)?;
    }
    let mut content = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_BYTES {
        return Err(FileProblem::TooLarge);
    }
    if content.starts_with(&[0xff, 0xfe]) || content.starts_with(&[0xfe, 0xff]) {
        return Err(FileProblem::Utf16);
    }
    if content.starts_with(b"\xef\xbb\xbf") {
        content.drain(..3);
    }
    Ok(content)
}

#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    // Opening a pipe without a writer would block.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    File::options().read(true).custom_flags(flags).open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Refuses a secret that other users of the machine could read or replace, as PostgreSQL does. The group of a file that root
/// owns may read it: that is how the system's certificates and Kubernetes' mounted Secrets are shared with a service.
#[cfg(unix)]
fn check_secrecy(metadata: &Metadata) -> Result<(), FileProblem> {
    use std::os::unix::fs::MetadataExt;

    let mode = metadata.mode() & 0o7777;
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    let open = mode & forbidden;
    if open == 0 {
        return Ok(());
    }
    let access = match open {
        _ if open & 0o002 != 0 => "written to by everybody",
        _ if open & 0o020 != 0 => "written to by its group",
        _ if open & 0o004 != 0 => "read by everybody",
        _ if open & 0o040 != 0 => "read by its group",
        _ => "executed by others",
    };
    Err(FileProblem::Exposed { access, mode })
}

#[cfg(not(unix))]
fn check_secrecy(_: &Metadata) -> Result<(), FileProblem> {
    Ok(())
}
