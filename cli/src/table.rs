//! Answers and events for people.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use convgroups_host::api::{AnyResult, Conversation, ConversationOperationResult, ConversationSearchResult};
use convgroups_host::escape::for_people;
use convgroups_host::events::Event;
use convgroups_host::marks;
use convgroups_host::model::{Change, ConversationData, DeletionReason, GroupState};

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    table
}

/// Enough for a group of thousands of conversations: only what a hostile plugin invents is cut.
const MAX_CELL_CHARS: usize = 1 << 20;

/// Adds rows of texts that may be anybody's: a caller's, a plugin's, what a store was given by other means.
fn add<const N: usize>(table: &mut Table, rows: impl IntoIterator<Item = [String; N]>) {
    table.add_rows(rows.into_iter().map(|row| row.map(|text| for_people(&text, MAX_CELL_CHARS))));
}

/// What an operation answered.
pub(crate) fn answer(answer: &AnyResult) -> String {
    match answer {
        AnyResult::Done => "done".to_owned(),
        AnyResult::GroupNames(names) if names.is_empty() => "no groups".to_owned(),
        AnyResult::GroupNames(names) => {
            let mut table = table(["group"]);
            add(&mut table, names.iter().map(|name| [name.clone()]));
            table.to_string()
        }
        AnyResult::Results(results) => {
            let mut table = table(["conversation", "code", "remark"]);
            let row = |result: &ConversationOperationResult| {
                [result.conversation_id.clone(), result.result_code.to_string(), result.result_info.clone()]
            };
            add(&mut table, results.iter().map(row));
            table.to_string()
        }
        AnyResult::Page(page) if page.conversation_list.is_empty() => "no conversations".to_owned(),
        AnyResult::Page(page) => {
            let mut table = table(["conversation", "in groups", "noted"]);
            let row = |conversation: &Conversation| {
                [
                    conversation.conversation_id.clone(),
                    conversation.conversation_group_list.join(", "),
                    notes(conversation.marks, &conversation.custom_data),
                ]
            };
            add(&mut table, page.conversation_list.iter().map(row));
            if page.is_finished { table.to_string() } else { format!("{table}\nmore from {}", page.next_seq) }
        }
        AnyResult::Found(found) => {
            let mut table = table(["conversation", "code", "in groups", "noted", "remark"]);
            let row = |result: &ConversationSearchResult| {
                [
                    result.conversation_id.clone(),
                    result.result_code.to_string(),
                    result.conversation_group_list.join(", "),
                    notes(result.marks, &result.custom_data),
                    result.result_info.clone(),
                ]
            };
            add(&mut table, found.iter().map(row));
            table.to_string()
        }
    }
}

/// Why an operation failed.
pub(crate) fn failure(code: i32, desc: &str) -> String {
    format!("failed with code {code}: {}", for_people(desc, MAX_CELL_CHARS))
}

/// Some events.
pub(crate) fn events(events: &[Event]) -> String {
    let mut table = table(["version", "event", "group", "conversations"]);
    for event in events {
        match event {
            Event::Change(change) => {
                let version = change.version.to_string();
                add(&mut table, change.events.iter().map(|event| row(version.clone(), event)));
            }
            Event::Full(state) => {
                let version = state.version.to_string();
                let group = |group: &GroupState| {
                    let conversations = group.conversation_id_list.join(", ");
                    [version.clone(), "all there is".to_owned(), group.group_name.clone(), conversations]
                };
                add(&mut table, state.groups.iter().map(group));
                if !state.conversations.is_empty() {
                    let noted = noted(&state.conversations);
                    add(&mut table, [[version, "all there is".to_owned(), String::new(), noted]]);
                }
            }
        }
    }
    table.to_string()
}

fn row(version: String, change: &Change) -> [String; 4] {
    let (event, group, conversations) = match change {
        Change::GroupCreated { group_name, conversation_list } => {
            ("onConversationGroupCreated", group_name.clone(), conversation_list.join(", "))
        }
        Change::GroupDeleted { group_name } => ("onConversationGroupDeleted", group_name.clone(), String::new()),
        Change::GroupRenamed { old_name, new_name } => {
            ("onConversationGroupNameChanged", format!("{old_name} → {new_name}"), String::new())
        }
        Change::ConversationsAdded { group_name, conversation_list } => {
            ("onConversationsAddedToGroup", group_name.clone(), conversation_list.join(", "))
        }
        Change::ConversationsDeleted { group_name, conversation_list, reason } => {
            let conversations = conversation_list.join(", ");
            let conversations = match reason {
                DeletionReason::Requested => conversations,
                DeletionReason::Evicted => format!("{conversations} (the group was full)"),
            };
            ("onConversationsDeletedFromGroup", group_name.clone(), conversations)
        }
        Change::ConversationsChanged { conversation_list } => {
            ("onConversationChanged", String::new(), noted(conversation_list))
        }
    };
    [version, event.to_owned(), group, conversations]
}

/// Conversations with what is noted on each.
fn noted(conversations: &[ConversationData]) -> String {
    let noted = |data: &ConversationData| {
        let notes = if data.is_none() { "nothing".to_owned() } else { notes(data.marks, &data.custom_data) };
        format!("{} ({notes})", data.conversation_id)
    };
    conversations.iter().map(noted).collect::<Vec<_>>().join(", ")
}

/// Marks, those that the SDK has a name for by that, others by their values; then custom data.
pub(crate) fn notes(marks: u64, custom_data: &str) -> String {
    let name = |value| match value {
        marks::STAR => "star".to_owned(),
        marks::UNREAD => "unread".to_owned(),
        marks::FOLD => "fold".to_owned(),
        marks::HIDE => "hide".to_owned(),
        other => other.to_string(),
    };
    let custom_data =
        if custom_data.is_empty() { None } else { Some(format!("\"{}\"", for_people(custom_data, MAX_CELL_CHARS))) };
    marks::values(marks).map(name).chain(custom_data).collect::<Vec<_>>().join(", ")
}
