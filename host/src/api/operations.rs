//! The table of operations. Each stands here once; what differs between operations is derived from its entry.

/// Hands the table to the macro `$with`. An entry has the operation's description (its first line is its summary), its type, its
/// name in the SDK, the function of the WIT interface `operations` as the bindings name it, its parameters, the result of a
/// success, and the codes that the reference plugin refuses with.
macro_rules! operations {
    ($with:ident) => {
        $with! {
            /// Creates a group and puts conversations into it.
            CreateConversationGroup = "createConversationGroup", call_create_conversation_group {
                /// The group's name.
                group_name: String,
                /// The conversations' IDs.
                #[serde(rename = "conversationIDList")]
                conversation_id_list: Vec<String>,
            } -> Vec<ConversationOperationResult>,
            refused with [INVALID_PARAMETER, BATCH_SIZE, TOO_MANY_CONVERSATIONS, TOO_MANY_GROUPS, NAME_TOO_LONG];

            /// Lists the names of all groups.
            GetConversationGroupList = "getConversationGroupList", call_get_conversation_group_list {
            } -> Vec<String>,
            refused with [];

            /// Deletes a group.
            DeleteConversationGroup = "deleteConversationGroup", call_delete_conversation_group {
                /// The group's name.
                group_name: String,
            } -> (),
            refused with [INVALID_PARAMETER, NO_SUCH_GROUP, NAME_TOO_LONG];

            /// Renames a group.
            RenameConversationGroup = "renameConversationGroup", call_rename_conversation_group {
                /// The name the group has.
                old_name: String,
                /// The name it is to have.
                new_name: String,
            } -> (),
            refused with [INVALID_PARAMETER, NO_SUCH_GROUP, NAME_TOO_LONG];

            /// Adds conversations to a group.
            AddConversationsToGroup = "addConversationsToGroup", call_add_conversations_to_group {
                /// The group's name.
                group_name: String,
                /// The conversations' IDs.
                #[serde(rename = "conversationIDList")]
                conversation_id_list: Vec<String>,
            } -> Vec<ConversationOperationResult>,
            refused with [INVALID_PARAMETER, BATCH_SIZE, TOO_MANY_CONVERSATIONS, NO_SUCH_GROUP, NAME_TOO_LONG];

            /// Deletes conversations from a group.
            DeleteConversationsFromGroup = "deleteConversationsFromGroup", call_delete_conversations_from_group {
                /// The group's name.
                group_name: String,
                /// The conversations' IDs.
                #[serde(rename = "conversationIDList")]
                conversation_id_list: Vec<String>,
            } -> Vec<ConversationOperationResult>,
            refused with [INVALID_PARAMETER, BATCH_SIZE, NO_SUCH_GROUP, NAME_TOO_LONG];

            /// Sets or clears marks of conversations.
            MarkConversation = "markConversation", call_mark_conversation {
                /// Which marks, one bit each, see [`crate::marks`]. As JSON a number or its digits in a string; a negative one is
                /// the bit pattern of a signed number of 64 bits. Numbers that JavaScript prints for other ones are refused.
                #[serde(deserialize_with = "number::bits", serialize_with = "number::exact")]
                #[cfg_attr(feature = "openapi", schema(schema_with = crate::schema::bits))]
                mark_type: u64,
                /// Whether to set them; if not, they are cleared.
                enable_mark: bool,
                /// The conversations' IDs.
                #[serde(rename = "conversationIDList")]
                conversation_id_list: Vec<String>,
            } -> Vec<ConversationOperationResult>,
            refused with [INVALID_PARAMETER, BATCH_SIZE, TOO_MANY_CONVERSATIONS];

            /// Sets custom data of conversations.
            SetConversationCustomData = "setConversationCustomData", call_set_conversation_custom_data {
                /// The custom data; the empty text removes it.
                custom_data: String,
                /// The conversations' IDs.
                #[serde(rename = "conversationIDList")]
                conversation_id_list: Vec<String>,
            } -> Vec<ConversationOperationResult>,
            refused with [INVALID_PARAMETER, BATCH_SIZE, TOO_MANY_CONVERSATIONS];

            /// Lists conversations in pages.
            ///
            /// The conversations are those that are in a group or have annotations.
            GetConversationListByFilter = "getConversationListByFilter", call_get_conversation_list_by_filter {
                /// Which conversations.
                #[serde(default, deserialize_with = "null_is_default")]
                #[cfg_attr(feature = "openapi", schema(value_type = Option<FilterFields>))]
                filter: ConversationFilter,
                /// 0 for the first page, then the `next_seq` of the page before; as JSON a number or its digits in a string.
                #[serde(default, deserialize_with = "number::next_seq", serialize_with = "number::exact")]
                #[cfg_attr(feature = "openapi", schema(schema_with = crate::schema::sequence))]
                next_seq: u64,
                /// The most conversations on the page.
                #[cfg_attr(feature = "openapi", schema(schema_with = crate::schema::number))]
                count: u32,
            } -> ConversationPage,
            refused with [INVALID_PARAMETER];

            /// Tells which groups hold conversations, and their annotations.
            SearchConversations = "searchConversations", call_search_conversations {
                /// The conversations' IDs.
                #[serde(rename = "conversationIDList")]
                conversation_id_list: Vec<String>,
            } -> Vec<ConversationSearchResult>,
            refused with [BATCH_SIZE];
        }
    };
}

pub(crate) use operations;
