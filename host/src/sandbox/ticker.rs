//! The thread that moves wasmtime's epoch on, so that running plugins notice their deadline.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::Engine;

/// How many ticks make a deadline. A plugin is stopped at the tick after its last, so at most a tenth too late.
const TICKS_PER_DEADLINE: u32 = 10;
/// Ticks until a plugin is stopped: one more than a deadline has, for the first comes at any moment.
pub(super) const DEADLINE_TICKS: u64 = TICKS_PER_DEADLINE as u64 + 1;

/// Ticks until it is dropped. On a thread of its own, which no plugin and no busy runtime can starve.
#[derive(Debug)]
pub(super) struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    pub(super) fn start(engine: Engine, deadline: Duration) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let period = deadline / TICKS_PER_DEADLINE;
        let thread = std::thread::Builder::new().name("convgroups-ticks".to_owned()).spawn(move || {
            while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                engine.increment_epoch();
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread has nothing to tell, and cannot be waited for better.
            let _ = thread.join();
        }
    }
}
