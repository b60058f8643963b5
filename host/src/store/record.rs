//! What the change log of a durable store keeps of a commit, which is not what readers are sent: hosts of two versions can share
//! a database, so that a record may be from a later version.
//!
//! A record names its format. Fields that this version does not know are ignored. A record of a later format, or with an event
//! that this version does not know, cannot be given to a reader: the reader gets a full snapshot instead.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{StoreError, StoreErrorKind, StoreResult};
use crate::model::{Change, ConversationData, DeletionReason, Origin};

/// The format that is written.
const FORMAT: u32 = 1;

/// The call that a record came from.
#[derive(Serialize, Deserialize)]
struct OriginRecord<'a> {
    method: Cow<'a, str>,
    #[serde(rename = "requestID")]
    request_id: Cow<'a, str>,
}

/// The events of a commit.
#[derive(Serialize)]
struct Record<'a> {
    format: u32,
    events: Vec<EventRecord<'a>>,
}

/// A record of any format.
#[derive(Deserialize)]
struct AnyRecord<'a> {
    format: u32,
    #[serde(borrow)]
    events: Option<&'a RawValue>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "event", rename_all_fields = "camelCase")]
enum EventRecord<'a> {
    #[serde(rename = "onConversationGroupCreated")]
    GroupCreated { group_name: Cow<'a, str>, conversation_list: Cow<'a, [String]> },
    #[serde(rename = "onConversationGroupDeleted")]
    GroupDeleted { group_name: Cow<'a, str> },
    #[serde(rename = "onConversationGroupNameChanged")]
    GroupRenamed { old_name: Cow<'a, str>, new_name: Cow<'a, str> },
    #[serde(rename = "onConversationsAddedToGroup")]
    ConversationsAdded { group_name: Cow<'a, str>, conversation_list: Cow<'a, [String]> },
    #[serde(rename = "onConversationsDeletedFromGroup")]
    ConversationsDeleted { group_name: Cow<'a, str>, conversation_list: Cow<'a, [String]>, reason: u8 },
    #[serde(rename = "onConversationChanged")]
    ConversationsChanged { conversation_list: Vec<AnnotationRecord<'a>> },
    /// An event of a later version.
    #[serde(other, skip_serializing)]
    Unknown,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnnotationRecord<'a> {
    #[serde(rename = "conversationID")]
    conversation_id: Cow<'a, str>,
    #[serde(rename = "markList", with = "crate::marks")]
    marks: u64,
    custom_data: Cow<'a, str>,
}

/// The two columns of a record.
pub(super) struct Encoded {
    pub(super) origin: String,
    pub(super) events: String,
}

/// Encodes what a commit changed.
pub(super) fn encode(origin: &Origin, changes: &[Change]) -> StoreResult<Encoded> {
    let origin = OriginRecord { method: Cow::from(&origin.method), request_id: Cow::from(&origin.request_id) };
    let record = Record { format: FORMAT, events: changes.iter().map(EventRecord::from).collect() };
    let encoded = serde_json::to_string(&origin)
        .and_then(|origin| Ok(Encoded { origin, events: serde_json::to_string(&record)? }));
    encoded.map_err(|error| StoreError::new(StoreErrorKind::Unavailable, format!("could not encode a change: {error}")))
}

/// Decodes the call that a record came from.
pub(super) fn decode_origin(origin: &str) -> serde_json::Result<Origin> {
    let OriginRecord { method, request_id } = serde_json::from_str(origin)?;
    Ok(Origin { method: method.into_owned(), request_id: request_id.into_owned() })
}

/// Decodes the changes of a record; `None` if it is from a later version that says more than this one can.
pub(super) fn decode_events(events: &str) -> serde_json::Result<Option<Vec<Change>>> {
    // Records had no format number at first, and were the list alone.
    let list = if events.starts_with('[') {
        events
    } else {
        let record: AnyRecord<'_> = serde_json::from_str(events)?;
        match record.events {
            Some(list) if record.format <= FORMAT => list.get(),
            None if record.format <= FORMAT => return Err(serde::de::Error::missing_field("events")),
            _ => return Ok(None),
        }
    };
    let records: Vec<EventRecord<'_>> = serde_json::from_str(list)?;
    Ok(records.into_iter().map(EventRecord::into_change).collect())
}

impl<'a> From<&'a Change> for EventRecord<'a> {
    fn from(change: &'a Change) -> Self {
        match change {
            Change::GroupCreated { group_name, conversation_list } => Self::GroupCreated {
                group_name: Cow::from(group_name),
                conversation_list: Cow::from(conversation_list),
            },
            Change::GroupDeleted { group_name } => Self::GroupDeleted { group_name: Cow::from(group_name) },
            Change::GroupRenamed { old_name, new_name } => {
                Self::GroupRenamed { old_name: Cow::from(old_name), new_name: Cow::from(new_name) }
            }
            Change::ConversationsAdded { group_name, conversation_list } => Self::ConversationsAdded {
                group_name: Cow::from(group_name),
                conversation_list: Cow::from(conversation_list),
            },
            Change::ConversationsDeleted { group_name, conversation_list, reason } => Self::ConversationsDeleted {
                group_name: Cow::from(group_name),
                conversation_list: Cow::from(conversation_list),
                reason: (*reason).into(),
            },
            Change::ConversationsChanged { conversation_list } => {
                let annotation = |data: &'a ConversationData| AnnotationRecord {
                    conversation_id: Cow::from(&data.conversation_id),
                    marks: data.marks,
                    custom_data: Cow::from(&data.custom_data),
                };
                Self::ConversationsChanged { conversation_list: conversation_list.iter().map(annotation).collect() }
            }
        }
    }
}

impl EventRecord<'_> {
    /// The change; `None` if this version does not know it.
    fn into_change(self) -> Option<Change> {
        Some(match self {
            Self::GroupCreated { group_name, conversation_list } => Change::GroupCreated {
                group_name: group_name.into_owned(),
                conversation_list: conversation_list.into_owned(),
            },
            Self::GroupDeleted { group_name } => Change::GroupDeleted { group_name: group_name.into_owned() },
            Self::GroupRenamed { old_name, new_name } => {
                Change::GroupRenamed { old_name: old_name.into_owned(), new_name: new_name.into_owned() }
            }
            Self::ConversationsAdded { group_name, conversation_list } => Change::ConversationsAdded {
                group_name: group_name.into_owned(),
                conversation_list: conversation_list.into_owned(),
            },
            Self::ConversationsDeleted { group_name, conversation_list, reason } => Change::ConversationsDeleted {
                group_name: group_name.into_owned(),
                conversation_list: conversation_list.into_owned(),
                reason: DeletionReason::try_from(reason).ok()?,
            },
            Self::ConversationsChanged { conversation_list } => {
                let data = |annotation: AnnotationRecord<'_>| ConversationData {
                    conversation_id: annotation.conversation_id.into_owned(),
                    marks: annotation.marks,
                    custom_data: annotation.custom_data.into_owned(),
                };
                Change::ConversationsChanged { conversation_list: conversation_list.into_iter().map(data).collect() }
            }
            Self::Unknown => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_were_written() {
        let list = || vec!["c2c_bob".to_owned(), "group_\"1\"".to_owned()];
        let data = ConversationData {
            conversation_id: "c2c_bob".to_owned(),
            marks: 1 | 1 << 63,
            custom_data: "null".to_owned(),
        };
        let changes = vec![
            Change::GroupCreated { group_name: "Work".to_owned(), conversation_list: list() },
            Change::GroupDeleted { group_name: "Work".to_owned() },
            Change::GroupRenamed { old_name: "a".to_owned(), new_name: "b".to_owned() },
            Change::ConversationsAdded { group_name: "b".to_owned(), conversation_list: list() },
            Change::ConversationsDeleted {
                group_name: "b".to_owned(),
                conversation_list: list(),
                reason: DeletionReason::Evicted,
            },
            Change::ConversationsChanged { conversation_list: vec![data] },
        ];
        let origin = Origin { method: "import".to_owned(), request_id: "1".to_owned() };
        let encoded = encode(&origin, &changes).expect("it encodes");
        assert!(encoded.events.starts_with(r#"{"format":1,"#), "{}", encoded.events);
        assert_eq!(decode_origin(&encoded.origin).expect("it decodes"), origin);
        assert_eq!(decode_events(&encoded.events).expect("it decodes"), Some(changes.clone()));
        let list = serde_json::to_string(&changes).expect("it has a JSON form");
        assert_eq!(decode_events(&list).expect("records had no format at first"), Some(changes));
    }

    #[test]
    fn records_of_later_versions_are_told_from_unreadable_ones() {
        let deleted = Change::GroupDeleted { group_name: "Work".to_owned() };
        for (record, expected) in [
            (
                r#"{"format":1,"events":[{"event":"onConversationGroupDeleted","groupName":"Work","by":"bob"}],"at":1}"#,
                Some(vec![deleted]),
            ),
            (r#"{"format":1,"events":[{"event":"onConversationGroupColoured","groupName":"Work"}]}"#, None),
            (
                r#"{"format":1,"events":[{"event":"onConversationsDeletedFromGroup","groupName":"Work","conversationList":[],"reason":2}]}"#,
                None,
            ),
            (r#"{"format":2,"changes":[]}"#, None),
        ] {
            assert_eq!(decode_events(record).expect(record), expected, "{record}");
        }
        for record in [
            "",
            "x",
            "{}",
            r#"{"format":1}"#,
            r#"{"format":1,"events":[{"event":"onConversationGroupDeleted"}]}"#,
            "[1]",
        ] {
            decode_events(record).expect_err(record);
        }
        let origin = decode_origin(r#"{"method":"markConversation","requestID":"1","device":"phone"}"#);
        assert_eq!(origin.expect("unknown fields are ignored").method, "markConversation");
    }
}
