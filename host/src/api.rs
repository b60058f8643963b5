//! The operations of conversation groups and marks, as typed requests and answers. `wit/conversation-groups.wit` documents each.

use serde::{Deserialize, Serialize};

use crate::object::null_is_default;

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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupName {
    /// The group's name.
    pub group_name: String,
}

/// Parameters that name a group and conversations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Conversations {
    /// The conversations' ids.
    #[serde(rename = "conversationIDList")]
    pub conversation_id_list: Vec<String>,
}

/// Parameters of a renaming.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rename {
    /// The name the group has.
    pub old_name: String,
    /// The name it shall have.
    pub new_name: String,
}

/// Parameters of marking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mark {
    /// Which marks, one bit each, see [`crate::marks`]. As JSON a number or its digits in a string; a negative one is the bit
    /// pattern of a signed number of 64 bits. Numbers that JavaScript prints for other ones are refused.
    #[serde(deserialize_with = "bits", serialize_with = "exact")]
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::schema::bits))]
    pub mark_type: u64,
    /// Whether to set them; else they are cleared.
    pub enable_mark: bool,
    /// The conversations' ids.
    #[serde(rename = "conversationIDList")]
    pub conversation_id_list: Vec<String>,
}

/// Parameters of giving custom data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConversationListQuery {
    /// Which conversations.
    #[serde(default, deserialize_with = "null_is_default")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<FilterFields>))]
    pub filter: ConversationFilter,
    /// 0 for the first page, then what the page before said; as JSON a number or its digits in a string.
    #[serde(default, deserialize_with = "next_seq", serialize_with = "exact")]
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::schema::sequence))]
    pub next_seq: u64,
    /// The most conversations on the page.
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::schema::number))]
    pub count: u32,
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
    /// [`Mark::mark_type`].
    #[serde(serialize_with = "optional_exact")]
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
    #[serde(default, deserialize_with = "optional_bits")]
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

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for ConversationType {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        crate::schema::conversation_type()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for ConversationType {}

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
    /// Where the next page starts, as digits.
    pub next_seq: String,
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

/// Reads a restriction that the server could only check if it had messages.
fn needs_messages<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    match Option::deserialize(deserializer)? {
        Some(true) => {
            Err(serde::de::Error::custom("true is not supported: the server has no messages; expected false or null"))
        }
        Some(false) | None => Ok(()),
    }
}

/// An empty string is what some SDK versions send for the first page.
fn next_seq<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(Number { of_nothing: Some(0), is_bits: false })
}

fn bits<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(Number { of_nothing: None, is_bits: true })
}

fn optional_bits<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    struct Given(#[serde(deserialize_with = "bits")] u64);

    Ok(Option::deserialize(deserializer)?.map(|Given(number)| number))
}

/// Writes a number that every reader of JSON reads exactly; a greater one as its digits in a string.
fn exact<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    if *number <= MAX_SAFE { serializer.serialize_u64(*number) } else { serializer.collect_str(number) }
}

fn optional_exact<S: serde::Serializer>(number: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match number {
        Some(number) => exact(number, serializer),
        None => serializer.serialize_none(),
    }
}

/// Up to here a double represents every whole number.
const MAX_SAFE: u64 = 1 << 53;

/// The whole number that JavaScript prints as `number`, where it is another one: it prints the fewest digits that lead to
/// the same double, and zeros for the others.
fn meant_by_javascript(number: u64) -> Option<u128> {
    let double = number as f64;
    let exact = double as u128;
    // Rust prints doubles with the same digits.
    (exact != u128::from(number) && double.to_string() == number.to_string()).then_some(exact)
}

fn unambiguous<E: serde::de::Error>(sign: &str, number: u64) -> Result<u64, E> {
    match meant_by_javascript(number) {
        None => Ok(number),
        Some(meant) => Err(E::custom(format_args!(
            "ambiguous number {sign}{number}: JavaScript prints {sign}{meant} like this; send the digits in a string"
        ))),
    }
}

/// A number, or its digits in a string: JavaScript has no way to write large numbers.
struct Number {
    /// What the empty string stands for, if it may stand for anything.
    of_nothing: Option<u64>,
    /// Whether the number stands for its bits, so that it may be a signed one.
    is_bits: bool,
}

impl Number {
    /// The bits of a negative number, where those are asked for.
    fn negative(&self, number: i64) -> Option<u64> {
        (self.is_bits && number < 0).then_some(number.cast_unsigned())
    }
}

impl serde::de::Visitor<'_> for Number {
    type Value = u64;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a whole number, or its digits in a string")
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<u64, E> {
        unambiguous("", number)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<u64, E> {
        let bits = self.negative(number);
        let bits = bits.ok_or_else(|| E::invalid_type(serde::de::Unexpected::Signed(number), &self))?;
        unambiguous("-", number.unsigned_abs()).map(|_| bits)
    }

    /// What has no 64 bits, or was written with a point or an exponent.
    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<u64, E> {
        if number.fract() == 0.0 && number.abs() > MAX_SAFE as f64 {
            return Err(E::custom(format_args!(
                "number {number} cannot be read exactly: expected a whole number of 64 bits; send the digits in a string"
            )));
        }
        Err(E::invalid_type(serde::de::Unexpected::Float(number), &self))
    }

    fn visit_str<E: serde::de::Error>(self, digits: &str) -> Result<u64, E> {
        let number = match digits.as_bytes() {
            [] => self.of_nothing,
            // Which Rust would read.
            [b'+', ..] => None,
            [b'-', ..] => digits.parse().ok().and_then(|number| self.negative(number)),
            _ => digits.parse().ok(),
        };
        number.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(digits), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::Mark;

    fn read(number: &str) -> Result<u64, String> {
        let json = format!(r#"{{"markType":{number},"enableMark":true,"conversationIDList":[]}}"#);
        serde_json::from_str::<Mark>(&json).map(|mark| mark.mark_type).map_err(|error| error.to_string())
    }

    #[test]
    fn what_javascript_prints_is_the_number_that_was_meant_or_refused() {
        // What JSON.stringify prints for two to the power of each, as Node.js 20 does.
        let printed = [
            (53, "9007199254740992"),
            (54, "18014398509481984"),
            (55, "36028797018963970"),
            (56, "72057594037927940"),
            (57, "144115188075855870"),
            (58, "288230376151711740"),
            (59, "576460752303423500"),
            (60, "1152921504606847000"),
            (61, "2305843009213694000"),
            (62, "4611686018427388000"),
            (63, "9223372036854776000"),
        ];
        for (bit, text) in printed {
            let meant = 1_u64 << bit;
            let refused = |text: &str| read(text).expect_err(text).contains("ambiguous number");
            assert_eq!(read(&meant.to_string()), Ok(meant), "with all digits");
            assert_eq!(read(&format!("\"{meant}\"")), Ok(meant), "in a string");
            if text == meant.to_string() {
                continue;
            }
            assert!(refused(text), "{text}");
            assert_eq!(read(&format!("\"{text}\"")), Ok(text.parse().expect("digits")), "in a string");
            // -2^63 as JavaScript prints it has no 64 bits.
            let negative = read(&format!("-{text}")).expect_err(text);
            let reason = if bit < 63 { "ambiguous number" } else { "cannot be read exactly" };
            assert!(negative.contains(reason) && negative.contains("digits in a string"), "-{text}: {negative}");
        }
        // Two bits: 60 and 40, 63 and 32, 59 and 55.
        for text in ["1152922604118474800", "9223372041149743000", "612489549322387500"] {
            assert!(read(text).expect_err(text).contains("ambiguous number"), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for mark_type in [0, 1, (1 << 53) - 1, 1 << 53, (1 << 53) + 1, 576_460_752_303_423_500, 1 << 63, u64::MAX] {
            let mark = Mark { mark_type, enable_mark: true, conversation_id_list: Vec::new() };
            let json = serde_json::to_string(&mark).expect("it writes");
            assert_eq!(serde_json::from_str::<Mark>(&json).expect("it reads"), mark, "{json}");
        }
    }
}
