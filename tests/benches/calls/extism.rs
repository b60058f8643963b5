//! The same job as an Extism plugin, in a process of its own: it brings another wasmtime.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::Failure;

/// Whether each call gets a plugin of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Kept,
    Fresh,
}

/// The process.
pub(crate) struct Extism {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Extism {
    /// Nothing where `make bench` has not built it.
    pub(crate) fn start() -> Result<Option<Self>, Failure> {
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/extism");
        let program = built.join("release/extism-subject");
        let plugin = built.join("wasm32-wasip1/release/extism_plugin.wasm");
        if !program.exists() || !plugin.exists() {
            return Ok(None);
        }
        let mut child = Command::new(program).arg(plugin).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take().ok_or("it has no input")?;
        let answers = BufReader::new(child.stdout.take().ok_or("it has no output")?);
        Ok(Some(Self { child, orders, answers }))
    }

    /// Microseconds for a call.
    pub(crate) fn round(&mut self, ids: usize, way: Way, time: Duration) -> Result<f64, Failure> {
        let way = match way {
            Way::Kept => "kept",
            Way::Fresh => "fresh",
        };
        writeln!(self.orders, "{ids} {} {way}", time.as_millis())?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(answer.trim().parse()?)
    }
}

impl Drop for Extism {
    fn drop(&mut self) {
        // It would end with its input too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
