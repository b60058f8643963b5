//! The rules of marks and custom data.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::bindings::types::{Annotation, ConversationOperationResult};
use crate::ports::{AnnotationStore, GroupStore, Limits};
use crate::rules::{Outcome, Rules, code, refuse, remark};

#[expect(missing_docs, reason = "documented in the WIT contract")]
#[expect(clippy::missing_errors_doc, reason = "documented in the WIT contract")]
impl<D: GroupStore + AnnotationStore, L: Limits> Rules<D, L> {
    pub fn mark_conversation(
        &mut self,
        mark_type: u64,
        enable_mark: bool,
        conversation_ids: Vec<String>,
    ) -> Outcome<Vec<ConversationOperationResult>> {
        if mark_type == 0 {
            return refuse(code::INVALID_PARAMETER, "mark type is 0: name at least one mark");
        }
        self.note(conversation_ids, |data| {
            data.marks = if enable_mark { data.marks | mark_type } else { data.marks & !mark_type };
        })
    }

    pub fn set_conversation_custom_data(
        &mut self,
        custom_data: &str,
        conversation_ids: Vec<String>,
    ) -> Outcome<Vec<ConversationOperationResult>> {
        let (bytes, max) = (custom_data.len(), self.limits.max_custom_data_bytes());
        if bytes > max as usize {
            let desc = format!("custom data has {bytes} bytes, at most {max} are allowed");
            return refuse(code::INVALID_PARAMETER, desc);
        }
        if custom_data.contains('\0') {
            return refuse(code::INVALID_PARAMETER, "custom data has the character U+0000");
        }
        self.note(conversation_ids, |data| custom_data.clone_into(&mut data.custom_data))
    }

    /// Changes what is noted on conversations.
    fn note(
        &mut self,
        conversation_ids: Vec<String>,
        change: impl Fn(&mut Annotation),
    ) -> Outcome<Vec<ConversationOperationResult>> {
        let batch = self.checked_batch(conversation_ids)?;
        let noted = self.store.get_annotations(&batch.distinct());
        let mut is_changed = Vec::with_capacity(noted.len());
        let mut changed = Vec::new();
        let mut is_one_more = false;
        for before in noted {
            let mut after = before.clone();
            change(&mut after);
            is_changed.push(after != before);
            if after != before {
                is_one_more |= is_none(&before);
                changed.push(after);
            }
        }
        if !changed.is_empty() {
            let (count, max) = (self.store.set_annotations(&changed), self.limits.max_annotated_conversations());
            // A user with too many annotations, since the limit was lowered, may still change and clear them.
            if is_one_more && count > max {
                let desc = format!("{count} conversations would have marks or custom data, at most {max} are allowed");
                return refuse(code::TOO_MANY_CONVERSATIONS, desc);
            }
        }
        Ok(batch.results(&is_changed, remark::UNCHANGED))
    }
}

fn is_none(data: &Annotation) -> bool {
    data.marks == 0 && data.custom_data.is_empty()
}
