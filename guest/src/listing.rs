//! The rules of listing and searching.

use alloc::string::String;
use alloc::vec::Vec;

use crate::bindings::types::{
    Annotation, Conversation, ConversationFilter, ConversationPage, ConversationSearchResult, ConversationType, Member,
};
use crate::ids::conversation_type;
use crate::ports::{AnnotationStore, GroupStore, Limits};
use crate::rules::{Outcome, Rules, check_batch_size, code, refuse};

#[expect(missing_docs, reason = "documented in the WIT contract")]
#[expect(clippy::missing_errors_doc, reason = "documented in the WIT contract")]
impl<D: GroupStore + AnnotationStore, L: Limits> Rules<D, L> {
    pub fn get_conversation_list_by_filter(
        &mut self,
        filter: &ConversationFilter,
        next_seq: u64,
        count: u32,
    ) -> Outcome<ConversationPage> {
        if count == 0 {
            return refuse(code::INVALID_PARAMETER, "count is 0: ask for at least one conversation");
        }
        let count = count.min(self.limits.max_conversations_per_page()).max(1) as usize;
        let (listed, is_finished) = self.list(filter, next_seq, count);
        let next_seq = listed.last().map_or(next_seq, |member| member.position);

        let ids: Vec<&str> = listed.iter().map(|member| member.conversation_id.as_str()).collect();
        let conversations = if ids.is_empty() {
            Vec::new()
        } else {
            let (memberships, noted) = (self.store.memberships(&ids), self.store.get_annotations(&ids));
            let conversation = |(group_names, data): (_, Annotation)| Conversation {
                conversation_id: data.conversation_id,
                group_names,
                marks: data.marks,
                custom_data: data.custom_data,
            };
            memberships.into_iter().zip(noted).map(conversation).collect()
        };
        Ok(ConversationPage { conversations, next_seq, is_finished })
    }

    pub fn search_conversations(&mut self, conversation_ids: Vec<String>) -> Outcome<Vec<ConversationSearchResult>> {
        check_batch_size(&conversation_ids, self.limits.max_conversations_per_search())?;
        let max_bytes = self.limits.max_conversation_id_bytes();
        let checks: Vec<Result<(), String>> =
            conversation_ids.iter().map(|id| conversation_type(id, max_bytes).map(|_| ())).collect();
        let well_formed: Vec<&str> = conversation_ids
            .iter()
            .zip(&checks)
            .filter(|(_, check)| check.is_ok())
            .map(|(id, _)| id.as_str())
            .collect();
        let memberships = self.store.memberships(&well_formed);
        let mut found = memberships.into_iter().zip(self.store.get_annotations(&well_formed));

        let results = conversation_ids.into_iter().zip(checks).map(|(conversation_id, check)| {
            let (result_code, result_info) = match check {
                Ok(()) => (code::OK, String::new()),
                Err(reason) => (code::INVALID_PARAMETER, reason),
            };
            let found = if result_code == code::OK { found.next() } else { None };
            let (group_names, marks, custom_data) =
                found.map(|(names, data)| (names, data.marks, data.custom_data)).unwrap_or_default();
            ConversationSearchResult { conversation_id, result_code, result_info, group_names, marks, custom_data }
        });
        Ok(results.collect())
    }

    /// Up to `count` conversations after `next_seq` that pass the filter, and whether these are the last. Reads on past
    /// what the filter drops, so that a page is full unless it is the last.
    fn list(&mut self, filter: &ConversationFilter, next_seq: u64, count: usize) -> (Vec<Member>, bool) {
        let (read_ahead, at_once) = (self.limits.max_members_per_page(), self.limits.max_ids_per_import());
        let group = filter.group_name.as_deref().filter(|name| !name.is_empty());
        let drops_some = filter.conversation_type.is_some() || filter.mark_type.is_some() || is_in_no_group(filter);

        let mut listed = Vec::new();
        let mut after = next_seq;
        loop {
            // One more than fits tells whether anything follows.
            let missing = u32::try_from(count + 1 - listed.len()).unwrap_or(read_ahead);
            let wanted = if drops_some { read_ahead } else { missing };
            let page = if is_in_no_group(filter) {
                // Every conversation that is in no group, and still known, is annotated.
                self.store.page_annotated_conversations(after, wanted)
            } else {
                self.store.page_conversations(group, after, wanted).unwrap_or_default()
            };
            let Some(last) = page.last() else { return (listed, true) };
            after = last.position;
            let mut page = page.into_iter();
            while page.len() > 0 {
                let members: Vec<Member> = page.by_ref().take(at_once.max(1) as usize).collect();
                let passing = self.passing(filter, &members);
                for (member, _) in members.into_iter().zip(passing).filter(|(_, passes)| *passes) {
                    if listed.len() == count {
                        return (listed, false);
                    }
                    listed.push(member);
                }
            }
        }
    }

    /// For each member of a page, whether it passes the filter. That it is in the filter's group is known.
    fn passing(&mut self, filter: &ConversationFilter, members: &[Member]) -> Vec<bool> {
        let ids: Vec<&str> = members.iter().map(|member| member.conversation_id.as_str()).collect();
        let mut passing: Vec<bool> =
            ids.iter().map(|id| filter.conversation_type.is_none_or(|kind| is_of_type(id, kind))).collect();
        if let Some(wanted) = filter.mark_type {
            for (passes, data) in passing.iter_mut().zip(self.store.get_annotations(&ids)) {
                *passes &= if wanted == 0 { data.marks == 0 } else { data.marks & wanted == wanted };
            }
        }
        if is_in_no_group(filter) {
            for (passes, group_names) in passing.iter_mut().zip(self.store.memberships(&ids)) {
                *passes &= group_names.is_empty();
            }
        }
        passing
    }
}

fn is_in_no_group(filter: &ConversationFilter) -> bool {
    filter.group_name.as_deref() == Some("")
}

fn is_of_type(id: &str, kind: ConversationType) -> bool {
    id.starts_with(match kind {
        ConversationType::C2c => "c2c_",
        ConversationType::Group => "group_",
    })
}
