//! Looks for bytes that an earlier instance left in memory, and leaves some for the next: `clean`, or how many it found.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use core::arch::wasm32::memory_grow;

const PAGE: usize = 64 << 10;
/// Four mebibytes: more than a host may want to clear itself instead of handing back to the system.
const PAGES: usize = 64;

#[allow(unsafe_code, reason = "the linker's names for the ends of the memory that an instance starts with")]
unsafe extern "C" {
    static __heap_base: u8;
    static __heap_end: u8;
}

#[allow(unsafe_code, reason = "memory that Rust knows nothing of")]
fn memory(start: usize, end: usize) -> &'static mut [u8] {
    // SAFETY: the callers name memory that exists and that nothing else here uses.
    unsafe { core::slice::from_raw_parts_mut(core::ptr::with_exposed_provenance_mut(start), end - start) }
}

test_guests::plugin!(|_, ids| {
    let start = memory_grow::<0>(PAGES) * PAGE;
    let regions = [
        // What is left of the first pages: the allocator takes only pages that it asked for itself.
        memory((&raw const __heap_base).addr(), (&raw const __heap_end).addr()),
        memory(start, start + PAGES * PAGE),
    ];
    let found = regions.iter().flat_map(|region| region.iter()).filter(|byte| **byte != 0).count();
    for region in regions {
        region.fill(0xAA);
    }
    let info = if found == 0 { "clean".into() } else { alloc::format!("dirty: {found} bytes") };
    test_guests::answer(ids, &info)
});
