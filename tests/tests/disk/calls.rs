//! The system calls by which this process reads and writes files, with a disk that fails in between.
//!
//! A program's own definitions of these functions come before the C library's, for Rust's standard library and for SQLite
//! alike. So what is tested is the program as it is, SQLite's own handling of files included.

use std::ffi::{CStr, OsStr, c_char, c_int, c_long, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::disk::{Disk, Verdict};

/// The system's own call.
fn system(number: c_long, arguments: [usize; 4]) -> isize {
    let [first, second, third, fourth] = arguments;
    // SAFETY: whoever called the function that this stands in for vouches for its arguments, which are handed on as they
    // are, or with fewer bytes of the same buffer. What it returns is a number of bytes or -1, which fits.
    #[expect(unsafe_code, clippy::cast_possible_truncation, reason = "a system call")]
    unsafe {
        libc::syscall(number, first, second, third, fourth) as isize
    }
}

/// Fails as the system would.
fn fails(error: c_int) -> isize {
    // SAFETY: it points to this thread's own variable.
    #[expect(unsafe_code, reason = "the C library's variable")]
    unsafe {
        *libc::__errno_location() = error;
    }
    -1
}

/// What a caller wants to have written.
fn bytes<'a>(start: *const c_void, count: usize) -> &'a [u8] {
    // SAFETY: who calls `write` vouches for this many bytes, and for nobody writing to them before it returns.
    #[expect(unsafe_code, reason = "a buffer of a C function")]
    unsafe {
        std::slice::from_raw_parts(start.cast(), count)
    }
}

fn path(name: *const c_char) -> PathBuf {
    // SAFETY: who calls `unlink` or `rename` vouches for a text with a null at its end.
    #[expect(unsafe_code, reason = "a text of a C function")]
    let name = unsafe { CStr::from_ptr(name) };
    PathBuf::from(OsStr::from_bytes(name.to_bytes()))
}

/// The path of an open file, if it can be on a disk that is watched.
fn path_of(file: c_int) -> Option<PathBuf> {
    (file > 2 && Disk::any()).then(|| std::fs::read_link(format!("/proc/self/fd/{file}")).ok()).flatten()
}

fn number(file: c_int) -> usize {
    // A negative one is no file: the system will say so.
    usize::try_from(file).unwrap_or(usize::MAX)
}

fn bounded(offset: i64) -> usize {
    // As above.
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn position(file: c_int) -> usize {
    let end = system(libc::SYS_lseek, [number(file), 0, libc::SEEK_CUR as usize, 0]);
    usize::try_from(end).unwrap_or_default()
}

/// Reads by a system call, unless the disk fails.
fn reads(file: c_int, read: impl FnOnce() -> isize) -> isize {
    let verdict = path_of(file).map_or(Verdict::Goes, |path| Disk::read(&path));
    match verdict {
        Verdict::Goes => read(),
        Verdict::Part(error) | Verdict::Fails(error) => fails(error),
    }
}

/// Writes this many of the bytes by a system call, as far as the disk lets it.
fn writes(
    file: c_int,
    buffer: *const c_void,
    count: usize,
    offset: Option<usize>,
    write: impl Fn(usize) -> isize,
) -> isize {
    let Some(path) = path_of(file) else { return write(count) };
    let offset = offset.unwrap_or_else(|| position(file));
    Disk::write(&path, offset, count, |count, verdict| match verdict {
        Verdict::Goes => (write(count), bytes(buffer, count)),
        // Half of it, of which the caller learns nothing.
        Verdict::Part(error) => {
            system(libc::SYS_pwrite64, [number(file), buffer as usize, count / 2, offset]);
            (fails(error), bytes(buffer, count / 2))
        }
        Verdict::Fails(error) => (fails(error), &[]),
    })
}

#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "in the place of the C library's")]
extern "C" fn read(file: c_int, buffer: *mut c_void, count: usize) -> isize {
    reads(file, || system(libc::SYS_read, [number(file), buffer as usize, count, 0]))
}

#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "in the place of the C library's")]
extern "C" fn pread64(file: c_int, buffer: *mut c_void, count: usize, offset: i64) -> isize {
    reads(file, || system(libc::SYS_pread64, [number(file), buffer as usize, count, bounded(offset)]))
}

#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "in the place of the C library's")]
extern "C" fn write(file: c_int, buffer: *const c_void, count: usize) -> isize {
    writes(file, buffer, count, None, |count| system(libc::SYS_write, [number(file), buffer as usize, count, 0]))
}

#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "in the place of the C library's")]
extern "C" fn pwrite64(file: c_int, buffer: *const c_void, count: usize, offset: i64) -> isize {
    let offset = bounded(offset);
    writes(file, buffer, count, Some(offset), |count| {
        system(libc::SYS_pwrite64, [number(file), buffer as usize, count, offset])
    })
}

#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "in the place of the C library's")]
extern "C" fn ftruncate64(file: c_int, size: i64) -> c_int {
    let size = bounded(size);
    let truncated = || system(libc::SYS_ftruncate, [number(file), size, 0, 0]);
    let Some(path) = path_of(file) else { return truncated() as c_int };
    Disk::truncate(&path, size, |error| error.map_or_else(truncated, fails)) as c_int
}

#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "in the place of the C library's")]
extern "C" fn fsync(file: c_int) -> c_int {
    let Some(path) = path_of(file) else { return system(libc::SYS_fsync, [number(file), 0, 0, 0]) as c_int };
    // A disk that is watched is gone with the test: only what it says counts.
    Disk::flush(&path).map_or(0, |error| fails(error) as c_int)
}

#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "in the place of the C library's")]
extern "C" fn fdatasync(file: c_int) -> c_int {
    fsync(file)
}

#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "in the place of the C library's")]
extern "C" fn unlink(name: *const c_char) -> c_int {
    let at = libc::AT_FDCWD as usize;
    let unlinked = || system(libc::SYS_unlinkat, [at, name as usize, 0, 0]);
    Disk::unlink(&path(name), |error| error.map_or_else(unlinked, fails)) as c_int
}

#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "in the place of the C library's")]
extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    let at = libc::AT_FDCWD as usize;
    let renamed = || system(libc::SYS_renameat, [at, from as usize, at, to as usize]);
    Disk::rename(&path(from), &path(to), |error| error.map_or_else(renamed, fails)) as c_int
}

/// The directory that a file lies in, and its name there.
pub(super) fn place(path: &Path) -> Option<(&Path, &str)> {
    Some((path.parent()?, path.file_name()?.to_str()?))
}
