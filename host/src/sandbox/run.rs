//! One run of one request in a fresh sandbox.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::Store;

use super::bindings::{Plugin, operations, types};
use super::engine::{Compiled, Sandbox};
use super::fault::{PluginFault, ended};
use super::limiter::MemoryCap;
use super::ticker::DEADLINE_TICKS;
use crate::api::{
    Answer, Conversation, ConversationOperationResult, ConversationPage, ConversationSearchResult, ConversationType,
    OperationError, Request,
};
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
pub(crate) enum Ended {
    /// The plugin's rules refused the operation.
    Refused(OperationError),
    /// The plugin failed.
    Plugin(Box<PluginFault>),
    /// Somebody else has changed the user's groups meanwhile.
    Conflict,
    /// The store failed.
    Store(StoreError),
    /// The plugin ran out of time because the store took too much of it.
    SlowStore,
}

/// An answer, and what is to be committed before it may be given.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) answer: Answer,
    pub(crate) transaction: Transaction,
    /// Linear memory and tables in use at the end, in bytes.
    pub(crate) memory_bytes: usize,
    /// How long it took to make the instance.
    pub(crate) setup: Duration,
    /// How long the instance ran, imports included.
    pub(crate) guest: Duration,
}

/// The longest reason of a refusal or of a conversation's result, in characters. The reference plugin's are below 200.
const MAX_REASON_CHARS: usize = 1024;
/// The most output of a plugin that the server log shows for one call, in characters.
#[cfg(feature = "wasi")]
const MAX_OUTPUT_CHARS: usize = 4096;

/// What a plugin's function answers.
type FromPlugin<T> = Result<T, types::OperationError>;

impl Sandbox {
    /// Runs a request against a transaction. Whatever happens, the instance is gone afterwards.
    pub(crate) fn run(
        &self,
        plugin: &Compiled,
        transaction: Transaction,
        limits: &Arc<Limits>,
        request: &Request,
    ) -> Result<Ran, Ended> {
        let started = Instant::now();
        let mut store = self.arm(plugin, transaction, limits);
        let instance = plugin.pre.instantiate(&mut store);
        let setup = started.elapsed();
        let called = instance.and_then(|instance| call(&instance, &mut store, request));
        let guest = started.elapsed().saturating_sub(setup);
        let longest_read = store.data().transaction.longest_read();
        #[cfg(feature = "wasi")]
        let output = store.data().wasi.as_ref().map(super::imports::wasi::InertWasi::output).unwrap_or_default();
        #[cfg(feature = "wasi")]
        let output = made_for_people(output, MAX_OUTPUT_CHARS);
        #[cfg(not(feature = "wasi"))]
        let output = String::new();

        let answer = match called {
            Ok(Ok(answer)) => check(request, answer, self.settings.max_crossing_bytes),
            Ok(Err(refusal)) => check_refusal(refusal),
            Err(error) => Err(ended(&error, longest_read, self.settings.deadline())),
        };
        if !output.is_empty() && !matches!(answer, Err(Ended::Plugin(_))) {
            tracing::info!(output, "the plugin wrote");
        }
        match answer {
            Ok(answer) => {
                let state = store.into_data();
                let memory_bytes = state.memory.used();
                Ok(Ran { answer, transaction: state.transaction, memory_bytes, setup, guest })
            }
            Err(Ended::Plugin(fault)) => Err(Ended::Plugin(Box::new(PluginFault { output, ..*fault }))),
            Err(ended) => Err(ended),
        }
    }

    /// A store with all limits of one call.
    fn arm(&self, plugin: &Compiled, transaction: Transaction, limits: &Arc<Limits>) -> Store<CallState> {
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

/// An instance that is kept between calls, as none is in earnest: what a fresh one costs is measured against it.
#[cfg(feature = "measure")]
pub(crate) struct Warm {
    store: Store<CallState>,
    instance: Plugin,
}

#[cfg(feature = "measure")]
impl Warm {
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

    pub(crate) fn call(&mut self, transaction: Transaction, request: &Request) -> wasmtime::Result<Answer> {
        self.store.data_mut().transaction = transaction;
        self.store.set_epoch_deadline(DEADLINE_TICKS);
        let answer = call(&self.instance, &mut self.store, request)?;
        answer.map_err(|refusal| wasmtime::Error::msg(refusal.desc))
    }
}

/// Calls the export that the request is for.
fn call(plugin: &Plugin, store: &mut Store<CallState>, request: &Request) -> wasmtime::Result<FromPlugin<Answer>> {
    let exports = plugin.im_conversation_groups_operations();
    Ok(match request {
        Request::CreateConversationGroup(params) => exports
            .call_create_conversation_group(store, &params.group_name, &borrowed(&params.conversation_id_list))?
            .map(results),
        Request::GetConversationGroupList => exports.call_get_conversation_group_list(store)?.map(Answer::GroupNames),
        Request::DeleteConversationGroup(params) => {
            exports.call_delete_conversation_group(store, &params.group_name)?.map(|()| Answer::Done)
        }
        Request::RenameConversationGroup(params) => {
            exports.call_rename_conversation_group(store, &params.old_name, &params.new_name)?.map(|()| Answer::Done)
        }
        Request::AddConversationsToGroup(params) => exports
            .call_add_conversations_to_group(store, &params.group_name, &borrowed(&params.conversation_id_list))?
            .map(results),
        Request::DeleteConversationsFromGroup(params) => exports
            .call_delete_conversations_from_group(store, &params.group_name, &borrowed(&params.conversation_id_list))?
            .map(results),
        Request::MarkConversation(params) => exports
            .call_mark_conversation(
                store,
                params.mark_type,
                params.enable_mark,
                &borrowed(&params.conversation_id_list),
            )?
            .map(results),
        Request::SetConversationCustomData(params) => exports
            .call_set_conversation_custom_data(store, &params.custom_data, &borrowed(&params.conversation_id_list))?
            .map(results),
        Request::GetConversationListByFilter(query) => {
            let filter = operations::ConversationFilter {
                conversation_type: query.filter.conversation_type.map(|kind| match kind {
                    ConversationType::C2c => types::ConversationType::C2c,
                    ConversationType::Group => types::ConversationType::Group,
                }),
                group_name: query.filter.conversation_group.as_deref(),
                mark_type: query.filter.mark_type,
            };
            exports.call_get_conversation_list_by_filter(store, filter, query.next_seq, query.count)?.map(page)
        }
        Request::SearchConversations(params) => {
            exports.call_search_conversations(store, &borrowed(&params.conversation_id_list))?.map(found)
        }
    })
}

/// Checks that the result can be one of the request: one entry for each ID, in order; no more than was asked for; and not
/// more than `max_json_bytes` once it is JSON, where one byte of a plugin can become six.
fn check(request: &Request, answer: Answer, max_json_bytes: usize) -> Result<Answer, Ended> {
    let ids: Vec<&str> = match &answer {
        Answer::Results(results) => results.iter().map(|result| result.conversation_id.as_str()).collect(),
        Answer::Found(results) => results.iter().map(|result| result.conversation_id.as_str()).collect(),
        Answer::Page(page) => page.conversation_list.iter().map(|entry| entry.conversation_id.as_str()).collect(),
        Answer::Done | Answer::GroupNames(_) => Vec::new(),
    };
    let fits = match request {
        Request::CreateConversationGroup(params)
        | Request::AddConversationsToGroup(params)
        | Request::DeleteConversationsFromGroup(params) => ids == params.conversation_id_list,
        Request::MarkConversation(params) => ids == params.conversation_id_list,
        Request::SetConversationCustomData(params) => ids == params.conversation_id_list,
        Request::SearchConversations(params) => ids == params.conversation_id_list,
        Request::GetConversationListByFilter(query) => ids.len() <= query.count as usize,
        Request::GetConversationGroupList
        | Request::DeleteConversationGroup(_)
        | Request::RenameConversationGroup(_) => true,
    };
    if !fits {
        let detail =
            format!("the answer has {} conversations that are not those of the request, in its order", ids.len());
        return Err(Ended::Plugin(Box::new(PluginFault::answer(detail))));
    }
    let bytes = json_bytes(&answer);
    if bytes > max_json_bytes {
        let detail = format!(
            "its result takes {bytes} bytes as JSON, at most {max_json_bytes} are allowed (sandbox.max_crossing_bytes)"
        );
        return Err(Ended::Plugin(Box::new(PluginFault::answer(detail))));
    }
    Ok(answer)
}

/// How many bytes the strings of a result take as JSON.
fn json_bytes(answer: &Answer) -> usize {
    let names = |names: &[String]| names.iter().map(|name| json_string_bytes(name)).sum::<usize>();
    match answer {
        Answer::Done => 0,
        Answer::GroupNames(list) => names(list),
        Answer::Results(results) => {
            let bytes = |result: &ConversationOperationResult| {
                json_string_bytes(&result.conversation_id) + json_string_bytes(&result.result_info)
            };
            results.iter().map(bytes).sum()
        }
        Answer::Page(page) => {
            let bytes = |entry: &Conversation| {
                json_string_bytes(&entry.conversation_id)
                    + json_string_bytes(&entry.custom_data)
                    + names(&entry.conversation_group_list)
            };
            page.conversation_list.iter().map(bytes).sum()
        }
        Answer::Found(found) => {
            let bytes = |result: &ConversationSearchResult| {
                json_string_bytes(&result.conversation_id)
                    + json_string_bytes(&result.result_info)
                    + json_string_bytes(&result.custom_data)
                    + names(&result.conversation_group_list)
            };
            found.iter().map(bytes).sum()
        }
    }
}

fn json_string_bytes(text: &str) -> usize {
    let bytes = |byte| match byte {
        0..=0x1f => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    };
    "\"\",".len() + text.bytes().map(bytes).sum::<usize>()
}

fn check_refusal(refusal: types::OperationError) -> Result<Answer, Ended> {
    let types::OperationError { code, desc } = refusal;
    if code == 0 {
        return Err(Ended::Plugin(Box::new(PluginFault::answer("it refused with code 0, which means success"))));
    }
    Err(Ended::Refused(OperationError { code, desc: made_for_people(desc, MAX_REASON_CHARS) }))
}

fn results(results: Vec<types::ConversationOperationResult>) -> Answer {
    let result = |result: types::ConversationOperationResult| ConversationOperationResult {
        conversation_id: result.conversation_id,
        result_code: result.result_code,
        result_info: made_for_people(result.result_info, MAX_REASON_CHARS),
    };
    Answer::Results(results.into_iter().map(result).collect())
}

fn page(page: types::ConversationPage) -> Answer {
    let conversation = |conversation: types::Conversation| Conversation {
        conversation_id: conversation.conversation_id,
        conversation_group_list: conversation.group_names,
        custom_data: conversation.custom_data,
        marks: conversation.marks,
    };
    Answer::Page(ConversationPage {
        next_seq: page.next_seq.to_string(),
        is_finished: page.is_finished,
        conversation_list: page.conversations.into_iter().map(conversation).collect(),
    })
}

fn found(results: Vec<types::ConversationSearchResult>) -> Answer {
    let result = |result: types::ConversationSearchResult| ConversationSearchResult {
        conversation_id: result.conversation_id,
        result_code: result.result_code,
        result_info: made_for_people(result.result_info, MAX_REASON_CHARS),
        conversation_group_list: result.group_names,
        custom_data: result.custom_data,
        marks: result.marks,
    };
    Answer::Found(results.into_iter().map(result).collect())
}

/// Ids as the generated bindings and the transaction take them.
pub(crate) fn borrowed(ids: &[String]) -> Vec<&str> {
    ids.iter().map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_grows_beyond_the_limit_as_json_is_the_plugins_fault() {
        let names = |name: &str| Answer::GroupNames(vec![name.to_owned(); 10]);
        let json = |answer: &Answer| match answer {
            Answer::GroupNames(names) => serde_json::to_vec(names).expect("strings are JSON").len(),
            _ => unreachable!("only names are made here"),
        };
        for name in ["Work", "\u{1b}\u{1b}\u{1b}", "\"\\", "中文"] {
            let answer = names(name);
            // The brackets are two bytes, and the last comma is not there.
            let bytes = json_bytes(&answer);
            assert_eq!(bytes, json(&answer) - 1, "{name:?}");
            assert!(check(&Request::GetConversationGroupList, answer, bytes).is_ok());
            match check(&Request::GetConversationGroupList, names(name), bytes - 1) {
                Err(Ended::Plugin(fault)) => assert!(fault.detail.contains("as JSON"), "{fault}"),
                other => unreachable!("{other:?}"),
            }
        }
    }
}
