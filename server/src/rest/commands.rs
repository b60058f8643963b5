//! The commands: each reads its body, does what it says in one transaction, and answers.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::body::{
    ContactItem, ContactOperation, Create, Created, CreatedGroup, Delete, Deleted, Found, Get, Got, GroupItem,
    KnownContact, Mark, MarkItem, MarkOperation, MarkResult, Marked, ResultItem, Search, Update, UpdateItem,
    UpdateResult, Updated, UpdatedGroup,
};
use super::{Answered, App, ok};
use crate::rejection::Rejection;
use convgroups_host::api::{
    AddConversationsToGroup, Conversation, ConversationFilter, ConversationOperationResult, ConversationPage,
    CreateConversationGroup, DeleteConversationGroup, DeleteConversationsFromGroup, GetConversationListByFilter,
    MarkConversation, RenameConversationGroup, SearchConversations, SetConversationCustomData, code, parse_object,
};
use convgroups_host::call::{Interrupted, Session};
use convgroups_host::model::UserId;

/// The most conversations on one page of `get_contact_group`.
const PAGE: usize = 1024;
/// Positions with one index.
const BLOCK: u64 = PAGE as u64;

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    CreateContactGroup,
    DelContactGroup,
    UpdateContactGroup,
    GetContactGroup,
    SearchContactGroup,
    MarkContact,
}

impl Command {
    pub(crate) const ALL: [Self; 6] = [
        Self::CreateContactGroup,
        Self::DelContactGroup,
        Self::UpdateContactGroup,
        Self::GetContactGroup,
        Self::SearchContactGroup,
        Self::MarkContact,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CreateContactGroup => "create_contact_group",
            Self::DelContactGroup => "del_contact_group",
            Self::UpdateContactGroup => "update_contact_group",
            Self::GetContactGroup => "get_contact_group",
            Self::SearchContactGroup => "search_contact_group",
            Self::MarkContact => "mark_contact",
        }
    }

    pub(super) async fn run(self, app: &Arc<App>, id: &str, body: &str) -> Answered {
        let call = Call { app, id, name: self.name() };
        match self {
            Self::CreateContactGroup => {
                let Create { from_account, groups } = parse(body)?;
                let [group] = exactly_one("GroupContactItem", groups)?;
                let ids = conversation_ids("GroupContactItem[0].ContactItem", group.contacts.iter())?;
                let creation = CreateConversationGroup::new(group.group_name.as_str(), ids);
                let create = move |session: &mut Session<'_>| {
                    let results = session.call(&creation)?;
                    let created = CreatedGroup {
                        group: numbered(session, &group.group_name)?,
                        results: merged(&group.contacts, results),
                    };
                    Ok(Created { groups: vec![created] })
                };
                call.answer(&from_account, create).await
            }
            Self::DelContactGroup => {
                let Delete { from_account, group_names } = parse(body)?;
                let [group_name] = exactly_one("GroupName", group_names)?;
                let deletion = DeleteConversationGroup { group_name };
                let delete = move |session: &mut Session<'_>| {
                    // The number is gone with the group.
                    let group = numbered(session, &deletion.group_name)?;
                    session.call(&deletion)?;
                    Ok(Deleted { groups: vec![group] })
                };
                call.answer(&from_account, delete).await
            }
            Self::UpdateContactGroup => call.update(parse(body)?).await,
            Self::GetContactGroup => {
                let Get { from_account, start_index } = parse(body)?;
                call.answer(&from_account, move |session| get(session, start_index)).await
            }
            Self::SearchContactGroup => {
                let Search { from_account, contacts } = parse(body)?;
                let ids = conversation_ids("ContactItem", contacts.iter())?;
                call.answer(&from_account, move |session| search(session, &ids)).await
            }
            Self::MarkContact => call.mark(parse(body)?).await,
        }
    }
}

/// A command on its way.
struct Call<'a> {
    app: &'a Arc<App>,
    id: &'a str,
    name: &'static str,
}

impl Call<'_> {
    /// Does something in one transaction and encodes what came of it.
    async fn answer<T: Serialize + Send + 'static>(
        &self,
        from_account: &str,
        operations: impl FnMut(&mut Session<'_>) -> Result<T, Interrupted> + Send + 'static,
    ) -> Answered {
        let user = UserId::new(from_account)
            .map_err(|error| Rejection::bad_request(code::INVALID_PARAMETER, format!("From_Account: {error}")))?;
        let context = self.app.call_context(self.id)?;
        let reply = self.app.host.transact_async(&user, self.name, context, operations).await?;
        self.app.metrics.call_succeeded(&reply.spent, reply.attempts, reply.version.is_some());
        Ok((ok(reply.result), user))
    }

    async fn update(&self, update: Update) -> Answered {
        let Update { from_account, update_type, update_group: group } = update;
        if update_type != 1 {
            return Err(invalid(format!("UpdateType: expected 1, got {update_type}")));
        }
        match group.update_group_type {
            1 => {
                let missing = || invalid("UpdateGroup.NewGroupName: missing, though UpdateGroupType is 1".to_owned());
                let new_name = group.new_group_name.ok_or_else(missing)?;
                let rename = RenameConversationGroup { old_name: group.old_group_name, new_name };
                let work = move |session: &mut Session<'_>| {
                    session.call(&rename)?;
                    Ok(Updated {
                        update_type: 1,
                        result: UpdatedGroup {
                            update_group_type: 1,
                            group: numbered(session, &rename.new_name)?,
                            old_group_name: rename.old_name.clone(),
                            results: Vec::new(),
                        },
                    })
                };
                self.answer(&from_account, work).await
            }
            2 => {
                let contacts = group.items.iter().map(|item| &item.contact);
                let ids = conversation_ids("UpdateGroup.ContactUpdateItem", contacts)?;
                self.check_batch(ids.len())?;
                let (name, items) = (group.old_group_name, group.items);
                self.answer(&from_account, move |session| change(session, &name, &items, &ids)).await
            }
            other => Err(invalid(format!("UpdateGroup.UpdateGroupType: expected 1 or 2, got {other}"))),
        }
    }

    async fn mark(&self, mark: Mark) -> Answered {
        let Mark { from_account, items } = mark;
        let ids = conversation_ids("MarkItem", items.iter().map(|item| &item.contact))?;
        if ids.is_empty() {
            return Err(Rejection::bad_request(code::BATCH_SIZE, "MarkItem: empty, name at least one"));
        }
        self.check_batch(ids.len())?;
        self.answer(&from_account, move |session| mark_all(session, &items, &ids)).await
    }

    /// A list that is split into several operations is as long as its parts together.
    fn check_batch(&self, count: usize) -> Result<(), Rejection> {
        let max = self.app.host.limits().max_conversations_per_call;
        if count > max as usize {
            let desc = format!("the list has {count} conversations, at most {max} are allowed");
            return Err(Rejection::bad_request(code::BATCH_SIZE, desc));
        }
        Ok(())
    }
}

fn parse<T: DeserializeOwned>(body: &str) -> Result<T, Rejection> {
    Ok(parse_object("", body)?)
}

fn invalid(desc: String) -> Rejection {
    Rejection::bad_request(code::INVALID_PARAMETER, desc)
}

fn exactly_one<T>(field: &str, list: Vec<T>) -> Result<[T; 1], Rejection> {
    <[T; 1]>::try_from(list).map_err(|list| invalid(format!("{field}: expected exactly one, got {}", list.len())))
}

fn conversation_ids<'a>(
    field: &str,
    contacts: impl Iterator<Item = &'a ContactItem>,
) -> Result<Vec<String>, Rejection> {
    let id = |(index, contact): (usize, &ContactItem)| {
        contact.conversation_id().map_err(|reason| invalid(format!("{field}[{index}].{reason}")))
    };
    contacts.enumerate().map(id).collect()
}

fn result_item(contact: &ContactItem, result: ConversationOperationResult) -> ResultItem {
    let ConversationOperationResult { result_code, result_info, .. } = result;
    ResultItem { contact_item: contact.clone().echo(), result_code, result_info }
}

fn merged(contacts: &[ContactItem], results: Vec<ConversationOperationResult>) -> Vec<ResultItem> {
    contacts.iter().zip(results).map(|(contact, result)| result_item(contact, result)).collect()
}

fn all_groups(session: &mut Session<'_>) -> Result<Vec<GroupItem>, Interrupted> {
    let groups = session.groups()?;
    Ok(groups.into_iter().map(|group| GroupItem { group_name: group.name, group_id: group.id }).collect())
}

/// The group of this name with its number; 0 for one that is not there, of which the plugin has its own opinion.
fn numbered(session: &mut Session<'_>, name: &str) -> Result<GroupItem, Interrupted> {
    let group = all_groups(session)?.into_iter().find(|group| group.group_name == name);
    Ok(group.unwrap_or_else(|| GroupItem { group_name: name.to_owned(), group_id: 0 }))
}

/// Adds and takes out, in the order of the request: as many operations as the kind changes.
fn change(session: &mut Session<'_>, name: &str, items: &[UpdateItem], ids: &[String]) -> Result<Updated, Interrupted> {
    let mut done = Vec::with_capacity(items.len());
    for run in items.chunk_by(|one, next| one.operation == next.operation) {
        let ids = ids.get(done.len()..done.len() + run.len()).unwrap_or_default();
        let results = match run.first().map(|item| item.operation) {
            Some(ContactOperation::Add) => session.call(&AddConversationsToGroup::new(name, ids))?,
            Some(ContactOperation::Delete) | None => session.call(&DeleteConversationsFromGroup::new(name, ids))?,
        };
        for (item, result) in run.iter().zip(results) {
            done.push(UpdateResult { operation: item.operation, result: result_item(&item.contact, result) });
        }
    }
    if items.is_empty() {
        // Which the plugin refuses in its own words.
        session.call(&DeleteConversationsFromGroup::new(name, ids))?;
    }
    Ok(Updated {
        update_type: 1,
        result: UpdatedGroup {
            update_group_type: 2,
            group: numbered(session, name)?,
            old_group_name: name.to_owned(),
            results: done,
        },
    })
}

/// A page from an index on. An index is the number of a block of positions, so that entries that go away do not move others,
/// and 32 bits, which is what clients have for it, are enough for a user's first four million changes. A page ends where a
/// block does; one that lies within a single block has all of it, for a block has no more positions than a page has room.
fn get(session: &mut Session<'_>, start: u64) -> Result<Got, Interrupted> {
    let groups = all_groups(session)?;
    let mut next_seq = before_block(start);
    let mut conversations: Vec<Conversation> = Vec::new();
    let complete = loop {
        let page = list(session, next_seq, PAGE - conversations.len())?;
        conversations.extend(page.conversation_list);
        if page.is_finished {
            break true;
        }
        if page.next_seq <= next_seq {
            return Err(session.refuse(code::INTERNAL, "the plugin's pages do not go on"));
        }
        next_seq = page.next_seq;
        if conversations.len() >= PAGE {
            break false;
        }
    };
    let mut next_start_index = 0;
    if !complete {
        let last = next_seq / BLOCK;
        let of_last = list(session, before_block(last), 1)?.conversation_list;
        let is_first_of_last =
            |one: &Conversation| of_last.iter().any(|first| first.conversation_id == one.conversation_id);
        next_start_index = match conversations.iter().position(is_first_of_last) {
            Some(0) => last + 1,
            Some(before) => {
                conversations.truncate(before);
                last
            }
            None => return Err(session.refuse(code::INTERNAL, "the plugin's pages do not fit together")),
        };
    }
    let contacts = conversations.iter().map(|conversation| KnownContact::listed(conversation, &groups)).collect();
    Ok(Got { contacts, groups, complete: complete.into(), next_start_index })
}

/// The position after which a block begins.
fn before_block(block: u64) -> u64 {
    block.saturating_mul(BLOCK).saturating_sub(1)
}

/// Lists all conversations after a position, `count` at most.
fn list(session: &mut Session<'_>, next_seq: u64, count: usize) -> Result<ConversationPage, Interrupted> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    session.call(&GetConversationListByFilter { filter: ConversationFilter::default(), next_seq, count })
}

fn search(session: &mut Session<'_>, ids: &[String]) -> Result<Found, Interrupted> {
    let found = session.call(&SearchConversations::new(ids))?;
    // The answer has no place for a failure of one conversation.
    if let Some(failed) = found.iter().find(|found| found.result_code != 0) {
        return Err(session.refuse(failed.result_code, failed.result_info.clone()));
    }
    let groups = all_groups(session)?;
    let contacts = found.iter().map(|found| KnownContact::found(found, &groups)).collect();
    let holds = |group: &GroupItem| found.iter().any(|found| found.conversation_group_list.contains(&group.group_name));
    Ok(Found { contacts, groups: groups.into_iter().filter(holds).collect() })
}

/// Marks, in the order of the request: as many operations as the marks change.
fn mark_all(session: &mut Session<'_>, items: &[MarkItem], ids: &[String]) -> Result<Marked, Interrupted> {
    let same = |one: &MarkItem, next: &MarkItem| {
        (one.operation, one.set, one.clear, &one.custom) == (next.operation, next.set, next.clear, &next.custom)
    };
    let mut done = Vec::with_capacity(items.len());
    for run in items.chunk_by(same) {
        let Some(first) = run.first() else { continue };
        let ids = ids.get(done.len()..done.len() + run.len()).unwrap_or_default();
        let mut outcomes: Vec<(i32, String)> = vec![(0, String::new()); run.len()];
        for results in mark_alike(session, first, ids)? {
            for (outcome, result) in outcomes.iter_mut().zip(results) {
                // The first failure counts, and a change anywhere is no remark.
                if outcome.0 == 0 && result.result_code != 0 {
                    *outcome = (result.result_code, result.result_info);
                }
            }
        }
        for (item, (result_code, result_info)) in run.iter().zip(outcomes) {
            let contact_item = item.contact.clone().echo();
            let result = ResultItem { contact_item, result_code, result_info };
            done.push(MarkResult { operation: item.operation, result });
        }
    }
    Ok(Marked { results: done })
}

/// Does what one item stands for with conversations. What is cleared comes last, and only what is not set: a conversation that
/// has something before and after has something in between, and keeps its place.
fn mark_alike(
    session: &mut Session<'_>,
    item: &MarkItem,
    ids: &[String],
) -> Result<Vec<Vec<ConversationOperationResult>>, Interrupted> {
    let standard = matches!(item.operation, MarkOperation::Standard | MarkOperation::Both);
    let custom = matches!(item.operation, MarkOperation::Custom | MarkOperation::Both);
    let clear = item.clear & !item.set;
    let mut results = Vec::new();
    // An item that names no mark at all is for the plugin to refuse.
    if standard && (item.set != 0 || (clear == 0 && !custom)) {
        results.push(session.call(&MarkConversation::new(item.set, true, ids))?);
    }
    if let (true, Some(custom_data)) = (custom, &item.custom) {
        results.push(session.call(&SetConversationCustomData::new(custom_data, ids))?);
    }
    if standard && clear != 0 {
        results.push(session.call(&MarkConversation::new(clear, false, ids))?);
    }
    Ok(results)
}
