//! The words that all layers share: users, versions, changes.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest user id, in bytes of UTF-8. Tencent Cloud Chat allows 32; other back ends use longer ones.
pub const MAX_USER_ID_BYTES: usize = 255;

/// Who a call is for: 1 to [`MAX_USER_ID_BYTES`] bytes without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId(Arc<str>);

impl UserId {
    /// Checks an id.
    ///
    /// # Errors
    ///
    /// When it is empty, too long, or has control characters.
    pub fn new(id: impl Into<Arc<str>>) -> Result<Self, InvalidUserId> {
        let id = id.into();
        if id.is_empty() {
            return Err(InvalidUserId("is empty"));
        }
        if id.len() > MAX_USER_ID_BYTES {
            return Err(InvalidUserId("has more than 255 bytes"));
        }
        if id.contains(char::is_control) {
            return Err(InvalidUserId("has control characters"));
        }
        Ok(Self(id))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for UserId {
    type Error = InvalidUserId;

    fn try_from(id: String) -> Result<Self, Self::Error> {
        Self::new(id)
    }
}

impl std::str::FromStr for UserId {
    type Err = InvalidUserId;

    fn from_str(id: &str) -> Result<Self, Self::Err> {
        Self::new(id)
    }
}

impl From<UserId> for String {
    fn from(id: UserId) -> Self {
        id.as_str().to_owned()
    }
}

/// A text that cannot be a user's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the user id {0}")]
pub struct InvalidUserId(&'static str);

/// Counts a user's changes: each raises it by one. A user nobody has changed anything for is at 0; one who came from another
/// store goes on after the version there, with some left out between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);

impl Version {
    /// No user ever gets there: places in a group, of which each version has its own million, would no longer fit.
    pub const MAX: Self = Self((1 << 43) - 1);

    /// The version that the next committed change leads to.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

/// Identifies the history of a store. A store gets a random one when it is created, and another one when commits that readers
/// of events have seen may be missing from it: after a restore, a failover or a point-in-time recovery. Versions of one history
/// cannot be compared with versions of another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct History(u64);

impl History {
    /// A new one, which no other store has.
    #[must_use]
    pub fn random() -> Self {
        // The keys of std's hashers come from the operating system, also right after the start of a virtual machine.
        Self(RandomState::new().build_hasher().finish())
    }
}

impl fmt::Display for History {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl fmt::Debug for History {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for History {
    type Err = InvalidHistory;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let history = u64::from_str_radix(text, 16).ok().map(Self);
        // Only one spelling: no sign, no capitals, no missing zeros.
        history.filter(|history| history.to_string() == text).ok_or_else(|| InvalidHistory(text.to_owned()))
    }
}

/// A string that cannot be a [`History`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a history: expected 16 hexadecimal digits in lower case")]
pub struct InvalidHistory(String);

/// The ID of an event: the version that it led to and the history of its store, as `4-9f86d081884c7d65`; or the version alone,
/// as `4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    /// The version.
    pub version: Version,
    /// The history; nothing where the reader does not say which one it has seen.
    pub history: Option<History>,
}

impl EventId {
    /// Whether the reader may have seen this history.
    #[must_use]
    pub fn may_be_of(self, history: History) -> bool {
        self.history.is_none_or(|seen| seen == history)
    }
}

impl From<Version> for EventId {
    fn from(version: Version) -> Self {
        Self { version, history: None }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.history {
            Some(history) => write!(formatter, "{}-{history}", self.version),
            None => fmt::Display::fmt(&self.version, formatter),
        }
    }
}

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (version, history) = match text.split_once('-') {
                Some((version, history)) => (version, Some(history.parse().ok()?)),
                None => (text, None),
            };
            // Only one spelling: no sign, no zeros before the number.
            let number: u64 = version.parse().ok().filter(|number: &u64| number.to_string() == version)?;
            Some(Self { version: Version(number), history }).filter(|id| id.version <= Version::MAX)
        };
        read().ok_or_else(|| InvalidEventId(text.to_owned()))
    }
}

/// A string that cannot be an [`EventId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the ID of an event: expected a version, as 4, or the ID that came with an event, as 4-9f86d081884c7d65"
)]
pub struct InvalidEventId(String);

/// The places that a commit gives to what it adds: they grow from commit to commit and within one, so that the order of
/// adding can be read off without touching anything that is there already.
#[derive(Debug)]
pub struct Positions {
    next: u64,
}

impl Positions {
    /// A commit adds fewer things than this (see `sandbox.max_changes`).
    const PER_VERSION: u64 = 1 << 20;

    /// The places for the commit that leads to `version`.
    #[must_use]
    pub fn of(version: Version) -> Self {
        Self { next: version.min(Version::MAX).0 * Self::PER_VERSION }
    }

    /// The next free place.
    pub fn take(&mut self) -> u64 {
        let position = self.next;
        self.next += 1;
        position
    }
}

/// Why conversations left a group. On the wire it is the SDK's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum DeletionReason {
    /// 0: the user took them out.
    Requested,
    /// 1: the group was full, and they were the oldest.
    Evicted,
}

impl From<DeletionReason> for u8 {
    fn from(reason: DeletionReason) -> Self {
        match reason {
            DeletionReason::Requested => 0,
            DeletionReason::Evicted => 1,
        }
    }
}

/// No reason for a deletion has this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no reason for a deletion: expected 0 (requested) or 1 (evicted)")]
pub struct UnknownDeletionReason(pub u8);

impl TryFrom<u8> for DeletionReason {
    type Error = UnknownDeletionReason;

    fn try_from(number: u8) -> Result<Self, UnknownDeletionReason> {
        match number {
            0 => Ok(Self::Requested),
            1 => Ok(Self::Evicted),
            other => Err(UnknownDeletionReason(other)),
        }
    }
}

/// One change to a user's groups and conversations. As JSON it is the event that the SDK's listeners know, by its SDK name.
///
/// Only what had an effect is a change: conversations that were in the group before are not listed as added, those that
/// were not in it are not listed as deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "event", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Change {
    /// A group was created with these conversations.
    #[serde(rename = "onConversationGroupCreated")]
    GroupCreated {
        /// Its name.
        group_name: String,
        /// Its first members, in order.
        conversation_list: Vec<String>,
    },
    /// A group and its memberships are gone.
    #[serde(rename = "onConversationGroupDeleted")]
    GroupDeleted {
        /// Its name.
        group_name: String,
    },
    /// A group goes by another name.
    #[serde(rename = "onConversationGroupNameChanged")]
    GroupRenamed {
        /// The name it had.
        old_name: String,
        /// The name it has.
        new_name: String,
    },
    /// Conversations were added at the end of a group.
    #[serde(rename = "onConversationsAddedToGroup")]
    ConversationsAdded {
        /// The group's name.
        group_name: String,
        /// The new members, in order.
        conversation_list: Vec<String>,
    },
    /// Conversations left a group.
    #[serde(rename = "onConversationsDeletedFromGroup")]
    ConversationsDeleted {
        /// The group's name.
        group_name: String,
        /// Who left, in the order in which they were taken out.
        conversation_list: Vec<String>,
        /// Why.
        #[cfg_attr(feature = "openapi", schema(value_type = u8, maximum = 1))]
        reason: DeletionReason,
    },
    /// Conversations got other marks or custom data.
    #[serde(rename = "onConversationChanged")]
    ConversationsChanged {
        /// What each has now; one without marks and custom data has none any more.
        conversation_list: Vec<ConversationData>,
    },
}

/// Which call a change came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The operation, in the SDK's spelling, or `import`; of several in one transaction, all their names with `+` between.
    pub method: String,
    /// The id that the call's answer and log lines carry.
    #[serde(rename = "requestID")]
    pub request_id: String,
}

/// What one call changed, as the log keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LoggedChange {
    /// The version that the change led to.
    #[cfg_attr(feature = "openapi", schema(value_type = u64))]
    pub version: Version,
    /// The call it came from.
    pub origin: Origin,
    /// What changed, in order.
    pub events: Vec<Change>,
}

/// A group with everything in it, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupState {
    /// Its name.
    pub group_name: String,
    /// Its members, in the order of adding.
    #[serde(rename = "conversationIDList")]
    pub conversation_id_list: Vec<String>,
}

/// What a user has noted on a conversation; nothing, when it has neither marks nor custom data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConversationData {
    /// The conversation's id.
    #[serde(rename = "conversationID")]
    pub conversation_id: String,
    /// Its marks, one bit each; as JSON the list of their values, see [`crate::marks`].
    #[serde(rename = "markList", with = "crate::marks")]
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::schema::mark_list))]
    pub marks: u64,
    /// A text that only apps have a meaning for.
    pub custom_data: String,
}

impl ConversationData {
    /// Of a conversation on which nothing is noted.
    #[must_use]
    pub fn none(conversation_id: impl Into<String>) -> Self {
        Self { conversation_id: conversation_id.into(), ..Self::default() }
    }

    /// Whether nothing is noted.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.marks == 0 && self.custom_data.is_empty()
    }
}

/// Everything of one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserState {
    /// The groups, in the order they were created.
    pub groups: Vec<GroupState>,
    /// The conversations with marks or custom data, in the order in which they first got some.
    pub conversations: Vec<ConversationData>,
}
