//! An instance for many calls, which the benchmarks compare with a fresh one for each.

use std::sync::Arc;

use wasmtime::Store;

use super::bindings::Plugin;
use super::engine::{Compiled, Sandbox};
use super::operation::Exported;
use super::run::CallState;
use super::ticker::DEADLINE_TICKS;
use crate::settings::Limits;
use crate::store::Transaction;

/// An instance that is kept between calls.
pub(crate) struct Kept {
    store: Store<CallState>,
    instance: Plugin,
}

impl Kept {
    pub(crate) fn new(
        sandbox: &Sandbox,
        plugin: &Compiled,
        transaction: Transaction,
        limits: &Arc<Limits>,
    ) -> wasmtime::Result<Self> {
        let mut store = sandbox.arm(plugin, transaction, limits);
        let instance = plugin.pre.instantiate(&mut store)?;
        Ok(Self { store, instance })
    }

    pub(crate) fn call<O: Exported>(&mut self, transaction: Transaction, operation: &O) -> wasmtime::Result<O::Output> {
        self.store.data_mut().transaction = transaction;
        self.store.set_epoch_deadline(DEADLINE_TICKS);
        let answer = operation.call(self.instance.im_conversation_groups_operations(), &mut self.store)?;
        answer.map_err(|refusal| wasmtime::Error::msg(refusal.desc))
    }
}
