//! The reference plugin's rules, linked natively over a host's transaction: to compare with what the sandbox answers, and
//! to measure what it costs.

use convgroups_guest::bindings::types::{
    self, Addition, Annotation, CreationError, LookupError, Member, RenameError, WhenFullPolicy,
};
use convgroups_guest::{AnnotationStore, GroupStore, Rules};
use convgroups_host::api::{
    AnyResult, Conversation, ConversationOperationResult, ConversationPage, ConversationSearchResult, ConversationType,
    OperationError, Request,
};
use convgroups_host::model;
use convgroups_host::settings::{Limits, WhenFull};
use convgroups_host::store::{self, Bounds, MAX_PAGE, Transaction, TransactionError};

/// Runs an operation, which stages what it changes.
///
/// # Errors
///
/// The rules' refusal.
///
/// # Panics
///
/// When the store fails.
pub fn run(transaction: &mut Transaction, limits: &Limits, request: &Request) -> Result<AnyResult, OperationError> {
    let bounds = transaction.bounds();
    let mut rules = Rules::new(Stored(transaction), InForce { limits, bounds });
    let answer = match request {
        Request::CreateConversationGroup(params) => {
            rules.create_conversation_group(&params.group_name, params.conversation_id_list.clone()).map(results)
        }
        Request::GetConversationGroupList(_) => rules.get_conversation_group_list().map(AnyResult::GroupNames),
        Request::DeleteConversationGroup(params) => {
            rules.delete_conversation_group(&params.group_name).map(|()| AnyResult::Done)
        }
        Request::RenameConversationGroup(params) => {
            rules.rename_conversation_group(&params.old_name, &params.new_name).map(|()| AnyResult::Done)
        }
        Request::AddConversationsToGroup(params) => {
            rules.add_conversations_to_group(&params.group_name, params.conversation_id_list.clone()).map(results)
        }
        Request::DeleteConversationsFromGroup(params) => {
            rules.delete_conversations_from_group(&params.group_name, params.conversation_id_list.clone()).map(results)
        }
        Request::MarkConversation(params) => rules
            .mark_conversation(params.mark_type, params.enable_mark, params.conversation_id_list.clone())
            .map(results),
        Request::SetConversationCustomData(params) => {
            rules.set_conversation_custom_data(&params.custom_data, params.conversation_id_list.clone()).map(results)
        }
        Request::GetConversationListByFilter(query) => {
            let filter = types::ConversationFilter {
                conversation_type: query.filter.conversation_type.map(|kind| match kind {
                    ConversationType::C2c => types::ConversationType::C2c,
                    ConversationType::Group => types::ConversationType::Group,
                }),
                group_name: query.filter.conversation_group.clone(),
                mark_type: query.filter.mark_type,
            };
            rules.get_conversation_list_by_filter(&filter, query.next_seq, query.count).map(page)
        }
        Request::SearchConversations(params) => {
            rules.search_conversations(params.conversation_id_list.clone()).map(found)
        }
        other => unreachable!("the rules have no {}", other.method()),
    };
    answer.map_err(|refusal| OperationError { code: refusal.code, desc: refusal.desc })
}

fn results(results: Vec<types::ConversationOperationResult>) -> AnyResult {
    let result = |result: types::ConversationOperationResult| ConversationOperationResult {
        conversation_id: result.conversation_id,
        result_code: result.result_code,
        result_info: result.result_info,
    };
    AnyResult::Results(results.into_iter().map(result).collect())
}

fn page(page: types::ConversationPage) -> AnyResult {
    let conversation = |conversation: types::Conversation| Conversation {
        conversation_id: conversation.conversation_id,
        conversation_group_list: conversation.group_names,
        custom_data: conversation.custom_data,
        marks: conversation.marks,
    };
    AnyResult::Page(ConversationPage {
        next_seq: page.next_seq,
        is_finished: page.is_finished,
        conversation_list: page.conversations.into_iter().map(conversation).collect(),
    })
}

fn found(results: Vec<types::ConversationSearchResult>) -> AnyResult {
    let result = |result: types::ConversationSearchResult| ConversationSearchResult {
        conversation_id: result.conversation_id,
        result_code: result.result_code,
        result_info: result.result_info,
        conversation_group_list: result.group_names,
        custom_data: result.custom_data,
        marks: result.marks,
    };
    AnyResult::Found(results.into_iter().map(result).collect())
}

/// The store's side. A fault of the store ends the test, as it ends a call.
struct Stored<'a>(&'a mut Transaction);

fn created<T>(result: Result<T, TransactionError>) -> Result<T, CreationError> {
    result.map_err(|error| match error {
        TransactionError::GroupExists => CreationError::GroupExists,
        error => unreachable!("neither the store nor looking for a group fails here: {error}"),
    })
}

fn found_group<T>(result: Result<T, TransactionError>) -> Result<T, LookupError> {
    result.map_err(|error| match error {
        TransactionError::NoSuchGroup => LookupError::NoSuchGroup,
        error => unreachable!("the store does not fail here: {error}"),
    })
}

fn member(store::Member { conversation_id, position }: store::Member) -> Member {
    Member { conversation_id, position }
}

impl GroupStore for Stored<'_> {
    fn list_groups(&mut self) -> Vec<String> {
        self.0.list_groups().expect("the store does not fail here")
    }
    fn create_group(&mut self, name: &str, conversation_ids: &[&str]) -> Result<u32, CreationError> {
        created(self.0.create_group(name, conversation_ids))
    }
    fn remove_group(&mut self, name: &str) -> Result<(), LookupError> {
        found_group(self.0.remove_group(name))
    }
    fn rename_group(&mut self, old_name: &str, new_name: &str) -> Result<(), RenameError> {
        self.0.rename_group(old_name, new_name).map_err(|error| match error {
            TransactionError::NoSuchGroup => RenameError::NoSuchGroup,
            TransactionError::GroupExists => RenameError::GroupExists,
            fault => unreachable!("the store does not fail here: {fault}"),
        })
    }
    fn add_conversations(&mut self, group: &str, conversation_ids: &[&str]) -> Result<Addition, LookupError> {
        let (added, size) = found_group(self.0.add_conversations(group, conversation_ids))?;
        Ok(Addition { added, size })
    }
    fn remove_conversations(&mut self, group: &str, conversation_ids: &[&str]) -> Result<Vec<bool>, LookupError> {
        found_group(self.0.remove_conversations(group, conversation_ids))
    }
    fn evict_oldest(&mut self, group: &str, count: u32) -> Result<Vec<String>, LookupError> {
        found_group(self.0.evict_oldest(group, count))
    }
    fn page_conversations(&mut self, group: Option<&str>, after: u64, limit: u32) -> Result<Vec<Member>, LookupError> {
        Ok(found_group(self.0.page_conversations(group, after, limit))?.into_iter().map(member).collect())
    }
    fn memberships(&mut self, conversation_ids: &[&str]) -> Vec<Vec<String>> {
        self.0.memberships(conversation_ids).expect("the store does not fail here")
    }
}

impl AnnotationStore for Stored<'_> {
    fn get_annotations(&mut self, conversation_ids: &[&str]) -> Vec<Annotation> {
        let data = self.0.conversation_data(conversation_ids).expect("the store does not fail here");
        let noted = |model::ConversationData { conversation_id, marks, custom_data }| Annotation {
            conversation_id,
            marks,
            custom_data,
        };
        data.into_iter().map(noted).collect()
    }
    fn page_annotated_conversations(&mut self, after: u64, limit: u32) -> Vec<Member> {
        let page = self.0.page_annotated_conversations(after, limit).expect("the store does not fail here");
        page.into_iter().map(member).collect()
    }
    fn set_annotations(&mut self, annotations: &[Annotation]) -> u32 {
        let noted = |data: Annotation| model::ConversationData {
            conversation_id: data.conversation_id,
            marks: data.marks,
            custom_data: data.custom_data,
        };
        let data = annotations.iter().cloned().map(noted).collect();
        self.0.set_conversation_data(data).expect("the store does not fail here")
    }
}

/// The limits in force.
struct InForce<'a> {
    limits: &'a Limits,
    bounds: Bounds,
}

impl convgroups_guest::Limits for InForce<'_> {
    fn max_groups(&self) -> u32 {
        self.limits.max_groups
    }
    fn max_group_name_bytes(&self) -> u32 {
        self.limits.max_group_name_bytes
    }
    fn max_conversation_id_bytes(&self) -> u32 {
        self.limits.max_conversation_id_bytes
    }
    fn max_conversations_per_call(&self) -> u32 {
        self.limits.max_conversations_per_call
    }
    fn max_conversations_per_search(&self) -> u32 {
        self.limits.max_conversations_per_search
    }
    fn max_conversations_per_page(&self) -> u32 {
        self.limits.max_conversations_per_page
    }
    fn max_conversations_per_group(&self) -> u32 {
        self.limits.max_conversations_per_group
    }
    fn when_full(&self) -> WhenFullPolicy {
        match self.limits.when_full {
            WhenFull::Refuse => WhenFullPolicy::Refuse,
            WhenFull::EvictOldest => WhenFullPolicy::EvictOldest,
        }
    }
    fn max_annotated_conversations(&self) -> u32 {
        self.limits.max_marked_conversations
    }
    fn max_custom_data_bytes(&self) -> u32 {
        self.limits.max_custom_data_bytes
    }
    fn allow_empty_creation(&self) -> bool {
        self.limits.allow_empty_creation
    }
    fn allow_unusual_group_names(&self) -> bool {
        self.limits.allow_unusual_group_names
    }
    fn max_ids_per_import(&self) -> u32 {
        self.bounds.max_ids
    }
    fn max_members_per_page(&self) -> u32 {
        MAX_PAGE
    }
}
