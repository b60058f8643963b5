//! `mark-store`: marks and custom data of the calling user's conversations, inside the call's transaction.

use crate::bindings::mark_store::{ConversationData, Host, Member};
use crate::model;
use crate::sandbox::{CallState, borrowed};

impl Host for CallState {
    fn get_conversation_data(&mut self, conversation_ids: Vec<String>) -> wasmtime::Result<Vec<ConversationData>> {
        let data = self.transaction.conversation_data(&borrowed(&conversation_ids)).map_err(wasmtime::Error::new)?;
        Ok(data.into_iter().map(ConversationData::from).collect())
    }

    fn page_annotated_conversations(&mut self, after: u64, limit: u32) -> wasmtime::Result<Vec<Member>> {
        let page = self.transaction.page_annotated_conversations(after, limit).map_err(wasmtime::Error::new)?;
        Ok(page.into_iter().map(Member::from).collect())
    }

    fn set_conversation_data(&mut self, data: Vec<ConversationData>) -> wasmtime::Result<u32> {
        let data = data.into_iter().map(model::ConversationData::from).collect();
        self.transaction.set_conversation_data(data).map_err(wasmtime::Error::new)
    }
}

impl From<model::ConversationData> for ConversationData {
    fn from(model::ConversationData { conversation_id, marks, custom_data }: model::ConversationData) -> Self {
        Self { conversation_id, marks, custom_data }
    }
}

impl From<ConversationData> for model::ConversationData {
    fn from(ConversationData { conversation_id, marks, custom_data }: ConversationData) -> Self {
        Self { conversation_id, marks, custom_data }
    }
}
