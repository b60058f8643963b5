//! What a plugin did wrong, told apart from what the host did wrong.

use std::fmt;
use std::time::Duration;

use wasmtime::{Trap, WasmBacktrace};

use super::imports::Panicked;
use super::limiter::MemoryCapReached;
use super::run::Ended;
use crate::escape::{for_people, made_for_people};
use crate::store::Fault;

/// The most of a fault's detail that is kept, in characters; a panic's message is in it.
const MAX_DETAIL_CHARS: usize = 4096;
/// The innermost frames of a backtrace that are kept, and the most characters of a function's name in it.
const MAX_FRAMES: usize = 32;
const MAX_NAME_CHARS: usize = 200;

/// What kind of thing a plugin did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PluginFaultKind {
    /// It reported a panic of its own.
    Panic,
    /// It trapped: unreachable code, an access out of bounds, a division by zero and the like.
    Trap,
    /// It ran past its deadline.
    Deadline,
    /// It wanted more memory than a call may have.
    Memory,
    /// It ran out of stack.
    Stack,
    /// It passed something to an import that no plugin may pass.
    Argument,
    /// It answered something that cannot be an answer to the request.
    Answer,
}

impl PluginFaultKind {
    /// A word for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::Argument => "argument",
            Self::Answer => "answer",
        }
    }
}

/// A plugin failed, by its own fault. For the operator; the caller learns nothing but that.
///
/// What the plugin wrote is escaped and cut, so that it can be shown as it is (see [`crate::escape`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginFault {
    /// What kind of fault.
    pub kind: PluginFaultKind,
    /// What happened.
    pub detail: String,
    /// Where in the plugin's code, if known: one line for each frame, the innermost first.
    pub backtrace: Option<String>,
    /// What it wrote to its standard output and error, if it has any.
    pub output: String,
}

impl fmt::Display for PluginFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.kind.as_str(), self.detail)
    }
}

impl std::error::Error for PluginFault {}

impl PluginFault {
    /// The plugin's answer makes no sense.
    pub(super) fn answer(detail: impl Into<String>) -> Self {
        Self { kind: PluginFaultKind::Answer, detail: detail.into(), backtrace: None, output: String::new() }
    }
}

/// Whose fault an error is that ended a call inside wasmtime. `longest_read` tells a plugin that ran for too long from
/// one that waited for the store.
pub(super) fn ended(error: &wasmtime::Error, longest_read: Duration, deadline: Duration) -> Ended {
    if let Some(fault) = error.downcast_ref::<Fault>() {
        return match fault {
            Fault::OutOfBounds(what) => plugin(PluginFaultKind::Argument, format!("it {what}"), error),
            Fault::Store(error) => Ended::Store(error.clone()),
            Fault::Conflict => Ended::Conflict,
        };
    }
    if let Some(Panicked(message)) = error.downcast_ref() {
        return plugin(PluginFaultKind::Panic, message.clone(), error);
    }
    if let Some(cap) = error.downcast_ref::<MemoryCapReached>() {
        return plugin(PluginFaultKind::Memory, cap.to_string(), error);
    }
    let kind = match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) if longest_read > deadline / 2 => return Ended::SlowStore,
        Some(Trap::Interrupt) => {
            let detail = format!("it ran for longer than {} ms (sandbox.deadline_ms)", deadline.as_millis());
            return plugin(PluginFaultKind::Deadline, detail, error);
        }
        Some(Trap::StackOverflow) => PluginFaultKind::Stack,
        Some(Trap::AllocationTooLarge) => PluginFaultKind::Memory,
        _ => PluginFaultKind::Trap,
    };
    // The alternate form has the causes, of which the last names the trap.
    let detail = error.chain().map(ToString::to_string).filter(|text| !text.starts_with("error while executing"));
    plugin(kind, detail.collect::<Vec<_>>().join(": "), error)
}

fn plugin(kind: PluginFaultKind, detail: String, error: &wasmtime::Error) -> Ended {
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(describe);
    let detail = made_for_people(detail, MAX_DETAIL_CHARS);
    Ended::Plugin(Box::new(PluginFault { kind, detail, backtrace, output: String::new() }))
}

fn describe(backtrace: &WasmBacktrace) -> String {
    let frame = |frame: &wasmtime::FrameInfo| {
        let name = frame.func_name().map(|name| for_people(name, MAX_NAME_CHARS));
        match (name, frame.module_offset()) {
            (Some(name), Some(offset)) => format!("{name} (at {offset:#x})"),
            (Some(name), None) => name,
            (None, offset) => format!("function {} (at {:#x})", frame.func_index(), offset.unwrap_or_default()),
        }
    };
    let frames = backtrace.frames();
    let mut lines: Vec<String> = frames.iter().take(MAX_FRAMES).map(frame).collect();
    if let Some(more) = frames.len().checked_sub(MAX_FRAMES).filter(|more| *more > 0) {
        lines.push(format!("… and {more} more"));
    }
    lines.join("\n")
}
