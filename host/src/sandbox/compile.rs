//! A thread for what may take too long and cannot be interrupted.

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
