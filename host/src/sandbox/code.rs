//! Compiled plugins as files in memory: made by a compiler, which may be another process, and mapped by this one.
//!
//! A mapped file costs this process only the pages that it touches, so that a large plugin that is loaded and not used takes
//! little. The file has no name, so that nobody else writes to it.

use std::fs::File;
use std::io;

use wasmtime::Engine;
use wasmtime::component::Component;

/// Creates a file that has no name.
#[cfg(target_os = "linux")]
pub(crate) fn memory_file() -> io::Result<File> {
    use rustix::fs::{MemfdFlags, memfd_create};
    Ok(memfd_create("convgroups-plugin", MemfdFlags::CLOEXEC)?.into())
}

/// Creates a file that has no name.
#[cfg(not(target_os = "linux"))]
pub(crate) fn memory_file() -> io::Result<File> {
    tempfile::tempfile()
}

/// Loads what [`Engine::precompile_component`] has made, of the same program, with the same settings.
pub(crate) fn load(engine: &Engine, code: &File) -> wasmtime::Result<Component> {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        let path = format!("/proc/self/fd/{}", code.as_raw_fd());
        // SAFETY: the file holds what `Engine::precompile_component` returned, in this program or in the child process that it
        // started, or what such a file was copied to in the cache, whose digest and owner were checked. It has no name and its
        // writers have ended, so that it does not change while it is mapped. Wasmtime itself checks that its version, settings
        // and processor are the same.
        #[expect(unsafe_code, reason = "machine code cannot be checked, only where it comes from")]
        unsafe {
            Component::deserialize_file(engine, path)
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        use std::io::{Read, Seek};
        let mut code = code;
        let mut bytes = Vec::new();
        code.rewind()?;
        code.read_to_end(&mut bytes)?;
        // SAFETY: as above, of bytes that nobody else can reach.
        #[expect(unsafe_code, reason = "machine code cannot be checked, only where it comes from")]
        unsafe {
            Component::deserialize(engine, bytes)
        }
    }
}
