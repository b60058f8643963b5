//! Standard error: written directly, or, in a server, by a thread of its own.
//!
//! A pipe without a reader takes 64 KiB and then blocks its writers, which in a server are all threads that log. A server
//! therefore queues lines up to a limit. Lines beyond the limit are dropped and counted, and when the reader goes on, a line has
//! their number.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// The limit of the queue: some thousands of lines.
const MAX_WAITING_BYTES: usize = 1 << 20;
/// How long the end of the program waits for the reader.
const PATIENCE: Duration = Duration::from_secs(1);

static OUTLET: OnceLock<Arc<Outlet>> = OnceLock::new();
static LOST: LazyLock<Arc<AtomicU64>> = LazyLock::new(Arc::default);

#[derive(Default)]
struct Outlet {
    waiting: Mutex<Waiting>,
    /// The queue is no longer empty, or everything is written.
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Lines that were dropped and not reported yet.
    lost: u64,
    /// Whether lines that have left the queue are being written.
    is_writing: bool,
}

/// Starts the thread; from now on all lines go through it.
pub(super) fn start() {
    let outlet = Arc::new(Outlet::default());
    let writer = Arc::clone(&outlet);
    let spawned = thread::Builder::new().name("log".to_owned()).spawn(move || writer.write_to(&mut io::stderr()));
    if spawned.is_ok() {
        // It is started once.
        let _ = OUTLET.set(outlet);
    }
}

/// The number of lost lines.
pub(super) fn lost() -> Arc<AtomicU64> {
    Arc::clone(&LOST)
}

/// Waits until everything is written, for a short time.
pub(super) fn flush() {
    if let Some(outlet) = OUTLET.get() {
        outlet.flush(PATIENCE);
    }
}

/// Writes or queues one line, which ends with a line break.
pub(super) fn write(line: &[u8]) -> io::Result<()> {
    match OUTLET.get() {
        Some(outlet) => {
            outlet.put(line, MAX_WAITING_BYTES);
            Ok(())
        }
        None => io::stderr().write_all(line),
    }
}

/// A writer for a formatter that writes each line with one call.
pub(super) struct Line;

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        write(line).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Outlet {
    /// Queues a line, or counts it as lost.
    fn put(&self, line: &[u8], max: usize) {
        let mut waiting = self.waiting.lock();
        if waiting.lines.len().saturating_add(line.len()) > max {
            waiting.lost += 1;
            LOST.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.lines.extend_from_slice(line);
        self.changed.notify_all();
    }

    fn write_to(&self, output: &mut impl Write) {
        let mut lines = Vec::new();
        loop {
            let lost = {
                let mut waiting = self.waiting.lock();
                waiting.is_writing = false;
                self.changed.notify_all();
                while waiting.lines.is_empty() {
                    self.changed.wait(&mut waiting);
                }
                waiting.is_writing = true;
                lines.clear();
                std::mem::swap(&mut lines, &mut waiting.lines);
                std::mem::take(&mut waiting.lost)
            };
            if lost > 0 {
                // The lines before it have been written, and the queue has room for this one.
                tracing::warn!(lines = lost, "the reader of the server log stalled, and lines were lost");
            }
            // If the other end is closed, these lines have no reader.
            drop(output.write_all(&lines));
        }
    }

    fn flush(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut waiting = self.waiting.lock();
        while waiting.is_writing || !waiting.lines.is_empty() {
            if self.changed.wait_until(&mut waiting, until).timed_out() {
                return;
            }
        }
    }
}
