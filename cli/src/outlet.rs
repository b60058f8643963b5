//! Standard error: written directly, or, in a server, by a thread of its own.
//!
//! A pipe without a reader takes 64 KiB and then blocks its writers, which in a server are all threads that log. A server
//! therefore queues lines up to a limit. Lines beyond the limit are dropped and counted, and when the reader goes on, a line has
//! their number. The same applies to lines that cannot be written, for example because the disk is full.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// The limit of the queue: some thousands of lines.
const MAX_WAITING_BYTES: usize = 1 << 20;
/// The pause before the next attempt if the reader of a non-blocking pipe stalls.
const PAUSE: Duration = Duration::from_millis(20);
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
    /// Lines that were dropped since the thread last looked.
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
        let (mut lines, mut unreported, mut is_writable) = (Vec::new(), 0, true);
        loop {
            {
                let mut waiting = self.waiting.lock();
                waiting.is_writing = false;
                self.changed.notify_all();
                while waiting.lines.is_empty() && !(is_writable && unreported > 0) {
                    self.changed.wait(&mut waiting);
                }
                waiting.is_writing = true;
                lines.clear();
                std::mem::swap(&mut lines, &mut waiting.lines);
                unreported += std::mem::take(&mut waiting.lost);
            }
            if is_writable && unreported > 0 {
                // The lines before it have been written, and the queue has room for this one.
                tracing::warn!(lines = unreported, "lines were lost because the server log could not be written");
                unreported = 0;
            }
            let lost = write_lines(output, &lines);
            LOST.fetch_add(lost, Ordering::Relaxed);
            unreported += lost;
            is_writable = lost == 0;
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

/// Writes the lines, and returns how many of them were lost.
fn write_lines(output: &mut impl Write, lines: &[u8]) -> u64 {
    let mut rest = lines;
    while !rest.is_empty() {
        match output.write(rest) {
            Ok(0) => break,
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The file may be in non-blocking mode because another process has set this mode for its end.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(_) => break,
        }
    }
    rest.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A file on a disk that is full at first.
    struct Disk {
        attempts: u32,
        written: Sender<Option<String>>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.attempts += 1;
            let text = String::from_utf8_lossy(bytes).into_owned();
            // The first attempt is interrupted and the second writes one line of three.
            let (sent, result) = match self.attempts {
                1 => return Err(io::ErrorKind::Interrupted.into()),
                2 => return Ok(4),
                3 | 4 => (None, Err(io::ErrorKind::StorageFull.into())),
                5 => return Err(io::ErrorKind::WouldBlock.into()),
                _ => (Some(text), Ok(bytes.len())),
            };
            // The test may have failed and be gone.
            let _ = self.written.send(sent);
            result
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Queued(Arc<Outlet>);

    impl Write for Queued {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.put(line, MAX_WAITING_BYTES);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_reported_when_there_is_room_again() {
        let outlet = Arc::new(Outlet::default());
        let next = |written: &Receiver<Option<String>>| {
            written.recv_timeout(Duration::from_secs(60)).expect("the thread continues")
        };
        for line in ["one\n", "two\n", "three\n"] {
            outlet.put(line.as_bytes(), MAX_WAITING_BYTES);
        }
        let (sender, written) = channel();
        let (writer, queue) = (Arc::clone(&outlet), Arc::clone(&outlet));
        let before = LOST.load(Ordering::Relaxed);
        thread::spawn(move || {
            let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(move || Queued(Arc::clone(&queue)));
            tracing::subscriber::with_default(lines.finish(), || {
                writer.write_to(&mut Disk { attempts: 0, written: sender });
            });
        });
        assert_eq!(next(&written), None);
        outlet.put(b"four\n", MAX_WAITING_BYTES);
        assert_eq!(next(&written), None);
        outlet.put(b"five\n", MAX_WAITING_BYTES);
        assert_eq!(next(&written).as_deref(), Some("five\n"));
        let report = next(&written).expect("it is written");
        assert!(report.contains("lines were lost") && report.contains("lines=3"), "{report}");
        assert_eq!(LOST.load(Ordering::Relaxed) - before, 3);
    }
}
