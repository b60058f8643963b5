//! Answers and events for people.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use convgroups_host::api::Answer;
use convgroups_host::events::Event;
use convgroups_host::marks;
use convgroups_host::model::{Change, ConversationData, DeletionReason};

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    table
}

/// What an operation answered.
pub(crate) fn answer(answer: &Answer) -> String {
    match answer {
        Answer::Done => "done".to_owned(),
        Answer::GroupNames(names) if names.is_empty() => "no groups".to_owned(),
        Answer::GroupNames(names) => {
            let mut table = table(["group"]);
            table.add_rows(names.iter().map(|name| [name]));
            table.to_string()
        }
        Answer::Results(results) => {
            let mut table = table(["conversation", "code", "remark"]);
            table.add_rows(results.iter().map(|result| {
                [result.conversation_id.clone(), result.result_code.to_string(), result.result_info.clone()]
            }));
            table.to_string()
        }
        Answer::Page(page) if page.conversation_list.is_empty() => "no conversations".to_owned(),
        Answer::Page(page) => {
            let mut table = table(["conversation", "in groups", "noted"]);
            table.add_rows(page.conversation_list.iter().map(|conversation| {
                [
                    conversation.conversation_id.clone(),
                    conversation.conversation_group_list.join(", "),
                    notes(conversation.marks, &conversation.custom_data),
                ]
            }));
            if page.is_finished { table.to_string() } else { format!("{table}\nmore from {}", page.next_seq) }
        }
        Answer::Found(found) => {
            let mut table = table(["conversation", "code", "in groups", "noted", "remark"]);
            table.add_rows(found.iter().map(|result| {
                [
                    result.conversation_id.clone(),
                    result.result_code.to_string(),
                    result.conversation_group_list.join(", "),
                    notes(result.marks, &result.custom_data),
                    result.result_info.clone(),
                ]
            }));
            table.to_string()
        }
    }
}

/// Why an operation failed.
pub(crate) fn failure(code: i32, desc: &str) -> String {
    format!("failed with code {code}: {desc}")
}

/// Some events.
pub(crate) fn events(events: &[Event]) -> String {
    let mut table = table(["version", "event", "group", "conversations"]);
    for event in events {
        match event {
            Event::Change(change) => {
                let version = change.version.to_string();
                table.add_rows(change.events.iter().map(|event| row(version.clone(), event)));
            }
            Event::Full(state) => {
                let version = state.version.to_string();
                table.add_rows(state.groups.iter().map(|group| {
                    let conversations = group.conversation_id_list.join(", ");
                    [version.clone(), "all there is".to_owned(), group.group_name.clone(), conversations]
                }));
                if !state.conversations.is_empty() {
                    table.add_row([&version, "all there is", "", &noted(&state.conversations)]);
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
    let custom_data = if custom_data.is_empty() { None } else { Some(quoted(custom_data)) };
    marks::values(marks).map(name).chain(custom_data).collect::<Vec<_>>().join(", ")
}

/// Custom data in quotes. It may have characters in it that would do things to a terminal: those are escaped.
fn quoted(custom_data: &str) -> String {
    let escaped: String = custom_data
        .chars()
        .flat_map(|character| {
            let escaped = character.is_control().then(|| character.escape_default());
            let plain = escaped.is_none().then_some(character);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect();
    format!("\"{escaped}\"")
}
