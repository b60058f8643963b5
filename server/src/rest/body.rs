//! Bodies of requests and answers, with Tencent's names. Fields that are not known are ignored, as there.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::Command;
use crate::openapi::CommandSchemas;
use convgroups_host::api::{Conversation, ConversationSearchResult, ConversationType};
use convgroups_host::object::null_is_default;
use convgroups_host::schema::{Schemas, reference};

/// A conversation: with a user (`Type` 1, `To_Account`) or with a chat group (`Type` 2, `ToGroupId`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct ContactItem {
    #[serde(rename = "Type")]
    #[schema(value_type = u8, minimum = 1, maximum = 2)]
    pub(super) kind: ConversationType,
    #[serde(rename = "To_Account", default, skip_serializing_if = "Option::is_none")]
    pub(super) to_account: Option<String>,
    #[serde(rename = "ToGroupId", default, skip_serializing_if = "Option::is_none")]
    pub(super) to_group_id: Option<String>,
}

impl ContactItem {
    /// The conversation's id, by the field that goes with the type; some clients send both. Or what is missing.
    pub(super) fn conversation_id(&self) -> Result<String, &'static str> {
        match (self.kind, &self.to_account, &self.to_group_id) {
            (ConversationType::C2c, Some(account), _) => Ok(format!("c2c_{account}")),
            (ConversationType::Group, _, Some(group)) => Ok(format!("group_{group}")),
            (ConversationType::C2c, None, _) => Err("To_Account: missing, though Type is 1"),
            (ConversationType::Group, _, None) => Err("ToGroupId: missing, though Type is 2"),
        }
    }

    /// As it is answered: with the field that counted.
    pub(super) fn echo(self) -> Self {
        match self.kind {
            ConversationType::C2c => Self { to_group_id: None, ..self },
            ConversationType::Group => Self { to_account: None, ..self },
        }
    }

    fn of(conversation_id: &str) -> Self {
        match conversation_id.strip_prefix("group_") {
            Some(group) => {
                Self { kind: ConversationType::Group, to_account: None, to_group_id: Some(group.to_owned()) }
            }
            None => {
                let account = conversation_id.strip_prefix("c2c_").unwrap_or(conversation_id);
                Self { kind: ConversationType::C2c, to_account: Some(account.to_owned()), to_group_id: None }
            }
        }
    }
}

/// A conversation and what is known of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KnownContact {
    #[serde(flatten)]
    contact: ContactItem,
    /// Standard marks, a bit each; the last character is bit 0.
    #[serde(rename = "StandardMark", skip_serializing_if = "Option::is_none")]
    standard_mark: Option<String>,
    #[serde(rename = "CustomMark", skip_serializing_if = "Option::is_none")]
    custom_mark: Option<String>,
    #[serde(rename = "ContactGroupId", skip_serializing_if = "Vec::is_empty")]
    contact_group_id: Vec<u32>,
}

impl KnownContact {
    pub(super) fn listed(conversation: &Conversation, groups: &[GroupItem]) -> Self {
        let Conversation { conversation_id, conversation_group_list, marks, custom_data } = conversation;
        Self::new(conversation_id, conversation_group_list, *marks, custom_data, groups)
    }

    pub(super) fn found(found: &ConversationSearchResult, groups: &[GroupItem]) -> Self {
        let ConversationSearchResult { conversation_id, conversation_group_list, marks, custom_data, .. } = found;
        Self::new(conversation_id, conversation_group_list, *marks, custom_data, groups)
    }

    fn new(id: &str, names: &[String], marks: u64, custom_data: &str, groups: &[GroupItem]) -> Self {
        let number = |name: &String| groups.iter().find(|group| group.group_name == *name).map(|group| group.group_id);
        Self {
            contact: ContactItem::of(id),
            standard_mark: (marks != 0).then(|| format!("{marks:b}")),
            custom_mark: (!custom_data.is_empty()).then(|| custom_data.to_owned()),
            contact_group_id: names.iter().filter_map(number).collect(),
        }
    }
}

/// A group: its name, and the number that it keeps when it is renamed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct GroupItem {
    #[serde(rename = "GroupName")]
    pub(super) group_name: String,
    #[serde(rename = "GroupId")]
    pub(super) group_id: u32,
}

/// What became of one conversation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ResultItem {
    #[serde(rename = "ContactItem")]
    pub(super) contact_item: ContactItem,
    #[serde(rename = "ResultCode")]
    pub(super) result_code: i32,
    #[serde(rename = "ResultInfo")]
    pub(super) result_info: String,
}

/// `create_contact_group`: exactly one group.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CreateContactGroup)]
pub(super) struct Create {
    #[serde(rename = "From_Account")]
    pub(super) from_account: String,
    #[serde(rename = "GroupContactItem")]
    #[schema(min_items = 1, max_items = 1)]
    pub(super) groups: Vec<NewGroup>,
}

/// A group to create.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewGroup {
    #[serde(rename = "GroupName")]
    pub(super) group_name: String,
    #[serde(rename = "ContactItem", default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<Vec<ContactItem>>)]
    pub(super) contacts: Vec<ContactItem>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CreatedContactGroup)]
pub(super) struct Created {
    #[serde(rename = "GroupResultItem")]
    pub(super) groups: Vec<CreatedGroup>,
}

/// A group that was created.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CreatedGroup {
    #[serde(rename = "GroupItem")]
    pub(super) group: GroupItem,
    #[serde(rename = "ResultItem")]
    pub(super) results: Vec<ResultItem>,
}

/// `del_contact_group`: exactly one name.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = DelContactGroup)]
pub(super) struct Delete {
    #[serde(rename = "From_Account")]
    pub(super) from_account: String,
    #[serde(rename = "GroupName")]
    #[schema(min_items = 1, max_items = 1)]
    pub(super) group_names: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeletedContactGroup)]
pub(super) struct Deleted {
    #[serde(rename = "GroupItem")]
    pub(super) groups: Vec<GroupItem>,
}

/// `update_contact_group`: renames a group, or adds conversations to it and takes some out.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = UpdateContactGroup)]
pub(super) struct Update {
    #[serde(rename = "From_Account")]
    pub(super) from_account: String,
    /// 1.
    #[serde(rename = "UpdateType")]
    #[schema(minimum = 1, maximum = 1)]
    pub(super) update_type: i64,
    #[serde(rename = "UpdateGroup")]
    pub(super) update_group: UpdateGroup,
}

/// What to update of a group.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct UpdateGroup {
    /// 1 to rename, 2 to change conversations.
    #[serde(rename = "UpdateGroupType")]
    #[schema(minimum = 1, maximum = 2)]
    pub(super) update_group_type: i64,
    #[serde(rename = "OldGroupName")]
    pub(super) old_group_name: String,
    #[serde(rename = "NewGroupName", default)]
    pub(super) new_group_name: Option<String>,
    #[serde(rename = "ContactUpdateItem", default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<Vec<UpdateItem>>)]
    pub(super) items: Vec<UpdateItem>,
}

/// A conversation to add or take out.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct UpdateItem {
    #[serde(rename = "ContactOptType")]
    #[schema(value_type = u8, minimum = 1, maximum = 2)]
    pub(super) operation: ContactOperation,
    #[serde(rename = "ContactItem")]
    pub(super) contact: ContactItem,
}

/// 1 to add, 2 to delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u8")]
pub(super) enum ContactOperation {
    Add,
    Delete,
}

impl TryFrom<i64> for ContactOperation {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        match number {
            1 => Ok(Self::Add),
            2 => Ok(Self::Delete),
            other => Err(format!("expected 1 (add) or 2 (delete), got {other}")),
        }
    }
}

impl From<ContactOperation> for u8 {
    fn from(operation: ContactOperation) -> Self {
        match operation {
            ContactOperation::Add => 1,
            ContactOperation::Delete => 2,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UpdatedContactGroup)]
pub(super) struct Updated {
    #[serde(rename = "UpdateType")]
    pub(super) update_type: u8,
    #[serde(rename = "UpdateGroupResult")]
    pub(super) result: UpdatedGroup,
}

/// What became of an update. Of a renaming `ContactResultItem` is there too, and empty.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UpdatedGroup {
    #[serde(rename = "UpdateGroupType")]
    pub(super) update_group_type: u8,
    #[serde(flatten)]
    pub(super) group: GroupItem,
    #[serde(rename = "OldGroupName")]
    pub(super) old_group_name: String,
    #[serde(rename = "ContactResultItem")]
    pub(super) results: Vec<UpdateResult>,
}

/// What became of one conversation of an update.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UpdateResult {
    #[serde(rename = "ContactOptType")]
    #[schema(value_type = u8)]
    pub(super) operation: ContactOperation,
    #[serde(flatten)]
    pub(super) result: ResultItem,
}

/// `get_contact_group`: everything of a user, in pages.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = GetContactGroup)]
pub(super) struct Get {
    #[serde(rename = "From_Account")]
    pub(super) from_account: String,
    /// 0 for the first page, then what `NextStartIndex` said.
    #[serde(rename = "StartIndex", default, deserialize_with = "null_is_default")]
    #[schema(value_type = Option<u64>)]
    pub(super) start_index: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GotContactGroup)]
pub(super) struct Got {
    #[serde(rename = "ContactItem")]
    pub(super) contacts: Vec<KnownContact>,
    #[serde(rename = "GroupItem")]
    pub(super) groups: Vec<GroupItem>,
    /// 1 when this is the last page.
    #[serde(rename = "CompleteFlag")]
    pub(super) complete: u8,
    #[serde(rename = "NextStartIndex")]
    pub(super) next_start_index: u64,
}

/// `search_contact_group`: what is known of given conversations.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = SearchContactGroup)]
pub(super) struct Search {
    #[serde(rename = "From_Account")]
    pub(super) from_account: String,
    #[serde(rename = "ContactItem")]
    #[schema(min_items = 1)]
    pub(super) contacts: Vec<ContactItem>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FoundContactGroup)]
pub(super) struct Found {
    #[serde(rename = "ContactResultItem")]
    pub(super) contacts: Vec<KnownContact>,
    #[serde(rename = "GroupItem")]
    pub(super) groups: Vec<GroupItem>,
}

/// `mark_contact`: marks and custom data of conversations.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = MarkContact)]
pub(super) struct Mark {
    #[serde(rename = "From_Account")]
    pub(super) from_account: String,
    #[serde(rename = "MarkItem")]
    #[schema(min_items = 1)]
    pub(super) items: Vec<MarkItem>,
}

/// What to mark a conversation with.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct MarkItem {
    #[serde(rename = "OptType")]
    #[schema(value_type = u8, minimum = 1, maximum = 3)]
    pub(super) operation: MarkOperation,
    #[serde(rename = "ContactItem")]
    pub(super) contact: ContactItem,
    /// Numbers of bits to set.
    #[serde(rename = "SetMark", default, deserialize_with = "bits")]
    #[schema(value_type = Option<Vec<u8>>)]
    pub(super) set: u64,
    /// Numbers of bits to clear.
    #[serde(rename = "ClearMark", default, deserialize_with = "bits")]
    #[schema(value_type = Option<Vec<u8>>)]
    pub(super) clear: u64,
    #[serde(rename = "CustomMark", default)]
    pub(super) custom: Option<String>,
}

/// 1 for standard marks, 2 for custom data, 3 for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u8")]
pub(super) enum MarkOperation {
    Standard,
    Custom,
    Both,
}

impl TryFrom<i64> for MarkOperation {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        match number {
            1 => Ok(Self::Standard),
            2 => Ok(Self::Custom),
            3 => Ok(Self::Both),
            other => Err(format!("expected 1 (standard marks), 2 (custom data) or 3 (both), got {other}")),
        }
    }
}

impl From<MarkOperation> for u8 {
    fn from(operation: MarkOperation) -> Self {
        match operation {
            MarkOperation::Standard => 1,
            MarkOperation::Custom => 2,
            MarkOperation::Both => 3,
        }
    }
}

/// Numbers of bits, as the bits themselves.
fn bits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let numbers: Vec<u32> = null_is_default(deserializer)?;
    numbers.into_iter().try_fold(0, |bits, number| match 1_u64.checked_shl(number) {
        Some(bit) => Ok(bits | bit),
        None => Err(serde::de::Error::custom(format!("there is no mark {number}, but 0 to 63"))),
    })
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MarkedContact)]
pub(super) struct Marked {
    #[serde(rename = "ResultItem")]
    pub(super) results: Vec<MarkResult>,
}

/// What became of one conversation of a marking.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MarkResult {
    #[serde(rename = "OptType")]
    #[schema(value_type = u8)]
    pub(super) operation: MarkOperation,
    #[serde(flatten)]
    pub(super) result: ResultItem,
}

/// The schemas of all commands.
pub(crate) fn schemas(schemas: &mut Schemas) -> Vec<CommandSchemas> {
    let mut of = |command: Command| {
        let (summary, request, answer) = match command {
            Command::CreateContactGroup => {
                ("Creates a group", reference::<Create>(schemas), reference::<Created>(schemas))
            }
            Command::DelContactGroup => {
                ("Removes a group", reference::<Delete>(schemas), reference::<Deleted>(schemas))
            }
            Command::UpdateContactGroup => (
                "Renames a group, adds conversations to it, takes conversations out of it",
                reference::<Update>(schemas),
                reference::<Updated>(schemas),
            ),
            Command::GetContactGroup => (
                "All groups and conversations of a user, in pages",
                reference::<Get>(schemas),
                reference::<Got>(schemas),
            ),
            Command::SearchContactGroup => {
                ("What is known of conversations", reference::<Search>(schemas), reference::<Found>(schemas))
            }
            Command::MarkContact => ("Marks conversations", reference::<Mark>(schemas), reference::<Marked>(schemas)),
        };
        CommandSchemas { name: command.name(), summary, request, answer }
    };
    Command::ALL.into_iter().map(&mut of).collect()
}
