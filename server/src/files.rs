//! Small files with keys and certificates.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Whether other users may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrecy {
    Public,
    Secret,
}

/// The content of a file, without a byte-order mark.
pub(super) fn read(path: &Path, secrecy: Secrecy) -> Result<Vec<u8>, String> {
    let failed = |reason: &dyn std::fmt::Display| format!("{}: {reason}", path.display());
    let file = open(path).map_err(|error| failed(&error))?;
    let metadata = file.metadata().map_err(|error| failed(&error))?;
    if !metadata.is_file() {
        return Err(failed(&"it is not a regular file"));
    }
    if secrecy == Secrecy::Secret {
        check_secrecy(&metadata).map_err(|reason| failed(&reason))?;
    }
    let mut content = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut content).map_err(|error| failed(&error))?;
    if content.len() as u64 > MAX_BYTES {
        return Err(failed(&format!("it is larger than {MAX_BYTES} bytes")));
    }
    if content.starts_with(&[0xff, 0xfe]) || content.starts_with(&[0xfe, 0xff]) {
        return Err(failed(&"it is in UTF-16: save it in UTF-8"));
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
fn check_secrecy(metadata: &Metadata) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;

    let mode = metadata.mode() & 0o7777;
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    let open = mode & forbidden;
    if open == 0 {
        return Ok(());
    }
    let what = match open {
        _ if open & 0o002 != 0 => "written to by everybody",
        _ if open & 0o020 != 0 => "written to by its group",
        _ if open & 0o004 != 0 => "read by everybody",
        _ if open & 0o040 != 0 => "read by its group",
        _ => "executed by others",
    };
    Err(format!(
        "it can be {what} (mode {mode:04o}), but it contains a secret: expected mode 0600, or 0640 if it belongs to \
         root; use `chmod 600`"
    ))
}

#[cfg(not(unix))]
fn check_secrecy(_: &Metadata) -> Result<(), String> {
    Ok(())
}
