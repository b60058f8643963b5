//! Memory and processor time of a process, from Linux.

use std::fs;
use std::time::Duration;

use crate::Wrong;

/// Clock ticks in a second, on every Linux there is.
const TICKS: u64 = 100;

/// Memory from a moment on.
pub(crate) struct Memory {
    process: String,
    /// In KiB.
    before: u64,
}

impl Memory {
    /// This process's, from now on.
    pub(crate) fn watch() -> Result<Self, Wrong> {
        Self::new("self".to_owned())
    }

    /// Another process's.
    pub(crate) fn watch_of(process: u32) -> Result<Self, Wrong> {
        Self::new(process.to_string())
    }

    fn new(process: String) -> Result<Self, Wrong> {
        // What was taken at most begins anew.
        fs::write(format!("/proc/{process}/clear_refs"), "5")?;
        let before = status(&process, "VmRSS:")?;
        Ok(Self { process, before })
    }

    /// How much more there was at most than at the beginning, in MiB.
    pub(crate) fn most_mib(&self) -> Result<f64, Wrong> {
        Ok(status(&self.process, "VmHWM:")?.saturating_sub(self.before) as f64 / 1024.0)
    }

    /// Time of all processors since the process began.
    pub(crate) fn processor_time(&self) -> Result<Duration, Wrong> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process))?;
        // Behind the name, which may have blanks.
        let (_, fields) = stat.rsplit_once(')').ok_or("there is a name")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(ticks * 1000 / TICKS))
    }
}

/// A line of the process's status, in KiB.
fn status(process: &str, name: &str) -> Result<u64, Wrong> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("there is no such line")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
