//! The reference plugin's rules against a specification: a few lines of set algebra for each operation.
//!
//! `M` is what a group holds, an ordered set; `R` is the set of the well-formed ids of a request. Natively the rules run on
//! many states and limits; in the sandbox on fewer, on SQLite. Afterwards the state is read from the store.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use convgroups_host::api::{
    AddConversationsToGroup, AnyResult, ConversationFilter, ConversationOperationResult, ConversationSearchResult,
    ConversationType, CreateConversationGroup, DeleteConversationGroup, DeleteConversationsFromGroup,
    GetConversationGroupList, GetConversationListByFilter, MarkConversation, OperationError, RenameConversationGroup,
    Request, SearchConversations, SetConversationCustomData,
};
use convgroups_host::model::{Change, ConversationData, DeletionReason, GroupState, Origin, UserState};
use convgroups_host::settings::{Limits, WhenFull};
use convgroups_host::store::{Bounds, Changes, Commit, Skip, Staged, Store, Transaction};
use convgroups_host::{Failure, Host, Settings, UserId, Version};
use convgroups_tests::load::apply;
use convgroups_tests::model::without_reasons;
use convgroups_tests::{TestStore, native, user};
use proptest::prelude::*;
use proptest::sample::select;

/// Names of up to 9 bytes, some of one character less or more than others in other scripts; then unusual ones; the last are
/// no names.
const NAMES: [&str; 18] = [
    "a",
    "b",
    "é",
    "家",
    "ab",
    "éé",
    "家庭",
    "abcdefg",
    "家庭!",
    "éééé",
    "abcdefghi",
    UNUSUAL[0],
    UNUSUAL[1],
    UNUSUAL[2],
    UNUSUAL[3],
    "",
    "\n",
    "a\u{85}",
];
/// Names that new groups get only where the settings allow it, and that a group may have since before.
const UNUSUAL: [&str; 4] = [" ", "a ", "a\u{200b}", "\u{202e}ab"];
/// Ids of up to 14 bytes; the last are malformed at any length.
const IDS: [&str; 16] = [
    "c2c_a",
    "c2c_b",
    "c2c_é",
    "c2c_家",
    "group_a",
    "group_é",
    "c2c_abcde",
    "c2c_ééé",
    "group_家",
    "c2c_ééééé",
    "c2c_",
    "group_",
    "bad_a",
    "C2C_a",
    "c2c_a\u{7f}",
    "",
];

/// What is to be: the state afterwards, and the answer; or the code of the refusal, after which all is as before.
type Specified = Result<(UserState, AnyResult), i32>;

/// An ordered set, as a list in which nothing stands twice.
type Set = Vec<String>;

fn set(list: &[String]) -> Set {
    list.iter().enumerate().filter(|(place, one)| !list[..*place].contains(one)).map(|(_, one)| one.clone()).collect()
}

fn minus(left: &[String], right: &[String]) -> Set {
    left.iter().filter(|one| !right.contains(one)).cloned().collect()
}

fn and(left: &[String], right: &[String]) -> Set {
    left.iter().filter(|one| right.contains(one)).cloned().collect()
}

fn or(left: &[String], right: &[String]) -> Set {
    [left, &minus(right, left)].concat()
}

fn last(set: &[String], count: usize) -> Set {
    set[set.len().saturating_sub(count)..].to_vec()
}

fn first_that_holds(refusals: &[(bool, i32)]) -> Result<(), i32> {
    refusals.iter().find(|(holds, _)| *holds).map_or(Ok(()), |(_, code)| Err(*code))
}

/// The limits, and what they say of names and ids.
struct Within<'a>(&'a Limits);

impl Within<'_> {
    fn is_no_name(name: &str) -> (bool, i32) {
        (name.is_empty() || name.contains(char::is_control), 50002)
    }

    fn is_too_long(&self, name: &str) -> (bool, i32) {
        (name.len() > self.0.max_group_name_bytes as usize, 51011)
    }

    fn is_unusual(&self, name: &str) -> (bool, i32) {
        (UNUSUAL.contains(&name) && !self.0.allow_unusual_group_names, 50002)
    }

    fn is_no_batch(&self, ids: &[String]) -> (bool, i32) {
        (ids.is_empty() || ids.len() > self.0.max_conversations_per_call as usize, 51006)
    }

    fn is_id(&self, id: &str) -> bool {
        let has_rest = ["c2c_", "group_"].iter().any(|prefix| id.starts_with(prefix) && id != *prefix);
        has_rest && id.len() <= self.0.max_conversation_id_bytes as usize && !id.contains(char::is_control)
    }

    /// `R`.
    fn ids(&self, request: &[String]) -> Set {
        set(request).into_iter().filter(|id| self.is_id(id)).collect()
    }

    /// What is answered for each place, given the set of those that were changed.
    fn results(&self, request: &[String], changed: &[String], otherwise: &str) -> AnyResult {
        let result = |(place, id): (usize, &String)| {
            let (result_code, info) = match id {
                id if !self.is_id(id) => (50002, "malformed"),
                id if request[..place].contains(id) => (0, "repeated in the request"),
                id if changed.contains(id) => (0, ""),
                _ => (0, otherwise),
            };
            ConversationOperationResult { conversation_id: id.clone(), result_code, result_info: info.to_owned() }
        };
        AnyResult::Results(request.iter().enumerate().map(result).collect())
    }

    /// What is left of a group that would hold these: all; or the newest; or it may not be.
    fn room(&self, members: &Set) -> Result<Set, i32> {
        let max = self.0.max_conversations_per_group as usize;
        match self.0.when_full {
            WhenFull::Refuse if members.len() > max => Err(51008),
            _ => Ok(last(members, max)),
        }
    }
}

fn names(state: &UserState) -> Set {
    state.groups.iter().map(|group| group.group_name.clone()).collect()
}

/// `M`; nothing of a group that is not there.
fn members(state: &UserState, name: &str) -> Set {
    let group = state.groups.iter().find(|group| group.group_name == name);
    group.map(|group| group.conversation_id_list.clone()).unwrap_or_default()
}

fn group(group_name: &str, conversation_id_list: Set) -> GroupState {
    GroupState { group_name: group_name.to_owned(), conversation_id_list }
}

/// The state in which one group is otherwise, and all others as they were.
fn with(state: &UserState, name: &str, change: impl Fn(&GroupState) -> Option<GroupState>) -> UserState {
    let groups = state.groups.iter().filter_map(|group| match group {
        group if group.group_name == name => change(group),
        other => Some(other.clone()),
    });
    UserState { groups: groups.collect(), conversations: state.conversations.clone() }
}

fn data(state: &UserState, id: &str) -> ConversationData {
    let noted = state.conversations.iter().find(|data| data.conversation_id == id);
    noted.cloned().unwrap_or_else(|| ConversationData::none(id))
}

/// What becomes of marks and custom data: those of `R` are changed, each in its place, and new ones follow.
fn noted(
    state: &UserState,
    limits: &Limits,
    request: &[String],
    change: impl Fn(ConversationData) -> ConversationData,
) -> Specified {
    let within = Within(limits);
    let before: Set = state.conversations.iter().map(|data| data.conversation_id.clone()).collect();
    let asked = within.ids(request);
    let after = |id: &String| if asked.contains(id) { change(data(state, id)) } else { data(state, id) };
    let conversations: Vec<ConversationData> =
        or(&before, &asked).iter().map(after).filter(|data| !data.is_none()).collect();
    let changed: Set = asked.iter().filter(|id| after(id) != data(state, id)).cloned().collect();
    let new = conversations.iter().any(|data| !before.contains(&data.conversation_id));
    first_that_holds(&[
        within.is_no_batch(request),
        (new && conversations.len() > limits.max_marked_conversations as usize, 51008),
    ])?;
    Ok((UserState { conversations, ..state.clone() }, within.results(request, &changed, "unchanged")))
}

fn specification(state: &UserState, limits: &Limits, request: &Request) -> Specified {
    let within = Within(limits);
    let no_name = Within::is_no_name;
    let is_there = |name: &str| names(state).iter().any(|known| known == name);
    // A group that is there may have a longer name than is allowed by now.
    let unknown = |name: &str| (!is_there(name), if within.is_too_long(name).0 { 51011 } else { 51009 });
    match request {
        Request::CreateConversationGroup(CreateConversationGroup { group_name: name, conversation_id_list: ids }) => {
            let no_batch = within.is_no_batch(ids);
            first_that_holds(&[
                no_name(name),
                within.is_too_long(name),
                within.is_unusual(name),
                (no_batch.0 && !(ids.is_empty() && limits.allow_empty_creation), no_batch.1),
                (is_there(name), 50002),
                (names(state).len() + 1 > limits.max_groups as usize, 51010),
            ])?;
            let members = within.room(&within.ids(ids))?;
            let groups = [&state.groups[..], &[group(name, members)]].concat();
            Ok((UserState { groups, ..state.clone() }, within.results(ids, &within.ids(ids), "")))
        }
        Request::DeleteConversationGroup(DeleteConversationGroup { group_name: name }) => {
            first_that_holds(&[no_name(name), unknown(name)])?;
            Ok((with(state, name, |_| None), AnyResult::Done))
        }
        Request::RenameConversationGroup(RenameConversationGroup { old_name: old, new_name: new }) => {
            first_that_holds(&[
                no_name(old),
                no_name(new),
                within.is_too_long(new),
                within.is_unusual(new),
                unknown(old),
                (is_there(new), 50002),
            ])?;
            Ok((with(state, old, |renamed| Some(group(new, renamed.conversation_id_list.clone()))), AnyResult::Done))
        }
        Request::AddConversationsToGroup(AddConversationsToGroup { group_name: name, conversation_id_list: ids }) => {
            first_that_holds(&[no_name(name), within.is_no_batch(ids), unknown(name)])?;
            let (before, asked) = (members(state, name), within.ids(ids));
            let new = minus(&asked, &before);
            // Who adds nothing takes no room, even where there is too little since the limit was lowered.
            let after = if new.is_empty() { before } else { within.room(&or(&before, &asked))? };
            let results = within.results(ids, &new, "already in the group");
            Ok((with(state, name, |_| Some(group(name, after.clone()))), results))
        }
        Request::DeleteConversationsFromGroup(DeleteConversationsFromGroup {
            group_name: name,
            conversation_id_list: ids,
        }) => {
            first_that_holds(&[no_name(name), within.is_no_batch(ids), unknown(name)])?;
            let (before, asked) = (members(state, name), within.ids(ids));
            let results = within.results(ids, &and(&before, &asked), "not in the group");
            Ok((with(state, name, |_| Some(group(name, minus(&before, &asked)))), results))
        }
        Request::MarkConversation(MarkConversation { mark_type, enable_mark, conversation_id_list: ids }) => {
            first_that_holds(&[(*mark_type == 0, 50002)])?;
            noted(state, limits, ids, |data| {
                let marks = if *enable_mark { data.marks | mark_type } else { data.marks & !mark_type };
                ConversationData { marks, ..data }
            })
        }
        Request::SetConversationCustomData(SetConversationCustomData { custom_data, conversation_id_list: ids }) => {
            let too_long = custom_data.len() > limits.max_custom_data_bytes as usize;
            first_that_holds(&[(too_long || custom_data.contains('\0'), 50002)])?;
            noted(state, limits, ids, |data| ConversationData { custom_data: custom_data.clone(), ..data })
        }
        Request::GetConversationGroupList(_) => Ok((state.clone(), AnyResult::GroupNames(names(state)))),
        Request::SearchConversations(SearchConversations { conversation_id_list: ids }) => {
            let count = ids.len();
            first_that_holds(&[(count == 0 || count > limits.max_conversations_per_search as usize, 51006)])?;
            let found = ids.iter().map(|id| {
                let holding = |name: &String| within.is_id(id) && members(state, name).contains(id);
                let ConversationData { marks, custom_data, .. } = data(state, id);
                ConversationSearchResult {
                    conversation_id: id.clone(),
                    result_code: if within.is_id(id) { 0 } else { 50002 },
                    result_info: String::new(),
                    conversation_group_list: names(state).into_iter().filter(holding).collect(),
                    marks: if within.is_id(id) { marks } else { 0 },
                    custom_data: if within.is_id(id) { custom_data } else { String::new() },
                }
            });
            Ok((state.clone(), AnyResult::Found(found.collect())))
        }
        // Listed page by page, and compared as a whole: see `listed`.
        _ => Err(-1),
    }
}

/// What a filter lets through: in the order of a group, or, of all groups, in any.
fn listed(state: &UserState, filter: &ConversationFilter) -> Set {
    let grouped = names(state).iter().fold(Set::new(), |all, name| or(&all, &members(state, name)));
    let noted: Set = state.conversations.iter().map(|data| data.conversation_id.clone()).collect();
    let of_groups = match filter.conversation_group.as_deref() {
        None => or(&grouped, &noted),
        Some("") => minus(&noted, &grouped),
        Some(name) => members(state, name),
    };
    let passes = |id: &String| {
        let kind = filter.conversation_type.is_none_or(|kind| match kind {
            ConversationType::C2c => id.starts_with("c2c_"),
            ConversationType::Group => id.starts_with("group_"),
        });
        let marks = data(state, id).marks;
        kind && filter.mark_type.is_none_or(|wanted| if wanted == 0 { marks == 0 } else { marks & wanted == wanted })
    };
    of_groups.into_iter().filter(passes).collect()
}

/// One user of a store, and a way to call.
struct Place<'a> {
    store: Arc<dyn Store>,
    user: UserId,
    limits: Limits,
    /// Nothing to run the rules natively.
    host: Option<&'a Host>,
}

impl Place<'_> {
    fn native(limits: &Limits) -> Self {
        Self { store: TestStore::memory().store, user: user("alice"), limits: limits.clone(), host: None }
    }

    fn commit(&self, base: Version, changes: Vec<Change>) {
        let origin = Origin { method: "test".to_owned(), request_id: String::new() };
        let (user, skip) = (self.user.clone(), Skip::default());
        let commit = Commit { user, base, changes, origin, keep: 100, skip, deadline: None };
        self.store.commit(commit).expect("commits");
    }

    /// Begins with a state, which need not be within the limits: they may have been lowered since.
    fn begin(&self, state: &UserState) {
        let created = |group: &GroupState| Change::GroupCreated {
            group_name: group.group_name.clone(),
            conversation_list: group.conversation_id_list.clone(),
        };
        let mut changes: Vec<Change> = state.groups.iter().map(created).collect();
        if !state.conversations.is_empty() {
            changes.push(Change::ConversationsChanged { conversation_list: state.conversations.clone() });
        }
        if !changes.is_empty() {
            self.commit(Version(0), changes);
        }
    }

    fn state(&self) -> UserState {
        self.store.state(&self.user).expect("reads").value
    }

    fn run(&self, request: &Request) -> Result<AnyResult, OperationError> {
        let Some(host) = self.host else {
            let bounds = Bounds { max_ids: 1000, max_changes: 1000, ..Bounds::default() };
            let mut transaction = Transaction::new(Arc::clone(&self.store), self.user.clone(), bounds);
            let answer = native::run(&mut transaction, &self.limits, request)?;
            if let Some(Staged { base, changes }) = transaction.into_staged() {
                self.commit(base, changes);
            }
            return Ok(answer);
        };
        match host.call(&self.user, request) {
            Ok(reply) => Ok(reply.result),
            Err(error) => match error.failure {
                Failure::Refused(refusal) => Err(refusal),
                other => unreachable!("{request:?}: {other}"),
            },
        }
    }

    /// Runs a request, and compares all that comes of it with what is specified.
    fn check(&self, request: &Request) {
        if let Request::GetConversationListByFilter(query) = request {
            return self.check_listing(query);
        }
        let before = self.store.state(&self.user).expect("reads");
        let specified = specification(&before.value, &self.limits, request);
        let answer = self.run(request);
        let after = self.store.state(&self.user).expect("reads");
        match (answer, specified) {
            (Ok(answer), Ok((state, specified))) => {
                assert_eq!(plain(answer), specified, "{request:?} on {before:?}");
                assert_eq!(after.value, state, "{request:?} on {before:?}");
                self.check_events(&before.value, before.version, &after.value);
            }
            (Err(refusal), Err(code)) => {
                assert_eq!(refusal.code, code, "{request:?} on {before:?}: {}", refusal.desc);
                assert!(!refusal.desc.is_empty());
                assert_eq!(after, before, "{request:?} is refused");
            }
            (answer, specified) => unreachable!("{request:?} on {before:?}: {answer:?}, not {specified:?}"),
        }
    }

    /// The events lead from one state to the other, and there are none where nothing changed.
    fn check_events(&self, before: &UserState, version: Version, after: &UserState) {
        let Changes::Since(changes) = self.store.changes(&self.user, version, 10).expect("reads") else {
            unreachable!("the log was not trimmed")
        };
        assert_eq!(changes.len(), usize::from(before != after), "one change for one call that changed something");
        let mut state = before.clone();
        for event in changes.iter().flat_map(|change| &change.events) {
            if let Change::ConversationsDeleted { group_name, conversation_list, reason: DeletionReason::Evicted } =
                event
            {
                let held = members(&state, group_name);
                let oldest = held.get(..conversation_list.len()).unwrap_or_default();
                assert_eq!(*conversation_list, oldest, "the oldest are evicted");
            }
            apply(&mut state, event);
        }
        assert_eq!(state, *after, "the events tell what changed");
    }

    /// All pages together are what the filter lets through; each is full but the last, which says so.
    fn check_listing(&self, query: &GetConversationListByFilter) {
        let state = self.state();
        let mut query = query.clone();
        let size = query.count.min(self.limits.max_conversations_per_page) as usize;
        let mut pages = Vec::new();
        loop {
            let answer = self.run(&Request::GetConversationListByFilter(query.clone()));
            let Ok(AnyResult::Page(page)) = answer else {
                assert!(query.count == 0 && answer.is_err_and(|refusal| refusal.code == 50002), "{query:?}");
                return;
            };
            assert!(page.conversation_list.len() == size || page.is_finished, "{query:?} on {state:?}");
            for conversation in &page.conversation_list {
                let (id, noted) = (&conversation.conversation_id, data(&state, &conversation.conversation_id));
                let holding = names(&state).into_iter().filter(|name| members(&state, name).contains(id));
                assert_eq!(conversation.conversation_group_list, holding.collect::<Set>());
                assert_eq!((conversation.marks, &conversation.custom_data), (noted.marks, &noted.custom_data));
            }
            pages.extend(page.conversation_list.into_iter().map(|conversation| conversation.conversation_id));
            query.next_seq = page.next_seq;
            if page.is_finished {
                break;
            }
        }
        let mut expected = listed(&state, &query.filter);
        if query.filter.conversation_group.as_deref().is_none_or(str::is_empty) {
            expected.sort_unstable();
            pages.sort_unstable();
        }
        assert_eq!(pages, expected, "{query:?} on {state:?}");
    }
}

/// An answer without the wording of reasons.
fn plain(answer: AnyResult) -> AnyResult {
    if let AnyResult::Results(results) = &answer {
        let malformed = results.iter().filter(|result| result.result_code != 0);
        malformed
            .for_each(|result| assert!(result.result_info.starts_with("malformed conversation id: "), "{result:?}"));
    }
    let AnyResult::Found(found) = answer else { return without_reasons(answer) };
    let plain = |found: ConversationSearchResult| {
        assert_eq!(found.result_info.is_empty(), found.result_code == 0, "{found:?}");
        ConversationSearchResult { result_info: String::new(), ..found }
    };
    AnyResult::Found(found.into_iter().map(plain).collect())
}

fn name() -> impl Strategy<Value = String> {
    select(&NAMES[..]).prop_map(str::to_owned)
}

/// Well-formed ones mostly, and often the same.
fn some_ids() -> impl Strategy<Value = Vec<String>> {
    let id = prop_oneof![3 => select(&IDS[..5]), 2 => select(&IDS[..])].boxed();
    let count = prop_oneof![6 => 1_usize..5, 1 => 0_usize..9];
    count.prop_flat_map(move |count| prop::collection::vec(id.clone().prop_map(str::to_owned), count))
}

fn group_and_ids() -> impl Strategy<Value = (String, Vec<String>)> {
    let both = (prop_oneof![3 => select(&NAMES[..4]), 1 => select(&NAMES[..])], some_ids());
    both.prop_map(|(name, ids)| (name.to_owned(), ids))
}

fn filter() -> impl Strategy<Value = ConversationFilter> {
    let kind = select(vec![None, Some(ConversationType::C2c), Some(ConversationType::Group)]);
    let name = select(vec![None, Some(""), Some("a"), Some("b"), Some("é")]);
    let marks = select(vec![None, Some(0), Some(1), Some(3)]);
    (kind, name, marks).prop_map(|(conversation_type, name, mark_type)| ConversationFilter {
        conversation_type,
        conversation_group: name.map(str::to_owned),
        mark_type,
    })
}

fn request() -> impl Strategy<Value = Request> {
    let mark = (select(vec![0, 1, 2, 3, 1 << 63]), any::<bool>(), some_ids());
    let custom = (select(vec!["", "x", "é", "家", "long", "\0"]), some_ids());
    prop_oneof![
        3 => group_and_ids().prop_map(|(group, ids)| CreateConversationGroup::new(group, ids).into()),
        4 => group_and_ids().prop_map(|(group, ids)| AddConversationsToGroup::new(group, ids).into()),
        4 => group_and_ids().prop_map(|(group, ids)| DeleteConversationsFromGroup::new(group, ids).into()),
        2 => (name(), name()).prop_map(|(old_name, new_name)| Request::RenameConversationGroup(RenameConversationGroup { old_name, new_name })),
        1 => name().prop_map(|group_name| Request::DeleteConversationGroup(DeleteConversationGroup { group_name })),
        2 => mark.prop_map(|(mark_type, enable_mark, conversation_id_list)| {
            Request::MarkConversation(MarkConversation { mark_type, enable_mark, conversation_id_list })
        }),
        1 => custom.prop_map(|(custom_data, conversation_id_list)| {
            Request::SetConversationCustomData(SetConversationCustomData { custom_data: custom_data.to_owned(), conversation_id_list })
        }),
        1 => Just(GetConversationGroupList {}.into()),
        1 => some_ids().prop_map(|conversation_id_list| {
            Request::SearchConversations(SearchConversations { conversation_id_list })
        }),
        2 => (filter(), 0_u32..4).prop_map(|(filter, count)| {
            Request::GetConversationListByFilter(GetConversationListByFilter { filter, next_seq: 0, count })
        }),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let sizes = (1_u32..12, 1_u32..10, 5_u32..15, 2_u32..8, 2_u32..8);
    let others = (1_u32..5, 1_u32..7, 1_u32..8, 1_u32..4, any::<[bool; 3]>());
    let all = (sizes, others);
    all.prop_map(|((groups, name, id, call, search), (page, group, marked, custom, [empty, evict, unusual]))| Limits {
        max_groups: groups,
        max_group_name_bytes: name,
        max_conversation_id_bytes: id,
        max_conversations_per_call: call,
        max_conversations_per_search: search,
        max_conversations_per_page: page,
        max_conversations_per_group: group,
        when_full: if evict { WhenFull::EvictOldest } else { WhenFull::Refuse },
        max_marked_conversations: marked,
        max_custom_data_bytes: custom,
        allow_empty_creation: empty,
        allow_unusual_group_names: unusual,
    })
}

/// This many groups of well-formed ids or a few more, and conversations with marks or custom data.
fn state(fewest: usize) -> impl Strategy<Value = UserState> {
    let some = |pool: &'static [&str], fewest, most| prop::sample::subsequence(pool, fewest..=most).prop_shuffle();
    let members = prop::collection::vec(some(&IDS[..10], 0, 5), 9);
    let noted = (some(&IDS[..10], 0, 5), prop::collection::vec((0_u64..4, select(vec!["", "x"])), 5));
    (some(&NAMES[..15], fewest, 9), members, noted).prop_map(|(names, members, (ids, noted))| {
        let owned = |ids: Vec<&str>| ids.into_iter().map(str::to_owned).collect();
        let groups = names.into_iter().zip(members).map(|(name, members)| group(name, owned(members)));
        let data = |(id, (marks, custom)): (&str, (u64, &str))| ConversationData {
            conversation_id: id.to_owned(),
            marks,
            custom_data: custom.to_owned(),
        };
        let conversations = ids.into_iter().zip(noted).map(data).filter(|data| !data.is_none());
        UserState { groups: groups.collect(), conversations: conversations.collect() }
    })
}

/// Hosts with the plugin in its sandbox, on SQLite, each with other limits.
static HOSTS: LazyLock<(TestStore, Vec<(Limits, Host)>)> = LazyLock::new(|| {
    let store = TestStore::sqlite();
    let small = Limits {
        max_groups: 7,
        max_group_name_bytes: 7,
        max_conversation_id_bytes: 10,
        max_conversations_per_call: 5,
        max_conversations_per_search: 5,
        max_conversations_per_page: 2,
        max_conversations_per_group: 3,
        max_marked_conversations: 3,
        max_custom_data_bytes: 3,
        ..Limits::default()
    };
    let all = [WhenFull::Refuse, WhenFull::EvictOldest].into_iter().flat_map(|when_full| {
        let allowing = Limits { allow_empty_creation: true, allow_unusual_group_names: true, ..Limits::default() };
        [Limits { when_full, ..small.clone() }, Limits { when_full, ..allowing }]
    });
    let hosts = all.map(|limits| {
        let settings = Settings { limits: limits.clone(), ..Settings::default() };
        let host = Host::builder().settings(settings).store(Arc::clone(&store.store)).build();
        (limits, host.expect("it builds"))
    });
    let hosts = hosts.collect();
    (store, hosts)
});

static USERS: AtomicU32 = AtomicU32::new(0);

fn run_all(place: &Place<'_>, state: &UserState, requests: &[Request]) {
    place.begin(state);
    assert_eq!(place.state(), *state);
    for request in requests {
        place.check(request);
    }
}

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(count) }
}

proptest! {
    #![proptest_config(cases(20_000))]

    #[test]
    fn every_operation_does_what_is_specified(
        limits in limits(),
        state in state(0),
        requests in prop::collection::vec(request(), 1..8),
    ) {
        run_all(&Place::native(&limits), &state, &requests);
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn every_operation_does_in_the_sandbox_what_is_specified(
        which in 0_usize..4,
        state in state(0),
        requests in prop::collection::vec(request(), 1..8),
    ) {
        let (store, hosts) = &*HOSTS;
        let (limits, host) = &hosts[which];
        let user = user(&format!("user {}", USERS.fetch_add(1, Ordering::Relaxed)));
        let place = Place { store: Arc::clone(&store.store), user, limits: limits.clone(), host: Some(host) };
        run_all(&place, &state, &requests);
    }
}

/// Adds to, or deletes from, a group.
fn change(adds: bool, group_name: &str, ids: &[String]) -> Request {
    if adds {
        AddConversationsToGroup::new(group_name, ids).into()
    } else {
        DeleteConversationsFromGroup::new(group_name, ids).into()
    }
}

proptest! {
    #![proptest_config(cases(5000))]

    #[test]
    fn to_delete_twice_is_to_delete_once(limits in limits(), state in state(0), ids in some_ids()) {
        let place = Place::native(&limits);
        place.begin(&state);
        for name in names(&state) {
            let first = place.run(&change(false, &name, &ids));
            let once = place.state();
            let second = place.run(&change(false, &name, &ids));
            prop_assert_eq!(place.state(), once);
            prop_assert_eq!(first.is_ok(), second.is_ok());
            if let Ok(second) = second {
                prop_assert_eq!(plain(second), Within(&limits).results(&ids, &[], "not in the group"));
            }
        }
    }

    #[test]
    fn to_add_and_then_to_delete_is_to_delete(limits in limits(), state in state(0), ids in some_ids()) {
        let place = Place::native(&Limits { max_conversations_per_group: 100, ..limits.clone() });
        place.begin(&state);
        for name in names(&state) {
            let before = members(&place.state(), &name);
            let added = place.run(&change(true, &name, &ids)).is_ok();
            prop_assert_eq!(place.run(&change(false, &name, &ids)).is_ok(), added);
            let expected = if added { minus(&before, &Within(&limits).ids(&ids)) } else { before };
            prop_assert_eq!(members(&place.state(), &name), expected);
        }
    }

    #[test]
    fn changes_of_different_groups_commute(
        limits in limits(),
        state in state(2),
        first in (any::<bool>(), some_ids()),
        second in (any::<bool>(), some_ids()),
    ) {
        let names = names(&state);
        let (first, second) = (change(first.0, &names[0], &first.1), change(second.0, &names[1], &second.1));
        let run = |requests: [&Request; 2]| {
            let place = Place::native(&limits);
            place.begin(&state);
            (requests.map(|request| place.run(request)), place.state())
        };
        let ([one, other], state) = run([&first, &second]);
        let ([other_first, one_second], same) = run([&second, &first]);
        prop_assert_eq!((one, other, state), (one_second, other_first, same));
    }
}

#[test]
fn a_group_with_an_unusual_name_can_be_filled_renamed_and_removed() {
    let limits = Limits::default();
    for name in UNUSUAL {
        let place = Place::native(&limits);
        let groups = vec![group(name, vec!["c2c_a".to_owned()])];
        place.begin(&UserState { groups, conversations: Vec::new() });
        assert!(place.run(&change(true, name, &["c2c_b".to_owned()])).is_ok(), "{name:?}");
        assert!(place.run(&change(false, name, &["c2c_a".to_owned()])).is_ok(), "{name:?}");
        assert_eq!(members(&place.state(), name), ["c2c_b"]);
        let create = CreateConversationGroup::new(name, ["c2c_a"]);
        let refusal = place.run(&create.into()).expect_err("refused");
        assert_eq!(refusal.code, 50002, "{name:?}");
        let rename = |old: &str, new: &str| {
            let (old_name, new_name) = (old.to_owned(), new.to_owned());
            place.run(&Request::RenameConversationGroup(RenameConversationGroup { old_name, new_name }))
        };
        assert!(rename(name, "Work").is_ok(), "{name:?}");
        assert_eq!(rename("Work", name).expect_err("refused").code, 50002, "{name:?}");
    }
    let place = Place::native(&limits);
    place.begin(&UserState { groups: vec![group(" ", Vec::new())], conversations: Vec::new() });
    assert!(place.run(&DeleteConversationGroup::new(" ").into()).is_ok());
}
