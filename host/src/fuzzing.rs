//! For fuzzing: what is read from other processes.

pub use crate::plugin::examiner_answer;
