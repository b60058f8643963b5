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

/// Does work on threads of its own, so many, and waits for it so long. What takes longer is left to itself: it ends some time,
/// and nobody hears of it. A panic there is a refusal here.
pub(super) fn within<T: Send + 'static>(
    time: Duration,
    threads: usize,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, NotCompiled> {
    let (sender, receiver) = channel();
    // Wasmtime compiles on the threads of the pool that it is called in.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .stack_size(STACK_BYTES)
        .thread_name(|number| format!("compile-{number}"))
        // The panic is told by its hook, and here by a sender that is gone.
        .panic_handler(drop)
        .build()
        .map_err(|error| NotCompiled::Refused(format!("there is no thread to compile it on: {error}")))?;
    // Who has stopped waiting does not want to know.
    pool.spawn(move || drop(sender.send(work())));
    match receiver.recv_timeout(time) {
        Ok(result) => result.map_err(NotCompiled::Refused),
        Err(RecvTimeoutError::Timeout) => Err(NotCompiled::TooSlow),
        Err(RecvTimeoutError::Disconnected) => Err(NotCompiled::Refused("the compiler gave up".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_takes_too_long_or_panics_is_a_refusal() {
        let second = Duration::from_secs(1);
        for threads in [1, 2] {
            assert!(
                matches!(within(second, threads, || Ok(rayon::current_num_threads())), Ok(used) if used == threads)
            );
            let slow = within(Duration::from_millis(1), threads, || {
                std::thread::sleep(Duration::from_millis(200));
                Ok(())
            });
            assert!(matches!(slow, Err(NotCompiled::TooSlow)));
            let panics = within::<()>(second, threads, || std::panic::panic_any("on purpose"));
            assert!(matches!(panics, Err(NotCompiled::Refused(reason)) if reason == "the compiler gave up"));
        }
    }
}
