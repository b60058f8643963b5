//! Threads for what may take too long and cannot be interrupted.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Room for the compiler, whoever asks for it: types inside of types are read by recursion.
const STACK_BYTES: usize = 8 << 20;

/// Why work came to nothing.
#[derive(Debug)]
pub(crate) enum NotCompiled {
    /// It was refused, for this reason.
    Refused(String),
    /// It took too long.
    TooSlow,
}

/// Does work on a thread of its own, and waits for it so long. What takes longer is left to itself: it ends some time, and
/// nobody hears of it. A panic there is a refusal here.
pub(super) fn within<T: Send + 'static>(
    time: Duration,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, NotCompiled> {
    let (sender, receiver) = channel();
    let thread = std::thread::Builder::new().name("convgroups-compile".to_owned()).stack_size(STACK_BYTES);
    // Who has stopped waiting does not want to know.
    let started = thread.spawn(move || drop(sender.send(work())));
    started.map_err(|error| NotCompiled::Refused(format!("there is no thread to compile it on: {error}")))?;
    match receiver.recv_timeout(time) {
        Ok(result) => result.map_err(NotCompiled::Refused),
        Err(RecvTimeoutError::Timeout) => Err(NotCompiled::TooSlow),
        Err(RecvTimeoutError::Disconnected) => Err(NotCompiled::Refused("the compiler gave up".to_owned())),
    }
}

/// Compiles on so many threads and no more: wasmtime takes those of the pool that it is called in.
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
            let work = move |work: fn() -> usize| move || on_threads(threads, || Ok(work())).map_err(|_| String::new());
            assert!(matches!(within(second, work(rayon::current_num_threads)), Ok(used) if used == threads));
            let slow = work(|| {
                std::thread::sleep(Duration::from_millis(200));
                0
            });
            assert!(matches!(within(Duration::from_millis(1), slow), Err(NotCompiled::TooSlow)));
            let panics = within(second, work(|| std::panic::panic_any("on purpose")));
            assert!(matches!(panics, Err(NotCompiled::Refused(reason)) if reason == "the compiler gave up"));
        }
    }
}
