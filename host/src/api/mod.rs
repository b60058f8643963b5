//! The operations of conversation groups and annotations: names, parameters, results, codes and JSON form.
//! `wit/operations.wit` documents each.
//!
//! The table in `operations.rs` has one entry for each. The types, [`Method`] and [`Request`] are made from it here; their calls of a
//! plugin are made from it in the sandbox.

pub mod code;
mod json;
mod number;
mod operations;
mod parts;
#[cfg(feature = "openapi")]
mod schema;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use json::{BadRequest, CallLine, parse_object};
pub(crate) use operations::operations;
pub(crate) use parts::{Contents, Parameter};
pub use parts::{Entries, IntoParameter, Output};
#[cfg(feature = "openapi")]
pub use schema::OperationSchema;

use crate::object::{Unknown, null_is_default};

macro_rules! define {
    ($(
        $(#[doc = $doc:literal])+
        $operation:ident = $name:literal, $export:ident {
            $($(#[$attribute:meta])* $parameter:ident: $type:ty,)*
        } -> $output:ty,
        refused with [$($code:ident),*];
    )+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
            #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
            #[serde(rename_all = "camelCase", deny_unknown_fields)]
            pub struct $operation {
                $($(#[$attribute])* pub $parameter: $type,)*
            }

            impl $operation {
                /// The operation with these parameters.
                #[must_use]
                #[allow(clippy::new_without_default, reason = "few operations have no parameters")]
                pub fn new($($parameter: impl IntoParameter<$type>),*) -> Self {
                    Self { $($parameter: $parameter.into_parameter()),* }
                }
            }

            impl From<$operation> for Request {
                fn from(operation: $operation) -> Self {
                    Self::$operation(operation)
                }
            }
        )+

        /// Which operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Method {
            $($(#[doc = $doc])+ $operation,)+
        }

        impl Method {
            /// All operations.
            pub const ALL: &[Self] = &[$(Self::$operation),+];

            /// The name in the SDK.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$operation => $name,)+
                }
            }

            /// What it does, in a few words.
            #[must_use]
            pub fn summary(self) -> &'static str {
                let summary = match self {
                    $(Self::$operation => [$($doc),+].first(),)+
                };
                summary.map_or("", |summary| summary.trim().trim_end_matches('.'))
            }

            /// The codes of the reference plugin's refusals.
            #[must_use]
            pub fn codes(self) -> &'static [i32] {
                match self {
                    $(Self::$operation => &[$(code::$code),*],)+
                }
            }

            /// Its JSON form.
            #[cfg(feature = "openapi")]
            #[must_use]
            pub fn schema(self) -> OperationSchema {
                match self {
                    $(Self::$operation => OperationSchema::new::<$operation, $output>(
                        &[$(stringify!($parameter)),*],
                    ),)+
                }
            }
        }

        /// An operation that is known only when the program runs, with its parameters.
        ///
        /// Its JSON form is that of the parameters.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        #[serde(untagged)]
        #[non_exhaustive]
        pub enum Request {
            $($(#[doc = $doc])+ $operation($operation),)+
        }

        impl Request {
            /// Which operation this is.
            #[must_use]
            pub fn method(&self) -> Method {
                match self {
                    $(Self::$operation(_) => Method::$operation,)+
                }
            }

            /// Reads an operation's parameters.
            ///
            /// # Errors
            ///
            /// 60003 if `params` is not JSON; 50002 if it is not an object, or a field is missing, unknown or of the wrong type.
            pub fn from_json(method: Method, params: &str) -> Result<Self, BadRequest> {
                Ok(match method {
                    $(Method::$operation => Self::$operation(parse_object("params", params)?),)+
                })
            }
        }
    };
}

operations!(define);

impl Method {
    /// Whether this is its name, in the SDK's spelling or in kebab case, as in the WIT interface.
    fn is_called(self, name: &str) -> bool {
        let kebab = |name: &str| {
            let mut kebab = String::with_capacity(name.len() + 8);
            for letter in name.chars() {
                if letter.is_ascii_uppercase() {
                    kebab.push('-');
                }
                kebab.push(letter.to_ascii_lowercase());
            }
            kebab
        };
        self.name() == name || kebab(self.name()) == name
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = UnknownMethod;

    /// Reads a name in the SDK's spelling or in kebab case.
    fn from_str(name: &str) -> Result<Self, UnknownMethod> {
        let method = Self::ALL.iter().copied().find(|method| method.is_called(name));
        method.ok_or_else(|| UnknownMethod { name: name.to_owned() })
    }
}

/// No operation has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", unknown(.name))]
pub struct UnknownMethod {
    /// The name.
    pub name: String,
}

fn unknown(name: &str) -> String {
    let expected: Vec<&str> = Method::ALL.iter().map(|method| method.name()).collect();
    Unknown { what: "operation", name, expected: &expected }.to_string()
}

/// Which conversations to list; what is left out does not restrict. As in the SDK's `V2TIMConversationListFilter`, of
/// whose fields these have a meaning without messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", from = "FilterFields")]
pub struct ConversationFilter {
    /// Only conversations of this kind.
    pub conversation_type: Option<ConversationType>,
    /// Only members of this group; the empty name stands for "in no group".
    pub conversation_group: Option<String>,
    /// Only conversations with all of these marks, one bit each; 0 stands for "without any". As JSON like
    /// [`MarkConversation::mark_type`].
    #[serde(serialize_with = "number::optional_exact")]
    pub mark_type: Option<u64>,
}

/// A filter as clients send it. `null` does not restrict, nor does `false` in the fields that need messages.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = ConversationFilter))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FilterFields {
    /// Only conversations of this kind.
    #[serde(default)]
    conversation_type: Option<ConversationType>,
    /// Only members of this group; the empty name stands for "in no group".
    #[serde(default)]
    conversation_group: Option<String>,
    /// Only conversations with all of these marks, one bit each; 0 stands for "without any". A number or its digits in a
    /// string; a negative one is the bit pattern of a signed number of 64 bits.
    #[serde(default, deserialize_with = "number::optional_bits")]
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::schema::optional_bits))]
    mark_type: Option<u64>,
    /// The server has no messages, and so no unread counts: `true` is refused.
    #[serde(default, deserialize_with = "needs_messages")]
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::schema::not_true))]
    has_unread_count: (),
    /// The server has no messages, and so none that mention somebody: `true` is refused.
    #[serde(default, deserialize_with = "needs_messages")]
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::schema::not_true))]
    has_group_at_info: (),
}

impl From<FilterFields> for ConversationFilter {
    fn from(fields: FilterFields) -> Self {
        let FilterFields {
            conversation_type,
            conversation_group,
            mark_type,
            has_unread_count: (),
            has_group_at_info: (),
        } = fields;
        Self { conversation_type, conversation_group, mark_type }
    }
}

/// Reads a restriction that the server could only check if it had messages.
fn needs_messages<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    match Option::deserialize(deserializer)? {
        Some(true) => {
            Err(serde::de::Error::custom("true is not supported: the server has no messages; expected false or null"))
        }
        Some(false) | None => Ok(()),
    }
}

/// The kind of a conversation. On the wire it is the SDK's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum ConversationType {
    /// 1: with one other user.
    C2c,
    /// 2: with a chat group.
    Group,
}

impl From<ConversationType> for u8 {
    fn from(kind: ConversationType) -> Self {
        match kind {
            ConversationType::C2c => 1,
            ConversationType::Group => 2,
        }
    }
}

impl TryFrom<u8> for ConversationType {
    type Error = UnknownConversationType;

    fn try_from(number: u8) -> Result<Self, UnknownConversationType> {
        match number {
            1 => Ok(Self::C2c),
            2 => Ok(Self::Group),
            other => Err(UnknownConversationType(other)),
        }
    }
}

/// No kind of conversation has this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 (one other user) or 2 (a chat group), got {0}")]
pub struct UnknownConversationType(pub u8);

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for ConversationType {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        crate::schema::conversation_type()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for ConversationType {}

/// The result of an operation that is known only when the program runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum AnyResult {
    /// Nothing but the success.
    Done,
    /// Names of groups.
    GroupNames(Vec<String>),
    /// One result for each ID of the request, in its order.
    Results(Vec<ConversationOperationResult>),
    /// A page of conversations.
    Page(ConversationPage),
    /// What is known of each ID of the request, in its order.
    Found(Vec<ConversationSearchResult>),
}

/// What became of one conversation of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConversationOperationResult {
    /// The id as it stood in the request.
    #[serde(rename = "conversationID")]
    pub conversation_id: String,
    /// 0 when the conversation is now as asked for.
    pub result_code: i32,
    /// A remark, or the reason of a failure.
    pub result_info: String,
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConversationPage {
    /// Where the next page starts; as JSON its digits in a string.
    #[serde(deserialize_with = "number::next_seq", serialize_with = "number::digits")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub next_seq: u64,
    /// Whether this is the last page.
    pub is_finished: bool,
    /// The conversations.
    pub conversation_list: Vec<Conversation>,
}

/// A conversation, the groups that hold it and what is noted on it: those fields of the SDK's `V2TIMConversation` that are known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Conversation {
    /// The conversation's id.
    #[serde(rename = "conversationID")]
    pub conversation_id: String,
    /// The names of the groups that hold it.
    pub conversation_group_list: Vec<String>,
    /// Its custom data; empty when it has none.
    pub custom_data: String,
    /// Its marks, one bit each; as JSON the list of their values, see [`crate::marks`].
    #[serde(rename = "markList", with = "crate::marks")]
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::schema::mark_list))]
    pub marks: u64,
}

/// What is known of one conversation of a search.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConversationSearchResult {
    /// The id as it stood in the request.
    #[serde(rename = "conversationID")]
    pub conversation_id: String,
    /// 0 when the id is one.
    pub result_code: i32,
    /// The reason of a failure.
    pub result_info: String,
    /// The names of the groups that hold it.
    pub conversation_group_list: Vec<String>,
    /// Its custom data; empty when it has none.
    pub custom_data: String,
    /// Its marks, one bit each; as JSON the list of their values, see [`crate::marks`].
    #[serde(rename = "markList", with = "crate::marks")]
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::schema::mark_list))]
    pub marks: u64,
}

/// The operation was refused as a whole by a rule, and nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{desc} ({code})")]
pub struct OperationError {
    /// The kind of refusal; never 0.
    pub code: i32,
    /// The reason.
    pub desc: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_found_by_both_spellings_of_its_name() {
        for &method in Method::ALL {
            assert_eq!(method.to_string().parse(), Ok(method));
        }
        assert_eq!("delete-conversations-from-group".parse(), Ok(Method::DeleteConversationsFromGroup));
        let unknown = "deleteconversationsfromgroup".parse::<Method>().expect_err("neither spelling");
        assert!(unknown.to_string().contains("deleteConversationsFromGroup"), "{unknown}");
    }
}
