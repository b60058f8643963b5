//! `group-store`: the calling user's groups, inside the call's transaction.

use super::borrowed;
use crate::sandbox::CallState;
use crate::sandbox::bindings::group_store::{Addition, Host, Member};
use crate::store::{self, TransactionError};

type Outcome<T> = Result<T, TransactionError>;

impl Host for CallState {
    fn list_groups(&mut self) -> wasmtime::Result<Vec<String>> {
        self.transaction.list_groups().map_err(wasmtime::Error::new)
    }

    fn create_group(&mut self, group_name: String, conversation_ids: Vec<String>) -> Outcome<u32> {
        self.transaction.create_group(&group_name, &borrowed(&conversation_ids))
    }

    fn remove_group(&mut self, group_name: String) -> Outcome<()> {
        self.transaction.remove_group(&group_name)
    }

    fn rename_group(&mut self, old_name: String, new_name: String) -> Outcome<()> {
        self.transaction.rename_group(&old_name, &new_name)
    }

    fn add_conversations(&mut self, group_name: String, conversation_ids: Vec<String>) -> Outcome<Addition> {
        let (added, size) = self.transaction.add_conversations(&group_name, &borrowed(&conversation_ids))?;
        Ok(Addition { added, size })
    }

    fn remove_conversations(&mut self, group_name: String, conversation_ids: Vec<String>) -> Outcome<Vec<bool>> {
        self.transaction.remove_conversations(&group_name, &borrowed(&conversation_ids))
    }

    fn evict_oldest(&mut self, group_name: String, count: u32) -> Outcome<Vec<String>> {
        self.transaction.evict_oldest(&group_name, count)
    }

    fn page_conversations(&mut self, group_name: Option<String>, after: u64, limit: u32) -> Outcome<Vec<Member>> {
        let page = self.transaction.page_conversations(group_name.as_deref(), after, limit)?;
        Ok(page.into_iter().map(Member::from).collect())
    }

    fn memberships(&mut self, conversation_ids: Vec<String>) -> wasmtime::Result<Vec<Vec<String>>> {
        self.transaction.memberships(&borrowed(&conversation_ids)).map_err(wasmtime::Error::new)
    }
}

impl From<store::Member> for Member {
    fn from(store::Member { conversation_id, position }: store::Member) -> Self {
        Self { conversation_id, position }
    }
}
