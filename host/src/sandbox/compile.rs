//! Threads for compilers, which need more stack than others and cannot be interrupted.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Room for the compiler, whoever asks for it: types inside of types are read by recursion.
pub(crate) const STACK_BYTES: usize = 8 << 20;

/// Why work came to nothing.
#[derive(Debug)]
pub(crate) enum NotCompiled {
    /// It was refused, for this reason.
    Refused(String),
    /// It took longer than this.
    TooSlow {
        /// In milliseconds.
        max_ms: u64,
    },
}

/// Does work on a thread of its own, and waits for it so long. Work that takes longer is left to itself, and its result is
/// dropped. A panic there is a refusal here.
pub(crate) fn within<T: Send + 'static, E: From<NotCompiled> + Send + 'static>(
    time: Duration,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    let (sender, receiver) = channel();
    let thread = std::thread::Builder::new().name("convgroups-compile".to_owned()).stack_size(STACK_BYTES);
    // Nothing waits for the result any more.
    let started = thread.spawn(move || drop(sender.send(work())));
    started.map_err(|error| NotCompiled::Refused(format!("there is no thread to compile it on: {error}")))?;
    match receiver.recv_timeout(time) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => {
            Err(NotCompiled::TooSlow { max_ms: time.as_millis().try_into().unwrap_or(u64::MAX) }.into())
        }
        Err(RecvTimeoutError::Disconnected) => Err(NotCompiled::Refused("the compiler panicked".to_owned()).into()),
    }
}

/// Compiles on this many threads and no more: wasmtime takes those of the pool that it is called in.
pub(super) fn on_threads<T: Send>(
    threads: usize,
    compile: impl FnOnce() -> wasmtime::Result<T> + Send,
) -> wasmtime::Result<T> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .stack_size(STACK_BYTES)
        .thread_name(|number| format!("compile-{number}"))
        .build()?
        .install(compile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_takes_too_long_or_panics_is_a_refusal() {
        let second = Duration::from_secs(1);
        for threads in [1, 2] {
            let work = move |work: fn() -> usize| {
                move || on_threads(threads, || Ok(work())).map_err(|error| NotCompiled::Refused(error.to_string()))
            };
            assert!(matches!(within(second, work(rayon::current_num_threads)), Ok(used) if used == threads));
            let slow = work(|| {
                std::thread::sleep(Duration::from_millis(200));
                0
            });
            assert!(matches!(within(Duration::from_millis(1), slow), Err(NotCompiled::TooSlow { max_ms: 1 })));
            let panics = within(second, work(|| std::panic::panic_any("on purpose")));
            assert!(matches!(panics, Err(NotCompiled::Refused(reason)) if reason == "the compiler panicked"));
        }
    }
}
