//! Never starts for users who have something to lose: the loop is where an instance is made, before anything is asked.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

#[allow(unsafe_code, reason = "the name by which an instance is made ready")]
#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    if test_guests::group_store::list_groups().iter().any(|group| group == test_guests::ATTACKED) {
        loop {
            core::hint::spin_loop();
        }
    }
}

test_guests::plugin!(|_, ids| test_guests::answer(ids, "started"));
