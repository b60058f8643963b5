//! The heap of the plugin.
//!
//! An instance lives for one call, and what it touches of its memory must be zeroed afterwards. So the heap begins in what
//! data and stack leave of the first page; most calls need no second one.

use core::alloc::Layout;

use talc::base::Talc;
use talc::base::binning::Binning;
use talc::cell::TalcSyncCell;
use talc::source::Source;
use talc::wasm::WasmBinning;

const PAGE: usize = 64 << 10;
/// More than the allocator's bookkeeping takes of a region.
const BOOKKEEPING: usize = 4 << 10;

#[global_allocator]
static HEAP: TalcSyncCell<Memory, WasmBinning> = TalcSyncCell::new_wasm(Memory { rest_is_claimed: false });

/// Where the heap gets its regions from.
#[derive(Debug)]
struct Memory {
    rest_is_claimed: bool,
}

#[expect(unsafe_code, reason = "hands raw memory to the allocator")]
// SAFETY: `acquire` talks to the allocator only through the reference that it is given, and answers `Ok` only after it has
// given it a region.
unsafe impl Source for Memory {
    fn acquire<B: Binning>(heap: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        if !core::mem::replace(&mut heap.source.rest_is_claimed, true) {
            let start = heap_base();
            let rest = (core::arch::wasm32::memory_size::<0>() * PAGE).saturating_sub(start.addr());
            // SAFETY: the linker puts nothing behind `__heap_base`, and this happens once.
            if unsafe { heap.claim(start, rest) }.is_some() {
                return Ok(());
            }
        }
        let pages = (layout.size() + layout.align() + BOOKKEEPING).div_ceil(PAGE);
        let before = core::arch::wasm32::memory_grow::<0>(pages);
        if before == usize::MAX {
            return Err(());
        }
        // SAFETY: these pages are new, and nobody else grows the memory.
        let region = unsafe { heap.claim((before * PAGE) as *mut u8, pages * PAGE) };
        region.map(drop).ok_or(())
    }
}

/// The end of data and stack.
#[expect(unsafe_code, reason = "only the linker knows where the heap may begin")]
fn heap_base() -> *mut u8 {
    // SAFETY: the linker defines the symbol for every module with a memory; only its address is used.
    unsafe extern "C" {
        static mut __heap_base: u8;
    }
    &raw mut __heap_base
}
