//! What parameters and results of operations have in common, by their types.

#[cfg(feature = "openapi")]
use utoipa::openapi::{RefOr, Schema};

use super::{
    AnyResult, Conversation, ConversationFilter, ConversationOperationResult, ConversationPage,
    ConversationSearchResult,
};
#[cfg(feature = "openapi")]
use crate::schema::{self, Schemas};

/// A parameter of an operation.
pub(crate) trait Parameter {
    /// How many bytes its text has, or its texts have together.
    fn text_bytes(&self) -> usize {
        0
    }

    /// What it says about the conversations in the result.
    fn entries(&self) -> Option<Entries<'_>> {
        None
    }
}

/// Which conversations a result has to have.
#[derive(Clone, Copy, Debug)]
pub enum Entries<'a> {
    /// One for each of these IDs, in this order.
    Of(&'a [String]),
    /// This many or fewer.
    AtMost(u32),
}

impl Parameter for String {
    fn text_bytes(&self) -> usize {
        self.len()
    }
}

/// The IDs of conversations.
impl Parameter for Vec<String> {
    fn text_bytes(&self) -> usize {
        self.iter().map(String::len).sum()
    }

    fn entries(&self) -> Option<Entries<'_>> {
        Some(Entries::Of(self))
    }
}

/// The size of a page.
impl Parameter for u32 {
    fn entries(&self) -> Option<Entries<'_>> {
        Some(Entries::AtMost(*self))
    }
}

impl Parameter for u64 {}

impl Parameter for bool {}

impl Parameter for ConversationFilter {
    fn text_bytes(&self) -> usize {
        self.conversation_group.as_ref().map_or(0, String::len)
    }
}

/// What a parameter can be made of.
pub trait IntoParameter<T> {
    /// The parameter.
    fn into_parameter(self) -> T;
}

impl<S: Into<String>> IntoParameter<String> for S {
    fn into_parameter(self) -> String {
        self.into()
    }
}

impl<L: IntoIterator<Item: Into<String>>> IntoParameter<Vec<String>> for L {
    fn into_parameter(self) -> Vec<String> {
        self.into_iter().map(Into::into).collect()
    }
}

macro_rules! into_themselves {
    ($($type:ty),*) => {
        $(impl IntoParameter<$type> for $type {
            fn into_parameter(self) -> $type {
                self
            }
        })*
    };
}

into_themselves!(bool, u32, u64, ConversationFilter);

/// The result of an operation.
pub trait Output: serde::Serialize + Into<AnyResult> + Send + 'static {
    /// Whether it is nothing but the success, for which the SDK has no `data`.
    fn is_nothing(&self) -> bool {
        false
    }
}

impl Output for () {
    fn is_nothing(&self) -> bool {
        true
    }
}

impl Output for Vec<String> {}
impl Output for Vec<ConversationOperationResult> {}
impl Output for ConversationPage {}
impl Output for Vec<ConversationSearchResult> {}

impl Output for AnyResult {
    fn is_nothing(&self) -> bool {
        *self == Self::Done
    }
}

/// What is in the result of an operation.
pub(crate) trait Contents {
    /// Whether its JSON form has marks.
    #[cfg(feature = "openapi")]
    const HAS_MARKS: bool = false;

    /// The IDs of the conversations in it.
    fn conversation_ids(&self) -> impl ExactSizeIterator<Item = &str> {
        [].iter().copied()
    }

    /// How many bytes its strings take as JSON.
    fn json_bytes(&self) -> usize;

    /// The schema of its JSON form, if it has one; schemas that it refers to are added to `schemas`.
    #[cfg(feature = "openapi")]
    fn schema(schemas: &mut Schemas) -> Option<RefOr<Schema>>;
}

impl Contents for () {
    fn json_bytes(&self) -> usize {
        0
    }

    #[cfg(feature = "openapi")]
    fn schema(_: &mut Schemas) -> Option<RefOr<Schema>> {
        None
    }
}

/// Names of groups.
impl Contents for Vec<String> {
    fn json_bytes(&self) -> usize {
        self.iter().map(|name| json_string_bytes(name)).sum()
    }

    #[cfg(feature = "openapi")]
    fn schema(_: &mut Schemas) -> Option<RefOr<Schema>> {
        Some(schema::strings())
    }
}

impl Contents for Vec<ConversationOperationResult> {
    fn conversation_ids(&self) -> impl ExactSizeIterator<Item = &str> {
        self.iter().map(|result| result.conversation_id.as_str())
    }

    fn json_bytes(&self) -> usize {
        let bytes = |result: &ConversationOperationResult| {
            json_string_bytes(&result.conversation_id) + json_string_bytes(&result.result_info)
        };
        self.iter().map(bytes).sum()
    }

    #[cfg(feature = "openapi")]
    fn schema(schemas: &mut Schemas) -> Option<RefOr<Schema>> {
        Some(schema::list_of::<ConversationOperationResult>(schemas))
    }
}

impl Contents for ConversationPage {
    #[cfg(feature = "openapi")]
    const HAS_MARKS: bool = true;

    fn conversation_ids(&self) -> impl ExactSizeIterator<Item = &str> {
        self.conversation_list.iter().map(|entry| entry.conversation_id.as_str())
    }

    fn json_bytes(&self) -> usize {
        let bytes = |entry: &Conversation| {
            json_string_bytes(&entry.conversation_id)
                + json_string_bytes(&entry.custom_data)
                + entry.conversation_group_list.json_bytes()
        };
        self.conversation_list.iter().map(bytes).sum()
    }

    #[cfg(feature = "openapi")]
    fn schema(schemas: &mut Schemas) -> Option<RefOr<Schema>> {
        Some(schema::reference::<Self>(schemas).into())
    }
}

impl Contents for Vec<ConversationSearchResult> {
    #[cfg(feature = "openapi")]
    const HAS_MARKS: bool = true;

    fn conversation_ids(&self) -> impl ExactSizeIterator<Item = &str> {
        self.iter().map(|result| result.conversation_id.as_str())
    }

    fn json_bytes(&self) -> usize {
        let bytes = |result: &ConversationSearchResult| {
            json_string_bytes(&result.conversation_id)
                + json_string_bytes(&result.result_info)
                + json_string_bytes(&result.custom_data)
                + result.conversation_group_list.json_bytes()
        };
        self.iter().map(bytes).sum()
    }

    #[cfg(feature = "openapi")]
    fn schema(schemas: &mut Schemas) -> Option<RefOr<Schema>> {
        Some(schema::list_of::<ConversationSearchResult>(schemas))
    }
}

fn json_string_bytes(text: &str) -> usize {
    let bytes = |byte| match byte {
        0..=0x1f => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    };
    "\"\",".len() + text.bytes().map(bytes).sum::<usize>()
}

macro_rules! any_result {
    ($($output:ty => $variant:ident;)*) => {
        $(impl From<$output> for AnyResult {
            fn from(output: $output) -> Self {
                Self::$variant(output)
            }
        })*
    };
}

any_result! {
    Vec<String> => GroupNames;
    Vec<ConversationOperationResult> => Results;
    ConversationPage => Page;
    Vec<ConversationSearchResult> => Found;
}

impl From<()> for AnyResult {
    fn from((): ()) -> Self {
        Self::Done
    }
}

#[cfg(test)]
mod tests {
    use super::Contents;

    #[test]
    fn the_bytes_of_a_result_as_json_are_counted_without_making_it() {
        for name in ["Work", "\u{1b}\u{1b}\u{1b}", "\"\\", "中文"] {
            let names = vec![name.to_owned(); 10];
            let json = serde_json::to_vec(&names).expect("strings are JSON");
            // The brackets are two bytes, and the last comma is not there.
            assert_eq!(names.json_bytes(), json.len() - 1, "{name:?}");
        }
    }
}
