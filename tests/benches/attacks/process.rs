//! What memory this process takes, as Linux tells.

use std::fs;

use crate::Wrong;

/// Memory from a moment on.
pub(crate) struct Memory {
    /// In KiB.
    before: u64,
}

impl Memory {
    /// From now on.
    pub(crate) fn watch() -> Result<Self, Wrong> {
        // What was taken at most begins anew.
        fs::write("/proc/self/clear_refs", "5")?;
        Ok(Self { before: status("VmRSS:")? })
    }

    /// How much more there was at most than at the beginning, in MiB.
    pub(crate) fn most_mib(&self) -> Result<f64, Wrong> {
        Ok(status("VmHWM:")?.saturating_sub(self.before) as f64 / 1024.0)
    }
}

/// A line of the process's status, in KiB.
fn status(name: &str) -> Result<u64, Wrong> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("there is no such line")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
