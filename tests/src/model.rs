//! A reference: the rules and the store as a few lines over plain lists, with none of the project's machinery.

use convgroups_host::api::{
    AddConversationsToGroup, AnyResult, ConversationOperationResult, CreateConversationGroup, DeleteConversationGroup,
    DeleteConversationsFromGroup, MarkConversation, RenameConversationGroup, Request, SetConversationCustomData,
};
use convgroups_host::model::{ConversationData, GroupState, UserState};
use convgroups_host::settings::{Limits, WhenFull};

/// One user's groups and conversations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    groups: Vec<(String, Vec<String>)>,
    /// Conversations with marks or custom data.
    conversations: Vec<ConversationData>,
}

impl Model {
    /// Runs an operation that changes something: its answer, or the code of its refusal, after which all is as before.
    ///
    /// # Errors
    ///
    /// The code.
    pub fn run(&mut self, request: &Request, limits: &Limits) -> Result<AnyResult, i32> {
        let mut after = self.clone();
        let answer = after.change(request, limits)?;
        *self = after;
        Ok(answer)
    }

    /// Everything, in order.
    #[must_use]
    pub fn state(&self) -> UserState {
        let state = |(group_name, members): &(String, Vec<String>)| GroupState {
            group_name: group_name.clone(),
            conversation_id_list: members.clone(),
        };
        UserState { groups: self.groups.iter().map(state).collect(), conversations: self.conversations.clone() }
    }

    fn change(&mut self, request: &Request, limits: &Limits) -> Result<AnyResult, i32> {
        match request {
            Request::CreateConversationGroup(params) => {
                new_name(&params.group_name, limits)?;
                batch(&params.conversation_id_list, limits)?;
                if self.position(&params.group_name).is_some() {
                    return Err(50002);
                }
                self.groups.push((params.group_name.clone(), Vec::new()));
                if self.groups.len() > limits.max_groups as usize {
                    return Err(51010);
                }
                self.add(&params.group_name, &params.conversation_id_list, limits)
            }
            Request::DeleteConversationGroup(params) => {
                let position = self.existing(&params.group_name, limits)?;
                self.groups.remove(position);
                Ok(AnyResult::Done)
            }
            Request::RenameConversationGroup(params) => {
                name(&params.old_name)?;
                new_name(&params.new_name, limits)?;
                let position = self.existing(&params.old_name, limits)?;
                if self.position(&params.new_name).is_some() {
                    return Err(50002);
                }
                self.groups[position].0.clone_from(&params.new_name);
                Ok(AnyResult::Done)
            }
            Request::AddConversationsToGroup(params) => {
                name(&params.group_name)?;
                batch(&params.conversation_id_list, limits)?;
                self.existing(&params.group_name, limits)?;
                self.add(&params.group_name, &params.conversation_id_list, limits)
            }
            Request::DeleteConversationsFromGroup(params) => {
                name(&params.group_name)?;
                batch(&params.conversation_id_list, limits)?;
                let position = self.existing(&params.group_name, limits)?;
                let members = &mut self.groups[position].1;
                Ok(each(&params.conversation_id_list, limits, "not in the group", |id| {
                    let before = members.len();
                    members.retain(|member| member != id);
                    members.len() < before
                }))
            }
            Request::MarkConversation(params) => {
                if params.mark_type == 0 {
                    return Err(50002);
                }
                self.note(&params.conversation_id_list, limits, |data| {
                    data.marks |= params.mark_type;
                    if !params.enable_mark {
                        data.marks -= params.mark_type;
                    }
                })
            }
            Request::SetConversationCustomData(params) => {
                let custom_data = &params.custom_data;
                if custom_data.len() > limits.max_custom_data_bytes as usize || custom_data.contains('\0') {
                    return Err(50002);
                }
                self.note(&params.conversation_id_list, limits, |data| data.custom_data.clone_from(custom_data))
            }
            _ => unimplemented_here(),
        }
    }

    fn add(&mut self, group: &str, ids: &[String], limits: &Limits) -> Result<AnyResult, i32> {
        let position = self.existing(group, limits)?;
        let members = &mut self.groups[position].1;
        let before = members.len();
        let answer = each(ids, limits, "already in the group", |id| {
            let new = !members.contains(id);
            if new {
                members.push(id.clone());
            }
            new
        });
        let surplus = members.len().saturating_sub(limits.max_conversations_per_group as usize);
        if surplus > 0 && members.len() > before {
            match limits.when_full {
                WhenFull::Refuse => return Err(51008),
                WhenFull::EvictOldest => drop(members.drain(..surplus)),
            }
        }
        Ok(answer)
    }

    fn note(
        &mut self,
        ids: &[String],
        limits: &Limits,
        change: impl Fn(&mut ConversationData),
    ) -> Result<AnyResult, i32> {
        batch(ids, limits)?;
        let before = self.conversations.len();
        let answer = each(ids, limits, "unchanged", |id| {
            let known = self.conversations.iter().position(|data| data.conversation_id == *id);
            let place = known.unwrap_or(self.conversations.len());
            if known.is_none() {
                self.conversations.push(ConversationData::none(id));
            }
            let data = &mut self.conversations[place];
            let before = data.clone();
            change(data);
            let changed = *data != before;
            if data.marks == 0 && data.custom_data.is_empty() {
                self.conversations.remove(place);
            }
            changed
        });
        let after = self.conversations.len();
        if after > before && after > limits.max_marked_conversations as usize {
            return Err(51008);
        }
        Ok(answer)
    }

    fn position(&self, group: &str) -> Option<usize> {
        self.groups.iter().position(|(name, _)| name == group)
    }

    fn existing(&self, group: &str, limits: &Limits) -> Result<usize, i32> {
        name(group)?;
        self.position(group).ok_or(if group.len() > limits.max_group_name_bytes as usize { 51011 } else { 51009 })
    }
}

fn unimplemented_here() -> Result<AnyResult, i32> {
    Err(-1)
}

fn name(name: &str) -> Result<(), i32> {
    if name.is_empty() || name.contains(char::is_control) { Err(50002) } else { Ok(()) }
}

fn new_name(new: &str, limits: &Limits) -> Result<(), i32> {
    name(new)?;
    if new.len() > limits.max_group_name_bytes as usize { Err(51011) } else { Ok(()) }
}

fn batch(ids: &[String], limits: &Limits) -> Result<(), i32> {
    if (1..=limits.max_conversations_per_call as usize).contains(&ids.len()) { Ok(()) } else { Err(51006) }
}

fn well_formed(id: &str, limits: &Limits) -> bool {
    let rest = id.strip_prefix("c2c_").or_else(|| id.strip_prefix("group_"));
    rest.is_some_and(|rest| !rest.is_empty())
        && id.len() <= limits.max_conversation_id_bytes as usize
        && !id.contains(char::is_control)
}

/// Results for each id; of malformed ones the reason is left out.
fn each(ids: &[String], limits: &Limits, unchanged: &str, mut change: impl FnMut(&String) -> bool) -> AnyResult {
    let result = |(place, id): (usize, &String)| {
        let (result_code, result_info) = if !well_formed(id, limits) {
            (50002, "malformed")
        } else if ids[..place].contains(id) {
            (0, "repeated in the request")
        } else if change(id) {
            (0, "")
        } else {
            (0, unchanged)
        };
        ConversationOperationResult { conversation_id: id.clone(), result_code, result_info: result_info.to_owned() }
    };
    AnyResult::Results(ids.iter().enumerate().map(result).collect())
}

/// An answer without the wording of reasons, as [`Model`] gives it.
#[must_use]
pub fn without_reasons(answer: AnyResult) -> AnyResult {
    let AnyResult::Results(results) = answer else { return answer };
    let plain = |result: ConversationOperationResult| match result.result_code {
        0 => result,
        _ => ConversationOperationResult { result_info: "malformed".to_owned(), ..result },
    };
    AnyResult::Results(results.into_iter().map(plain).collect())
}

/// Something that may change something: few names and ids, so that callers meet.
#[must_use]
pub fn some_change(random: &mut fastrand::Rng) -> Request {
    let name = |random: &mut fastrand::Rng| ["Work", "Home", "Büro", "x", "y"][random.usize(..5)].to_owned();
    let ids = |random: &mut fastrand::Rng| -> Vec<String> {
        (0..random.usize(1..6))
            .map(|_| ["c2c_", "group_", "bad"][random.usize(..3)].to_owned() + &random.u8(..10).to_string())
            .collect()
    };
    match random.u8(..14) {
        10..13 => MarkConversation::new([0, 1, 3, 1 << 63][random.usize(..4)], random.bool(), ids(random)).into(),
        13 => SetConversationCustomData::new(["", "x", "é", "\0", "long"][random.usize(..5)], ids(random)).into(),
        0..2 => CreateConversationGroup::new(name(random), ids(random)).into(),
        2..6 => AddConversationsToGroup::new(name(random), ids(random)).into(),
        6..8 => DeleteConversationsFromGroup::new(name(random), ids(random)).into(),
        8 => RenameConversationGroup::new(name(random), name(random)).into(),
        _ => DeleteConversationGroup::new(name(random)).into(),
    }
}
