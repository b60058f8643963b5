//! The memory cap of one call.

use wasmtime::ResourceLimiter;

use crate::settings::SandboxSettings;

/// Counts what all linear memories and tables of a call take together. (Wasmtime's own `StoreLimits` caps each alone, so
/// that a plugin with many would get many times the cap.)
#[derive(Debug)]
pub(crate) struct MemoryCap {
    used: usize,
    max: usize,
    max_instances: usize,
    max_memories: usize,
    max_tables: usize,
}

/// The plugin wanted more memory than a call may have.
#[derive(Debug, thiserror::Error)]
#[error("it wanted {wanted} bytes of memory, at most {max} are allowed (sandbox.max_memory_bytes)")]
pub(super) struct MemoryCapReached {
    wanted: usize,
    max: usize,
}

impl MemoryCap {
    pub(super) fn new(settings: &SandboxSettings) -> Self {
        Self {
            used: 0,
            max: settings.max_memory_bytes,
            max_instances: settings.max_core_instances as usize,
            max_memories: settings.max_memories as usize,
            max_tables: settings.max_tables as usize,
        }
    }

    /// Memory in use, in bytes.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    fn grow(&mut self, by: usize) -> wasmtime::Result<bool> {
        let wanted = self.used.saturating_add(by);
        if wanted > self.max {
            // An error ends the call here and now, so that the operator learns what happened; to answer "no" would leave
            // the plugin to fail later for reasons of its own.
            return Err(wasmtime::Error::new(MemoryCapReached { wanted, max: self.max }));
        }
        self.used = wanted;
        Ok(true)
    }
}

impl ResourceLimiter for MemoryCap {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current).saturating_mul(size_of::<usize>()))
    }

    fn instances(&self) -> usize {
        self.max_instances
    }

    fn memories(&self) -> usize {
        self.max_memories
    }

    fn tables(&self) -> usize {
        self.max_tables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_of_a_call_share_one_cap() {
        let settings = SandboxSettings { max_memory_bytes: 1000, ..SandboxSettings::default() };
        let mut cap = MemoryCap::new(&settings);
        assert!(cap.memory_growing(0, 400, None).expect("fits"));
        assert!(cap.memory_growing(0, 400, None).expect("a second memory fits beside it"));
        assert!(cap.table_growing(0, 200 / size_of::<usize>(), None).expect("a table fills it up"));
        assert_eq!(cap.used(), 1000);
        for error in [cap.memory_growing(400, 401, None), cap.table_growing(25, 26, None)] {
            let error = error.expect_err("nothing is left");
            assert!(error.downcast_ref::<MemoryCapReached>().is_some(), "{error}");
        }
        assert!(cap.memory_growing(0, usize::MAX, None).is_err());
        assert_eq!(cap.used(), 1000);
    }
}
