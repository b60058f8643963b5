//! Operations as calls of a plugin's exports: made from the table of operations, and conversions between the types of the
//! library and those of the bindings.

use std::sync::Arc;

use wasmtime::Store;

use super::bindings::{operations as wit, types};
use super::engine::{Compiled, Sandbox};
use super::run::{CallState, Ended, Ran};
use crate::api::{
    self, Contents, Conversation, ConversationFilter, ConversationOperationResult, ConversationPage,
    ConversationSearchResult, ConversationType, Entries, Method, Output, Parameter, Request,
};
use crate::escape::made_for_people;
use crate::settings::Limits;
use crate::store::Transaction;

/// The longest reason of a refusal or of a conversation's result, in characters. The reference plugin's are below 200.
pub(super) const MAX_REASON_CHARS: usize = 1024;

/// An operation that a plugin is called for: any of those in [`api`](crate::api), or [`Request`] where it is known only
/// when the program runs. Only this library implements it.
pub trait Operation {
    /// The result of a success.
    type Output: Output;

    /// Which operation this is.
    fn method(&self) -> Method;

    /// The IDs of the conversations that it is about.
    fn conversation_ids(&self) -> &[String] {
        match self.entries() {
            Some(Entries::Of(ids)) => ids,
            Some(Entries::AtMost(_)) | None => &[],
        }
    }

    /// Runs it against a transaction, in a fresh sandbox.
    #[doc(hidden)]
    fn run(
        &self,
        sandbox: &Sandbox,
        plugin: &Compiled,
        transaction: Transaction,
        limits: &Arc<Limits>,
    ) -> Result<Ran<Self::Output>, Ended>;

    /// How many bytes its texts have.
    #[doc(hidden)]
    fn text_bytes(&self) -> usize;

    /// What its parameters say about the conversations in the result.
    #[doc(hidden)]
    fn entries(&self) -> Option<Entries<'_>>;
}

/// What a plugin's function returns.
pub(crate) type FromPlugin<T> = Result<T, types::OperationError>;

/// An operation that has an export of its own.
pub(crate) trait Exported: Operation<Output: Contents> {
    /// Calls the export.
    fn call(&self, exports: &wit::Guest, store: &mut Store<CallState>) -> wasmtime::Result<FromPlugin<Self::Output>>;
}

macro_rules! export {
    ($(
        $(#[$doc:meta])+
        $operation:ident = $name:literal, $export:ident {
            $($(#[$attribute:meta])* $parameter:ident: $type:ty,)*
        } -> $output:ty,
        refused with [$($code:ident),*];
    )+) => {
        $(
            impl Operation for api::$operation {
                type Output = $output;

                fn method(&self) -> Method {
                    Method::$operation
                }

                fn run(
                    &self,
                    sandbox: &Sandbox,
                    plugin: &Compiled,
                    transaction: Transaction,
                    limits: &Arc<Limits>,
                ) -> Result<Ran<$output>, Ended> {
                    sandbox.run(plugin, transaction, limits, self)
                }

                fn text_bytes(&self) -> usize {
                    0 $(+ self.$parameter.text_bytes())*
                }

                fn entries(&self) -> Option<Entries<'_>> {
                    None $(.or(self.$parameter.entries()))*
                }
            }

            impl Exported for api::$operation {
                fn call(
                    &self,
                    exports: &wit::Guest,
                    store: &mut Store<CallState>,
                ) -> wasmtime::Result<FromPlugin<$output>> {
                    let answered = exports.$export(store, $(self.$parameter.lower().pass()),*)?;
                    Ok(answered.map(Lift::lift))
                }
            }
        )+

        impl Operation for Request {
            type Output = api::AnyResult;

            fn method(&self) -> Method {
                Self::method(self)
            }

            fn run(
                &self,
                sandbox: &Sandbox,
                plugin: &Compiled,
                transaction: Transaction,
                limits: &Arc<Limits>,
            ) -> Result<Ran<api::AnyResult>, Ended> {
                match self {
                    $(Self::$operation(operation) => {
                        operation.run(sandbox, plugin, transaction, limits).map(Ran::into_any)
                    })+
                }
            }

            fn text_bytes(&self) -> usize {
                match self {
                    $(Self::$operation(operation) => operation.text_bytes(),)+
                }
            }

            fn entries(&self) -> Option<Entries<'_>> {
                match self {
                    $(Self::$operation(operation) => operation.entries(),)+
                }
            }
        }
    };
}

api::operations!(export);

/// A parameter as the bindings have it.
trait Lower {
    type Wit<'a>
    where
        Self: 'a;

    fn lower(&self) -> Self::Wit<'_>;
}

impl Lower for String {
    type Wit<'a> = &'a str;

    fn lower(&self) -> &str {
        self
    }
}

impl Lower for Vec<String> {
    type Wit<'a> = &'a [String];

    fn lower(&self) -> &[String] {
        self
    }
}

impl Lower for ConversationFilter {
    type Wit<'a> = wit::ConversationFilter;

    fn lower(&self) -> wit::ConversationFilter {
        wit::ConversationFilter {
            conversation_type: self.conversation_type.map(|kind| match kind {
                ConversationType::C2c => types::ConversationType::C2c,
                ConversationType::Group => types::ConversationType::Group,
            }),
            group_name: self.conversation_group.clone(),
            mark_type: self.mark_type,
        }
    }
}

/// What the bindings have, as they take it: records by reference.
trait Pass<'a> {
    type Argument;

    fn pass(&'a self) -> Self::Argument;
}

impl<'a> Pass<'a> for wit::ConversationFilter {
    type Argument = &'a Self;

    fn pass(&'a self) -> &'a Self {
        self
    }
}

macro_rules! lowered_as_they_are {
    ($($type:ty),*) => {
        $(impl Lower for $type {
            type Wit<'a> = $type;

            fn lower(&self) -> $type {
                *self
            }
        })*
    };
}

macro_rules! passed_as_they_are {
    ($($type:ty),*) => {
        $(impl<'a> Pass<'_> for $type {
            type Argument = $type;

            fn pass(&self) -> $type {
                *self
            }
        })*
    };
}

lowered_as_they_are!(bool, u32, u64);
passed_as_they_are!(bool, u32, u64, &'a str, &'a [String]);

/// A result as the library has it.
trait Lift<Wit> {
    fn lift(wit: Wit) -> Self;
}

impl Lift<()> for () {
    fn lift((): ()) {}
}

impl Lift<Vec<String>> for Vec<String> {
    fn lift(names: Vec<String>) -> Self {
        names
    }
}

impl Lift<Vec<types::ConversationOperationResult>> for Vec<ConversationOperationResult> {
    fn lift(results: Vec<types::ConversationOperationResult>) -> Self {
        let result = |result: types::ConversationOperationResult| ConversationOperationResult {
            conversation_id: result.conversation_id,
            result_code: result.result_code,
            result_info: made_for_people(result.result_info, MAX_REASON_CHARS),
        };
        results.into_iter().map(result).collect()
    }
}

impl Lift<types::ConversationPage> for ConversationPage {
    fn lift(page: types::ConversationPage) -> Self {
        let conversation = |conversation: types::Conversation| Conversation {
            conversation_id: conversation.conversation_id,
            conversation_group_list: conversation.group_names,
            custom_data: conversation.custom_data,
            marks: conversation.marks,
        };
        Self {
            next_seq: page.next_seq,
            is_finished: page.is_finished,
            conversation_list: page.conversations.into_iter().map(conversation).collect(),
        }
    }
}

impl Lift<Vec<types::ConversationSearchResult>> for Vec<ConversationSearchResult> {
    fn lift(results: Vec<types::ConversationSearchResult>) -> Self {
        let result = |result: types::ConversationSearchResult| ConversationSearchResult {
            conversation_id: result.conversation_id,
            result_code: result.result_code,
            result_info: made_for_people(result.result_info, MAX_REASON_CHARS),
            conversation_group_list: result.group_names,
            custom_data: result.custom_data,
            marks: result.marks,
        };
        results.into_iter().map(result).collect()
    }
}
