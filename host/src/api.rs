//! The operations of conversation groups and marks, as typed requests and answers. `wit/conversation-groups.wit` documents each.

use serde::{Deserialize, Serialize};

use crate::object::Object;

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// `createConversationGroup`
    CreateConversationGroup,
    /// `getConversationGroupList`
    GetConversationGroupList,
    /// `deleteConversationGroup`
    DeleteConversationGroup,
    /// `renameConversationGroup`
    RenameConversationGroup,
    /// `addConversationsToGroup`
    AddConversationsToGroup,
    /// `deleteConversationsFromGroup`
    DeleteConversationsFromGroup,
    /// `markConversation`
    MarkConversation,
    /// `setConversationCustomData`
    SetConversationCustomData,
    /// `getConversationListByFilter`
    GetConversationListByFilter,
    /// `searchConversations`
    SearchConversations,
}

impl Method {
    /// All operations.
    pub const ALL: [Self; 10] = [
        Self::CreateConversationGroup,
        Self::GetConversationGroupList,
        Self::DeleteConversationGroup,
        Self::RenameConversationGroup,
        Self::AddConversationsToGroup,
        Self::DeleteConversationsFromGroup,
        Self::MarkConversation,
        Self::SetConversationCustomData,
        Self::GetConversationListByFilter,
        Self::SearchConversations,
    ];

    /// The name in the SDK's spelling.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.names().0
    }

    /// The operation with this name, in the SDK's spelling or in kebab case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.names().0 == name || method.names().1 == name)
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::CreateConversationGroup => ("createConversationGroup", "create-conversation-group"),
            Self::GetConversationGroupList => ("getConversationGroupList", "get-conversation-group-list"),
            Self::DeleteConversationGroup => ("deleteConversationGroup", "delete-conversation-group"),
            Self::RenameConversationGroup => ("renameConversationGroup", "rename-conversation-group"),
            Self::AddConversationsToGroup => ("addConversationsToGroup", "add-conversations-to-group"),
            Self::DeleteConversationsFromGroup => ("deleteConversationsFromGroup", "delete-conversations-from-group"),
            Self::MarkConversation => ("markConversation", "mark-conversation"),
            Self::SetConversationCustomData => ("setConversationCustomData", "set-conversation-custom-data"),
            Self::GetConversationListByFilter => ("getConversationListByFilter", "get-conversation-list-by-filter"),
            Self::SearchConversations => ("searchConversations", "search-conversations"),
        }
    }
}

/// An operation with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Creates a group and puts conversations into it.
    CreateConversationGroup(GroupAndConversations),
    /// Lists the names of all groups.
    GetConversationGroupList,
    /// Removes a group.
    DeleteConversationGroup(GroupName),
    /// Renames a group.
    RenameConversationGroup(Rename),
    /// Puts conversations into a group.
    AddConversationsToGroup(GroupAndConversations),
    /// Takes conversations out of a group.
    DeleteConversationsFromGroup(GroupAndConversations),
    /// Sets or clears marks of conversations.
    MarkConversation(Mark),
    /// Gives conversations custom data.
    SetConversationCustomData(CustomData),
    /// Lists conversations in pages.
    GetConversationListByFilter(ConversationListQuery),
    /// Tells which groups hold given conversations, and what is noted on them.
    SearchConversations(Conversations),
}

impl Request {
    /// Which operation this is.
    #[must_use]
    pub fn method(&self) -> Method {
        match self {
            Self::CreateConversationGroup(_) => Method::CreateConversationGroup,
            Self::GetConversationGroupList => Method::GetConversationGroupList,
            Self::DeleteConversationGroup(_) => Method::DeleteConversationGroup,
            Self::RenameConversationGroup(_) => Method::RenameConversationGroup,
            Self::AddConversationsToGroup(_) => Method::AddConversationsToGroup,
            Self::DeleteConversationsFromGroup(_) => Method::DeleteConversationsFromGroup,
            Self::MarkConversation(_) => Method::MarkConversation,
            Self::SetConversationCustomData(_) => Method::SetConversationCustomData,
            Self::GetConversationListByFilter(_) => Method::GetConversationListByFilter,
            Self::SearchConversations(_) => Method::SearchConversations,
        }
    }
}

impl Request {
    /// The conversations that it names.
    #[must_use]
    pub fn conversation_ids(&self) -> &[String] {
        match self {
            Self::CreateConversationGroup(params)
            | Self::AddConversationsToGroup(params)
            | Self::DeleteConversationsFromGroup(params) => &params.conversation_id_list,
            Self::MarkConversation(params) => &params.conversation_id_list,
            Self::SetConversationCustomData(params) => &params.conversation_id_list,
            Self::SearchConversations(params) => &params.conversation_id_list,
            Self::GetConversationGroupList
            | Self::DeleteConversationGroup(_)
            | Self::RenameConversationGroup(_)
            | Self::GetConversationListByFilter(_) => &[],
        }
    }

    /// How long its texts are together, in bytes.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let others = match self {
            Self::CreateConversationGroup(params)
            | Self::AddConversationsToGroup(params)
            | Self::DeleteConversationsFromGroup(params) => params.group_name.len(),
            Self::DeleteConversationGroup(params) => params.group_name.len(),
            Self::RenameConversationGroup(params) => params.old_name.len() + params.new_name.len(),
            Self::GetConversationListByFilter(query) => query.filter.conversation_group.as_ref().map_or(0, String::len),
            Self::SetConversationCustomData(params) => params.custom_data.len(),
            Self::MarkConversation(_) | Self::SearchConversations(_) | Self::GetConversationGroupList => 0,
        };
        others + self.conversation_ids().iter().map(String::len).sum::<usize>()
    }
}

/// Parameters that name a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupName {
    /// The group's name.
    pub group_name: String,
}

/// Parameters that name a group and conversations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupAndConversations {
    /// The group's name.
    pub group_name: String,
    /// The conversations' ids.
    #[serde(rename = "conversationIDList")]
    pub conversation_id_list: Vec<String>,
}

/// Parameters that name conversations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Conversations {
    /// The conversations' ids.
    #[serde(rename = "conversationIDList")]
    pub conversation_id_list: Vec<String>,
}

/// Parameters of a renaming.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rename {
    /// The name the group has.
    pub old_name: String,
    /// The name it shall have.
    pub new_name: String,
}

/// Parameters of marking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mark {
    /// Which marks, one bit each, see [`crate::marks`]; as JSON a number or its digits in a string.
    #[serde(deserialize_with = "number_or_digits")]
    #[cfg_attr(feature = "server", schema(schema_with = crate::server::openapi::number_or_digits))]
    pub mark_type: u64,
    /// Whether to set them; else they are cleared.
    pub enable_mark: bool,
    /// The conversations' ids.
    #[serde(rename = "conversationIDList")]
    pub conversation_id_list: Vec<String>,
}

/// Parameters of giving custom data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CustomData {
    /// The custom data; the empty text removes it.
    pub custom_data: String,
    /// The conversations' ids.
    #[serde(rename = "conversationIDList")]
    pub conversation_id_list: Vec<String>,
}

/// Parameters of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConversationListQuery {
    /// Which conversations.
    #[serde(default, deserialize_with = "object")]
    pub filter: ConversationFilter,
    /// 0 for the first page, then what the page before said; as JSON a number or its digits in a string.
    #[serde(default, deserialize_with = "next_seq")]
    #[cfg_attr(feature = "server", schema(schema_with = crate::server::openapi::sequence))]
    pub next_seq: u64,
    /// The most conversations on the page.
    #[cfg_attr(feature = "server", schema(schema_with = crate::server::openapi::number))]
    pub count: u32,
}

/// Which conversations to list; what is left out does not restrict. As in the SDK's `V2TIMConversationListFilter`, of
/// whose fields these have a meaning without messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConversationFilter {
    /// Only conversations of this kind.
    #[serde(default)]
    pub conversation_type: Option<ConversationType>,
    /// Only members of this group; the empty name stands for "in no group".
    #[serde(default)]
    pub conversation_group: Option<String>,
    /// Only conversations with all of these marks, one bit each; 0 stands for "without any". As JSON a number or its
    /// digits in a string.
    #[serde(default, deserialize_with = "optional_number_or_digits")]
    #[cfg_attr(feature = "server", schema(schema_with = crate::server::openapi::optional_number_or_digits))]
    pub mark_type: Option<u64>,
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
    type Error = String;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        match number {
            1 => Ok(Self::C2c),
            2 => Ok(Self::Group),
            other => Err(format!("expected 1 (one other user) or 2 (a chat group), got {other}")),
        }
    }
}

/// What an operation that succeeded answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// Of deleting or renaming a group: nothing to tell.
    Done,
    /// Of listing groups: their names.
    GroupNames(Vec<String>),
    /// Of creating a group, adding, deleting, marking and giving custom data: one result for each id of the request, in its order.
    Results(Vec<ConversationOperationResult>),
    /// Of listing conversations: a page.
    Page(ConversationPage),
    /// Of searching: one result for each id of the request, in its order.
    Found(Vec<ConversationSearchResult>),
}

/// What became of one conversation of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConversationPage {
    /// Where the next page starts, as digits.
    pub next_seq: String,
    /// Whether this is the last page.
    pub is_finished: bool,
    /// The conversations.
    pub conversation_list: Vec<Conversation>,
}

/// A conversation, the groups that hold it and what is noted on it: those fields of the SDK's `V2TIMConversation` that are known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
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
    #[cfg_attr(feature = "server", schema(value_type = Vec<u64>))]
    pub marks: u64,
}

/// What is known of one conversation of a search.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
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
    #[cfg_attr(feature = "server", schema(value_type = Vec<u64>))]
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

fn object<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<ConversationFilter, D::Error> {
    Object::deserialize(deserializer).map(|Object(filter)| filter)
}

/// An empty string is what some SDK versions send for the first page.
fn next_seq<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(Number { of_nothing: Some(0) })
}

fn number_or_digits<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(Number { of_nothing: None })
}

fn optional_number_or_digits<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    struct Given(#[serde(deserialize_with = "number_or_digits")] u64);

    Ok(Option::deserialize(deserializer)?.map(|Given(number)| number))
}

/// A number, or its digits in a string: JavaScript has no way to write large numbers.
struct Number {
    /// What the empty string stands for, if it may stand for anything.
    of_nothing: Option<u64>,
}

impl serde::de::Visitor<'_> for Number {
    type Value = u64;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a whole number, or its digits in a string")
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_str<E: serde::de::Error>(self, digits: &str) -> Result<u64, E> {
        let number = match digits {
            "" => self.of_nothing,
            // Which Rust would read.
            _ if digits.starts_with('+') => None,
            _ => digits.parse().ok(),
        };
        number.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(digits), &self))
    }
}
