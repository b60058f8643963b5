//! `annotation-store`: the annotations of the calling user's conversations, inside the call's transaction.

use super::borrowed;
use crate::model;
use crate::sandbox::CallState;
use crate::sandbox::bindings::annotation_store::{Annotation, Host, Member};

impl Host for CallState {
    fn get_annotations(&mut self, conversation_ids: Vec<String>) -> wasmtime::Result<Vec<Annotation>> {
        let data = self.transaction.conversation_data(&borrowed(&conversation_ids)).map_err(wasmtime::Error::new)?;
        Ok(data.into_iter().map(Annotation::from).collect())
    }

    fn page_annotated_conversations(&mut self, after: u64, limit: u32) -> wasmtime::Result<Vec<Member>> {
        let page = self.transaction.page_annotated_conversations(after, limit).map_err(wasmtime::Error::new)?;
        Ok(page.into_iter().map(Member::from).collect())
    }

    fn set_annotations(&mut self, annotations: Vec<Annotation>) -> wasmtime::Result<u32> {
        let data = annotations.into_iter().map(model::ConversationData::from).collect();
        self.transaction.set_conversation_data(data).map_err(wasmtime::Error::new)
    }
}

impl From<model::ConversationData> for Annotation {
    fn from(model::ConversationData { conversation_id, marks, custom_data }: model::ConversationData) -> Self {
        Self { conversation_id, marks, custom_data }
    }
}

impl From<Annotation> for model::ConversationData {
    fn from(Annotation { conversation_id, marks, custom_data }: Annotation) -> Self {
        Self { conversation_id, marks, custom_data }
    }
}
