//! The wall clock is set while a server runs.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::ffi::c_int;
use std::sync::atomic::{AtomicI64, Ordering};

use convgroups_tests::server::{APP, Setup, keys, now};

/// By how many seconds this process's wall clock is ahead of the machine's.
static AHEAD: AtomicI64 = AtomicI64::new(0);

/// Replaces the C library's function: the linker prefers a program's own definition, for Rust's standard library too.
#[expect(unsafe_code, reason = "it stands in for the C library's by its name")]
// SAFETY: its arguments and result are the same as those of the C library's.
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    // SAFETY: the caller passes a valid pointer to a timespec, as for the C library's function; the system writes to it.
    #[expect(unsafe_code, reason = "a system call")]
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    if result == 0 && clock == libc::CLOCK_REALTIME {
        // SAFETY: as above, and the system has written a time to it.
        #[expect(unsafe_code, reason = "a place of a C function")]
        unsafe {
            (*time).tv_sec += AHEAD.load(Ordering::Relaxed);
        }
    }
    c_int::from(result != 0).wrapping_neg()
}

#[test]
fn an_event_stream_ends_with_its_signature_after_the_wall_clock_is_set() {
    let server = Setup::default().with(|settings| settings.server.heartbeat_ms = 50).start();
    let signature = keys().sign("alice", APP, now(), 3600);
    let mut stream = server.try_events(&signature, "", None).expect("it is valid");
    assert_eq!(stream.expect().event, "full");
    // Back, where nothing ends, and then far ahead.
    AHEAD.store(-7200, Ordering::Relaxed);
    assert_eq!(stream.next_of_any_kind().map(|sent| sent.event), Some(String::new()));
    AHEAD.store(7200, Ordering::Relaxed);
    assert_eq!(stream.end(), "expired");
    AHEAD.store(0, Ordering::Relaxed);
}
