//! Conversation ids: what is well-formed, and which of a request are worth asking the store about.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::bindings::types::{ConversationOperationResult, ConversationType};
use crate::rules::{code, remark};

/// The type of a well-formed id; else the reason why it is malformed.
pub(crate) fn conversation_type(id: &str, max_bytes: u32) -> Result<ConversationType, String> {
    let (kind, rest) = if let Some(rest) = id.strip_prefix("c2c_") {
        (ConversationType::C2c, rest)
    } else if let Some(rest) = id.strip_prefix("group_") {
        (ConversationType::Group, rest)
    } else {
        return Err(without_prefix(id, max_bytes));
    };
    if rest.is_empty() {
        return Err("malformed conversation id: nothing after the prefix".to_string());
    }
    if id.len() > max_bytes as usize {
        return Err(alloc::format!("malformed conversation id: {} bytes, at most {max_bytes} are allowed", id.len()));
    }
    if id.contains(char::is_control) {
        return Err("malformed conversation id: control characters are not allowed".to_string());
    }
    Ok(kind)
}

/// What is wrong with an id that has neither prefix. The Web SDK has others, and its ids are answered with the right ones.
fn without_prefix(id: &str, max_bytes: u32) -> String {
    let right = |theirs, prefix| {
        let rest = id.strip_prefix(theirs).filter(|rest| !rest.is_empty() && !rest.starts_with('_'))?;
        let right = alloc::format!("{prefix}{rest}");
        conversation_type(&right, max_bytes).ok()?;
        Some(alloc::format!("malformed conversation id: {theirs} is the Web SDK's prefix, expected {right:?}"))
    };
    right("C2C", "c2c_").or_else(|| right("GROUP", "group_")).unwrap_or_else(|| {
        "malformed conversation id: expected \"c2c_\" and a user, or \"group_\" and a group".to_string()
    })
}

/// An id as what tells it from others soonest: ids of one request mostly begin alike and end differently, and memory is
/// compared byte by byte here.
fn from_its_end(id: &str) -> (u64, &str) {
    (id.as_bytes().last_chunk().map_or(0, |end| u64::from_le_bytes(*end)), id)
}

/// What a place in a request's list of ids is.
enum Place {
    /// The first of its id: the store decides. Holds the index into the distinct ids.
    Distinct,
    /// Named before.
    Repeated,
    /// Not an id.
    Malformed(String),
}

/// A request's ids, sorted out: each place of the request is one of the distinct ids, repeated, or malformed.
pub(crate) struct Batch {
    requested: Vec<String>,
    places: Vec<Place>,
}

impl Batch {
    pub(crate) fn new(requested: Vec<String>, max_bytes: u32) -> Self {
        let mut seen = BTreeSet::new();
        let places = requested
            .iter()
            .map(|id| match conversation_type(id, max_bytes) {
                Err(reason) => Place::Malformed(reason),
                Ok(_) if seen.insert(from_its_end(id)) => Place::Distinct,
                Ok(_) => Place::Repeated,
            })
            .collect();
        Self { requested, places }
    }

    /// The well-formed ids, each once, in the order of the request.
    pub(crate) fn distinct(&self) -> Vec<&str> {
        let places = self.requested.iter().zip(&self.places);
        places.filter(|(_, place)| matches!(place, Place::Distinct)).map(|(id, _)| id.as_str()).collect()
    }

    /// One result for each place of the request, given for each distinct id whether the operation changed anything, and
    /// the remark for those where it did not.
    pub(crate) fn results(self, changed: &[bool], unchanged_remark: &str) -> Vec<ConversationOperationResult> {
        let mut changed = changed.iter();
        let places = self.requested.into_iter().zip(self.places);
        places
            .map(|(conversation_id, place)| {
                let (result_code, result_info) = match place {
                    Place::Malformed(reason) => (code::INVALID_PARAMETER, reason),
                    Place::Repeated => (code::OK, remark::REPEATED.to_string()),
                    Place::Distinct if changed.next().copied().unwrap_or(false) => (code::OK, String::new()),
                    Place::Distinct => (code::OK, unchanged_remark.to_string()),
                };
                ConversationOperationResult { conversation_id, result_code, result_info }
            })
            .collect()
    }
}
