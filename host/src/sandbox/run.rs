//! One run of one operation in a fresh sandbox.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::Store;

use super::bindings::types;
use super::engine::{Compiled, Sandbox};
use super::fault::{PluginFault, ended};
use super::limiter::MemoryCap;
use super::operation::{Exported, MAX_REASON_CHARS};
use super::ticker::DEADLINE_TICKS;
use crate::api::{AnyResult, Contents, Entries, OperationError};
use crate::escape::made_for_people;
use crate::settings::Limits;
use crate::store::{StoreError, Transaction};

/// What the imports of a running plugin can reach.
pub(crate) struct CallState {
    pub(crate) transaction: Transaction,
    pub(crate) limits: Arc<Limits>,
    pub(super) memory: MemoryCap,
    #[cfg(feature = "wasi")]
    pub(crate) wasi: Option<super::imports::wasi::InertWasi>,
}

/// Why a run gave no answer.
#[derive(Debug)]
pub enum Ended {
    /// The plugin's rules refused the operation.
    Refused(OperationError),
    /// The plugin failed.
    Plugin(Box<PluginFault>),
    /// Another host has changed the user's groups meanwhile.
    Conflict,
    /// The store failed.
    Store(StoreError),
    /// The plugin ran out of time because the store took too much of it.
    SlowStore,
}

/// An answer, and what is to be committed before it may be given.
#[derive(Debug)]
pub struct Ran<T> {
    pub(crate) result: T,
    pub(crate) transaction: Transaction,
    /// Linear memory and tables in use at the end, in bytes.
    pub(crate) memory_bytes: usize,
    /// How long it took to make the instance.
    pub(crate) setup: Duration,
    /// How long the instance ran, imports included.
    pub(crate) guest: Duration,
}

impl<T: Into<AnyResult>> Ran<T> {
    /// The same run of an operation that is known only when the program runs.
    pub(super) fn into_any(self) -> Ran<AnyResult> {
        let Self { result, transaction, memory_bytes, setup, guest } = self;
        Ran { result: result.into(), transaction, memory_bytes, setup, guest }
    }
}

/// The most output of a plugin that the server log shows for one call, in characters.
#[cfg(feature = "wasi")]
const MAX_OUTPUT_CHARS: usize = 4096;

impl Sandbox {
    /// Runs an operation against a transaction. Whatever happens, the instance is gone afterwards.
    pub(super) fn run<O: Exported>(
        &self,
        plugin: &Compiled,
        transaction: Transaction,
        limits: &Arc<Limits>,
        operation: &O,
    ) -> Result<Ran<O::Output>, Ended> {
        let started = Instant::now();
        let mut store = self.arm(plugin, transaction, limits);
        let instance = plugin.pre.instantiate(&mut store);
        let setup = started.elapsed();
        let called =
            instance.and_then(|instance| operation.call(instance.im_conversation_groups_operations(), &mut store));
        let guest = started.elapsed().saturating_sub(setup);
        let longest_read = store.data().transaction.longest_read();
        #[cfg(feature = "wasi")]
        let output = store.data().wasi.as_ref().map(super::imports::wasi::InertWasi::output).unwrap_or_default();
        #[cfg(feature = "wasi")]
        let output = made_for_people(output, MAX_OUTPUT_CHARS);
        #[cfg(not(feature = "wasi"))]
        let output = String::new();

        let answer = match called {
            Ok(Ok(answer)) => check(operation, answer, self.settings.max_crossing_bytes),
            Ok(Err(refusal)) => Err(checked(refusal)),
            Err(error) => Err(ended(&error, longest_read, self.settings.deadline())),
        };
        if !output.is_empty() && !matches!(answer, Err(Ended::Plugin(_))) {
            tracing::info!(output, "the plugin wrote");
        }
        match answer {
            Ok(result) => {
                let state = store.into_data();
                let memory_bytes = state.memory.used();
                Ok(Ran { result, transaction: state.transaction, memory_bytes, setup, guest })
            }
            Err(Ended::Plugin(fault)) => Err(Ended::Plugin(Box::new(PluginFault { output, ..*fault }))),
            Err(ended) => Err(ended),
        }
    }

    /// A store with all limits of one call.
    pub(super) fn arm(&self, plugin: &Compiled, transaction: Transaction, limits: &Arc<Limits>) -> Store<CallState> {
        #[cfg(feature = "wasi")]
        let wasi = plugin.needs_wasi.then(|| super::imports::wasi::InertWasi::new(self.settings.max_handles));
        #[cfg(not(feature = "wasi"))]
        let _ = plugin.needs_wasi;
        let state = CallState {
            transaction,
            limits: Arc::clone(limits),
            memory: MemoryCap::new(&self.settings),
            #[cfg(feature = "wasi")]
            wasi,
        };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_epoch_deadline(DEADLINE_TICKS);
        store.set_hostcall_fuel(self.settings.max_crossing_bytes);
        store.set_max_component_handles(self.settings.max_handles);
        store
    }
}

/// Checks that the result can be one of the operation: one entry for each ID, in order; no more than the page has room for; and
/// not more than `max_json_bytes` once it is JSON, where one byte of a plugin can become six.
fn check<O: Exported>(operation: &O, answer: O::Output, max_json_bytes: usize) -> Result<O::Output, Ended> {
    let count = answer.conversation_ids().len();
    let fits = match operation.entries() {
        Some(Entries::Of(asked)) => answer.conversation_ids().eq(asked),
        Some(Entries::AtMost(most)) => count <= most as usize,
        None => true,
    };
    if !fits {
        let detail = format!("the answer has {count} conversations that are not those of the request, in its order");
        return Err(Ended::Plugin(Box::new(PluginFault::answer(detail))));
    }
    let bytes = answer.json_bytes();
    if bytes > max_json_bytes {
        let detail = format!(
            "its result takes {bytes} bytes as JSON, at most {max_json_bytes} are allowed (sandbox.max_crossing_bytes)"
        );
        return Err(Ended::Plugin(Box::new(PluginFault::answer(detail))));
    }
    Ok(answer)
}

fn checked(refusal: types::OperationError) -> Ended {
    let types::OperationError { code, desc } = refusal;
    if code == 0 {
        return Ended::Plugin(Box::new(PluginFault::answer("it refused with code 0, which means success")));
    }
    Ended::Refused(OperationError { code, desc: made_for_people(desc, MAX_REASON_CHARS) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::GetConversationGroupList;

    fn fault<T: std::fmt::Debug>(checked: Result<T, Ended>) -> String {
        match checked {
            Err(Ended::Plugin(fault)) => fault.detail,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn a_result_that_grows_beyond_the_limit_as_json_is_the_plugins_fault() {
        let names = vec!["\u{1b}".to_owned(); 10];
        let bytes = names.json_bytes();
        assert!(check(&GetConversationGroupList {}, names.clone(), bytes).is_ok());
        assert!(fault(check(&GetConversationGroupList {}, names, bytes - 1)).contains("as JSON"));
    }
}
