//! A transaction reads its own writes: whatever was staged, every read answers as if it had been committed.

use std::sync::Arc;

use convgroups_host::Version;
use convgroups_host::model::{Change, ConversationData, Origin};
use convgroups_host::store::{
    Bounds, Commit, Fault, GroupEntry, MAX_PAGE, Skip, Staged, Store, Transaction, TransactionError,
};
use convgroups_tests::gated::GatedStore;
use convgroups_tests::{TestStore, user};
use proptest::prelude::*;

const NAMES: [&str; 4] = ["Work", "Home", "x", "y"];
const IDS: [&str; 6] = ["c2c_1", "c2c_2", "c2c_3", "group_1", "group_2", "group_3"];

/// One operation of a plugin.
#[derive(Clone, Debug)]
enum Step {
    Create(usize, Vec<usize>),
    Remove(usize),
    Rename(usize, usize),
    Add(usize, Vec<usize>),
    Delete(usize, Vec<usize>),
    Evict(usize, u32),
    /// For each, which conversation, its marks, and the length of its custom data.
    Note(Vec<(usize, u64, usize)>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = || 0..NAMES.len();
    let ids = || prop::collection::vec(0..IDS.len(), 0..5);
    let step = prop_oneof![
        (name(), ids()).prop_map(|(name, ids)| Step::Create(name, ids)),
        name().prop_map(Step::Remove),
        (name(), name()).prop_map(|(old, new)| Step::Rename(old, new)),
        (name(), ids()).prop_map(|(name, ids)| Step::Add(name, ids)),
        (name(), ids()).prop_map(|(name, ids)| Step::Delete(name, ids)),
        (name(), 0_u32..4).prop_map(|(name, count)| Step::Evict(name, count)),
        prop::collection::vec((0..IDS.len(), 0_u64..3, 0_usize..2), 0..5).prop_map(Step::Note),
        prop::collection::vec((0..IDS.len(), 0_u64..3, 0_usize..2), 0..5).prop_map(Step::Note),
    ];
    prop::collection::vec(step, 1..12)
}

/// Groups as plain lists, each conversation with a number that tells when it was added; and conversations with marks or
/// custom data, with a number that tells since when.
#[derive(Clone, Debug, Default)]
struct Plain {
    groups: Vec<(String, Vec<(String, u64)>)>,
    /// The ids of the groups, in the same order, and the last that was given.
    ids: Vec<u32>,
    last_id: u32,
    noted: Vec<(ConversationData, u64)>,
    clock: u64,
}

impl Plain {
    fn group(&mut self, name: &str) -> Option<&mut Vec<(String, u64)>> {
        self.groups.iter_mut().find(|(known, _)| known == name).map(|(_, members)| members)
    }

    /// The ids that are not in the group are added; answers for each place whether it was.
    fn add(&mut self, name: &str, ids: &[&str]) -> Option<Vec<bool>> {
        let mut clock = self.clock;
        let members = self.group(name)?;
        let add = |id: &&str| {
            let new = !members.iter().any(|(member, _)| member == id);
            if new {
                clock += 1;
                members.push(((*id).to_owned(), clock));
            }
            new
        };
        let added = ids.iter().map(add).collect();
        self.clock = clock;
        Some(added)
    }

    fn create(&mut self, name: &str) {
        self.last_id += 1;
        self.ids.push(self.last_id);
        self.groups.push((name.to_owned(), Vec::new()));
    }

    fn remove(&mut self, name: &str) -> Option<()> {
        let place = self.groups.iter().position(|(known, _)| known == name)?;
        self.groups.remove(place);
        self.ids.remove(place);
        Some(())
    }

    /// What is noted on each, one after the other; answers on how many conversations something is noted.
    fn note(&mut self, all: &[ConversationData]) -> u32 {
        // In a list with a conversation twice, the first time is as if it had not been.
        let last = |(place, data): &(usize, &ConversationData)| {
            all[place + 1..].iter().all(|later| later.conversation_id != data.conversation_id)
        };
        for (_, data) in all.iter().enumerate().filter(last) {
            self.clock += 1;
            let known = self.noted.iter().position(|(known, _)| known.conversation_id == data.conversation_id);
            match known {
                Some(place) if data.marks == 0 && data.custom_data.is_empty() => drop(self.noted.remove(place)),
                Some(place) => self.noted[place].0.clone_from(data),
                None if data.marks == 0 && data.custom_data.is_empty() => {}
                None => self.noted.push((data.clone(), self.clock)),
            }
        }
        u32::try_from(self.noted.len()).expect("few")
    }

    /// What is noted on a conversation.
    fn data(&self, id: &str) -> ConversationData {
        let known = self.noted.iter().find(|(data, _)| data.conversation_id == id);
        known.map_or_else(|| noted(id, 0, ""), |(data, _)| data.clone())
    }

    fn entries(&self) -> Vec<GroupEntry> {
        self.ids.iter().zip(self.names()).map(|(&id, name)| GroupEntry { id, name }).collect()
    }

    fn names(&self) -> Vec<String> {
        self.groups.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Every conversation once, by the earliest time of its adding, or of its first mark.
    fn all(&self) -> Vec<String> {
        let grouped = self.groups.iter().flat_map(|(_, members)| members).map(|(id, added)| (*added, id.as_str()));
        let noted = self.noted.iter().map(|(data, since)| (*since, data.conversation_id.as_str()));
        let mut members: Vec<(u64, &str)> = grouped.chain(noted).collect();
        members.sort_unstable();
        let mut all: Vec<String> = Vec::new();
        for (_, id) in members {
            if !all.iter().any(|known| known == id) {
                all.push(id.to_owned());
            }
        }
        all
    }
}

/// Runs a step on both and compares what they answer.
fn run(step: &Step, transaction: &mut Transaction, plain: &mut Plain) {
    let pick = |ids: &[usize]| -> Vec<&str> { ids.iter().map(|&id| IDS[id]).collect() };
    match step {
        Step::Create(name, ids) => {
            let expected = if plain.group(NAMES[*name]).is_some() {
                Err(TransactionError::GroupExists)
            } else {
                plain.create(NAMES[*name]);
                plain.add(NAMES[*name], &pick(ids));
                Ok(u32::try_from(plain.groups.len()).expect("few"))
            };
            assert_eq!(transaction.create_group(NAMES[*name], &pick(ids)), expected);
        }
        Step::Remove(name) => {
            let expected = plain.remove(NAMES[*name]).ok_or(TransactionError::NoSuchGroup);
            assert_eq!(transaction.remove_group(NAMES[*name]), expected);
        }
        Step::Rename(old, new) => {
            let expected = match (plain.group(NAMES[*old]).is_some(), plain.group(NAMES[*new]).is_some()) {
                (false, _) => Err(TransactionError::NoSuchGroup),
                (true, true) => Err(TransactionError::GroupExists),
                (true, false) => {
                    let group = plain.groups.iter_mut().find(|(known, _)| known == NAMES[*old]);
                    NAMES[*new].clone_into(&mut group.expect("it is there").0);
                    Ok(())
                }
            };
            assert_eq!(transaction.rename_group(NAMES[*old], NAMES[*new]), expected);
        }
        Step::Add(name, ids) => {
            let added = plain.add(NAMES[*name], &pick(ids));
            let size = plain.group(NAMES[*name]).map_or(0, |members| members.len());
            let expected = added.map(|added| (added, u32::try_from(size).expect("few")));
            let came = transaction.add_conversations(NAMES[*name], &pick(ids));
            assert_eq!(came, expected.ok_or(TransactionError::NoSuchGroup));
        }
        Step::Delete(name, ids) => {
            let delete = |members: &mut Vec<(String, u64)>| -> Vec<bool> {
                let mut removed = Vec::new();
                for id in pick(ids) {
                    let before = members.len();
                    members.retain(|(member, _)| member != id);
                    removed.push(members.len() < before);
                }
                removed
            };
            let expected = plain.group(NAMES[*name]).map(delete).ok_or(TransactionError::NoSuchGroup);
            assert_eq!(transaction.remove_conversations(NAMES[*name], &pick(ids)), expected);
        }
        Step::Evict(name, count) => {
            let evict = |members: &mut Vec<(String, u64)>| -> Vec<String> {
                let count = members.len().min(*count as usize);
                members.drain(..count).map(|(id, _)| id).collect()
            };
            let expected = plain.group(NAMES[*name]).map(evict).ok_or(TransactionError::NoSuchGroup);
            assert_eq!(transaction.evict_oldest(NAMES[*name], *count), expected);
        }
        Step::Note(all) => {
            let data = all.iter().map(|&(id, marks, length)| noted(IDS[id], marks, &"x".repeat(length)));
            let data: Vec<ConversationData> = data.collect();
            let expected = plain.note(&data);
            assert_eq!(transaction.set_conversation_data(data).expect("within bounds"), expected);
        }
    }
}

/// Compares everything that can be read.
fn compare(transaction: &mut Transaction, plain: &Plain) {
    assert_eq!(transaction.list_groups().expect("reads"), plain.names());
    assert_eq!(transaction.groups().expect("reads"), plain.entries());
    let data: Vec<ConversationData> = IDS.iter().map(|id| plain.data(id)).collect();
    assert_eq!(transaction.conversation_data(&IDS).expect("reads"), data);
    let holders = |id: &&str| -> Vec<String> {
        let holding = plain.groups.iter().filter(|(_, members)| members.iter().any(|(member, _)| member == id));
        holding.map(|(name, _)| name.clone()).collect()
    };
    let memberships: Vec<Vec<String>> = IDS.iter().map(holders).collect();
    assert_eq!(transaction.memberships(&IDS).expect("reads"), memberships);
    for name in NAMES {
        let members = plain.groups.iter().find(|(known, _)| known == name).map(|(_, members)| members);
        let expected: Option<Vec<String>> = members.map(|members| members.iter().map(|(id, _)| id.clone()).collect());
        assert_eq!(read_in_pages(transaction, Some(name), 2), expected);
    }
    assert_eq!(read_in_pages(transaction, None, 3), Some(plain.all()));
}

/// All pages of this many; nothing when there is no such group.
fn read_in_pages(transaction: &mut Transaction, group: Option<&str>, limit: u32) -> Option<Vec<String>> {
    let mut read = Vec::new();
    let mut after = 0;
    loop {
        let page = match transaction.page_conversations(group, after, limit) {
            Ok(page) => page,
            Err(TransactionError::NoSuchGroup) => return None,
            Err(error) => unreachable!("{error}"),
        };
        assert!(page.len() <= limit as usize);
        let Some(last) = page.last() else { return Some(read) };
        assert!(last.position > after);
        after = last.position;
        read.extend(page.into_iter().map(|member| member.conversation_id));
    }
}

fn noted(id: &str, marks: u64, custom_data: &str) -> ConversationData {
    ConversationData { conversation_id: id.to_owned(), marks, custom_data: custom_data.to_owned() }
}

/// A store with two groups, the second and third of their user's, and two marked conversations, of which one is in no
/// group.
fn prepared(store: &Arc<dyn Store>) -> Plain {
    let mut plain = Plain::default();
    let created = |name: &str, ids: &[&str]| Change::GroupCreated {
        group_name: name.to_owned(),
        conversation_list: ids.iter().map(|&id| id.to_owned()).collect(),
    };
    let (work, home) = (["c2c_2", "group_1", "c2c_1"], ["group_1", "c2c_3", "group_2"]);
    let data = [noted("c2c_3", 1, ""), noted("group_3", 2, "x")];
    let gone = Change::GroupDeleted { group_name: "Gone".to_owned() };
    let marked = Change::ConversationsChanged { conversation_list: data.to_vec() };
    let changes = [vec![created("Gone", &[]), gone, created("Work", &work)], vec![marked, created("Home", &home)]];
    for changes in changes {
        let base = store.groups(&user("alice")).expect("reads").version;
        let origin = Origin { method: "test".to_owned(), request_id: String::new() };
        store
            .commit(Commit {
                user: user("alice"),
                base,
                changes,
                origin,
                keep: 1,
                skip: Skip::default(),
                deadline: None,
            })
            .expect("commits");
    }
    plain.create("Gone");
    plain.remove("Gone");
    plain.create("Work");
    plain.add("Work", &work);
    plain.note(&data);
    plain.create("Home");
    plain.add("Home", &home);
    plain
}

fn begin(store: &Arc<dyn Store>) -> Transaction {
    Transaction::new(Arc::clone(store), user("alice"), Bounds { max_ids: 100, max_changes: 20, ..Bounds::default() })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn every_read_after_any_writes_answers_as_plain_lists_do(steps in steps()) {
        let store = TestStore::memory().store;
        let mut plain = prepared(&store);
        let mut transaction = Transaction::new(Arc::clone(&store), user("alice"), Bounds { max_ids: 100, max_changes: 1000, ..Bounds::default() });
        for step in &steps {
            run(step, &mut transaction, &mut plain);
            compare(&mut transaction, &plain);
        }
        // And nobody else has seen any of it.
        prop_assert_eq!(store.groups(&user("alice")).expect("reads").version, Version(2));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn what_is_committed_is_what_the_transaction_has_shown(steps in steps()) {
        for (_, store) in TestStore::all() {
            let store = store.store;
            let mut plain = prepared(&store);
            let mut transaction = Transaction::new(Arc::clone(&store), user("alice"), Bounds { max_ids: 100, max_changes: 1000, ..Bounds::default() });
            for step in &steps {
                run(step, &mut transaction, &mut plain);
            }
            let shown = transaction.page_conversations(None, 0, 1000).expect("reads");
            let shown_annotated = transaction.page_annotated_conversations(0, 1000).expect("reads");
            if let Some(Staged { base, changes }) = transaction.into_staged() {
                let origin = Origin { method: "test".to_owned(), request_id: String::new() };
                let commit = Commit { user: user("alice"), base, changes, origin, keep: 1, skip: Skip::default(), deadline: None };
                store.commit(commit).expect("commits");
            }
            let mut after = begin(&store);
            compare(&mut after, &plain);
            // With the very places that were shown.
            prop_assert_eq!(after.page_conversations(None, 0, 1000).expect("reads"), shown);
            prop_assert_eq!(after.page_annotated_conversations(0, 1000).expect("reads"), shown_annotated);
        }
    }
}

#[test]
fn results_and_changes_beyond_their_limits_in_bytes_end_the_call() {
    let bounds = Bounds { max_result_bytes: 2_000, max_held_bytes: 10_000, ..Bounds::default() };
    let out_of_bounds = |result: Result<(), Fault>, what: &str| match result {
        Err(Fault::OutOfBounds(reason)) => assert!(reason.contains(what), "{reason}"),
        other => unreachable!("{what}: {other:?}"),
    };
    for (_, store) in TestStore::all() {
        let store = store.store;
        prepared(&store);
        let begin = || Transaction::new(Arc::clone(&store), user("alice"), bounds);
        // With and without something staged, which goes different ways.
        for staged in [false, true] {
            let mut transaction = begin();
            if staged {
                transaction.create_group("New", &["group_1"]).expect("works");
            }
            // "group_1" is in both groups: 36 bytes for each name, and one more group once it is staged.
            let fits = if staged { 18 } else { 27 };
            let found = transaction.memberships(&vec!["group_1"; fits]).expect("fits");
            assert_eq!(found.len(), fits);
            assert!(found.iter().all(|names| *names == found[0]));
            out_of_bounds(transaction.memberships(&vec!["group_1"; fits + 1]).map(drop), "2000 bytes of memberships");
            // "group_3" has one byte of custom data: 72 bytes.
            assert_eq!(transaction.conversation_data(&["group_3"; 27]).expect("fits").len(), 27);
            out_of_bounds(transaction.conversation_data(&["group_3"; 28]).map(drop), "2000 bytes of marks");
        }

        let mut transaction = begin();
        let large = |id: &str| vec![noted(id, 0, &"x".repeat(4000))];
        transaction.set_conversation_data(large("c2c_8")).expect("fits");
        transaction.set_conversation_data(large("c2c_9")).expect("fits");
        out_of_bounds(transaction.set_conversation_data(large("c2c_7")).map(drop), "changes of more than 10000 bytes");

        // To list everything after a change, the host reads everything.
        let ids: Vec<String> = (0..130).map(|number| format!("group_{number:0>30}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let mut transaction = begin();
        transaction.create_group("Many", &ids).expect("fits");
        transaction.page_conversations(None, 0, 1).expect("fits");
        // 68 bytes each: a page of all is too large, and no more leave than can be returned.
        assert_eq!(transaction.page_conversations(Some("Many"), 0, 29).expect("fits").len(), 29);
        match transaction.page_conversations(Some("Many"), 0, 30) {
            Err(TransactionError::Fault(fault)) => out_of_bounds(Err(fault), "2000 bytes of conversations"),
            other => unreachable!("{other:?}"),
        }
        let mut evicting = begin();
        evicting.create_group("Many", &ids[..60]).expect("fits");
        assert_eq!(evicting.evict_oldest("Many", 50).expect("fits"), ids[..29]);
        transaction.create_group("Copy", &ids[..14]).expect("fits");
        match transaction.page_conversations(None, 0, 1) {
            Err(TransactionError::Fault(fault)) => out_of_bounds(Err(fault), "10000 bytes of conversations"),
            other => unreachable!("{other:?}"),
        }
    }
}

#[test]
fn pages_and_evictions_of_zero_are_empty_and_fewer_members_than_asked_for_mean_that_there_are_no_more() {
    let many = MAX_PAGE + 5;
    for (kind, store) in TestStore::all() {
        let store = store.store;
        let ids: Vec<String> = (0..many).map(|number| format!("c2c_{number:04}")).collect();
        let group = Change::GroupCreated { group_name: "Work".to_owned(), conversation_list: ids.clone() };
        let annotated = ids.iter().map(|id| noted(id, 1, "")).collect();
        let changes = vec![group, Change::ConversationsChanged { conversation_list: annotated }];
        let origin = Origin { method: "test".to_owned(), request_id: String::new() };
        let (user, skip) = (user("alice"), Skip::default());
        let commit = Commit { user: user.clone(), base: Version(0), changes, origin, keep: 1, skip, deadline: None };
        store.commit(commit).expect("commits");
        // As the store has it, and with a change that is staged, which goes another way.
        for is_staged in [false, true] {
            let mut transaction = Transaction::new(Arc::clone(&store), user.clone(), Bounds::default());
            if is_staged {
                transaction.create_group("Other", &[]).expect("creates");
                transaction.set_conversation_data(vec![noted("c2c_0000", 2, "")]).expect("annotates");
                transaction.add_conversations("Work", &["c2c_9999"]).expect("adds");
                transaction.remove_conversations("Work", &["c2c_9999"]).expect("removes");
            }
            let mut page = |what: &str, after, limit| match what {
                "annotated" => transaction.page_annotated_conversations(after, limit).expect("reads"),
                "group" => transaction.page_conversations(Some("Work"), after, limit).expect("reads"),
                _ => transaction.page_conversations(None, after, limit).expect("reads"),
            };
            for what in ["annotated", "group", "all"] {
                let case = format!("{kind}, {what}, staged: {is_staged}");
                assert!(page(what, 0, 0).is_empty(), "{case}");
                for limit in [MAX_PAGE, MAX_PAGE + 1, u32::MAX] {
                    let first = page(what, 0, limit);
                    assert_eq!(first.len(), MAX_PAGE as usize, "{case}, limit {limit}");
                    let rest = page(what, first.last().expect("it is full").position, limit);
                    assert_eq!(rest.len(), 5, "{case}, limit {limit}");
                }
            }
            assert_eq!(transaction.evict_oldest("Work", 0).expect("does nothing"), [""; 0], "{kind}");
            let size = |transaction: &mut Transaction| transaction.add_conversations("Work", &[]).expect("reads").1;
            assert_eq!(size(&mut transaction), many, "{kind}");
            let evicted = transaction.evict_oldest("Work", u32::MAX).expect("evicts");
            assert_eq!((evicted, size(&mut transaction)), (ids.clone(), 0), "{kind}, staged: {is_staged}");
        }
    }
}

#[test]
fn a_change_by_somebody_else_between_two_reads_is_a_conflict() {
    for (kind, store) in TestStore::all() {
        let store = store.store;
        prepared(&store);
        let mut transaction = begin(&store);
        transaction.list_groups().expect("reads");
        let change = Change::GroupDeleted { group_name: "Home".to_owned() };
        let origin = Origin { method: "test".to_owned(), request_id: String::new() };
        let commit = Commit {
            user: user("alice"),
            base: Version(2),
            changes: vec![change],
            origin,
            keep: 1,
            skip: Skip::default(),
            deadline: None,
        };
        store.commit(commit).expect("commits");
        let again = transaction.remove_conversations("Work", &["c2c_1"]);
        assert_eq!(again, Err(TransactionError::Fault(Fault::Conflict)), "{kind}");
    }
}

#[test]
fn an_operation_asks_the_store_once() {
    let store = TestStore::memory().store;
    prepared(&store);
    let gated = GatedStore::new(store);
    let store: Arc<dyn Store> = gated.clone();
    let asked = |operation: &dyn Fn(&mut Transaction)| {
        let before = gated.asked();
        operation(&mut begin(&store));
        gated.asked() - before
    };
    assert_eq!(asked(&|it| it.list_groups().map(drop).expect("works")), 1);
    assert_eq!(asked(&|it| it.create_group("New", &["c2c_1"]).map(drop).expect("works")), 1);
    assert_eq!(asked(&|it| it.remove_group("Work").expect("works")), 1);
    assert_eq!(asked(&|it| it.rename_group("Work", "New").expect("works")), 1);
    assert_eq!(asked(&|it| it.add_conversations("Work", &["c2c_1", "c2c_9"]).map(drop).expect("works")), 1);
    assert_eq!(asked(&|it| it.remove_conversations("Work", &["c2c_1", "c2c_9"]).map(drop).expect("works")), 1);
    assert_eq!(asked(&|it| it.page_conversations(None, 0, 10).map(drop).expect("works")), 1);
    assert_eq!(asked(&|it| it.page_annotated_conversations(0, 10).map(drop).expect("works")), 1);
    assert_eq!(asked(&|it| it.memberships(&["c2c_1", "c2c_9"]).map(drop).expect("works")), 1);
    assert_eq!(asked(&|it| it.conversation_data(&["c2c_1", "c2c_9"]).map(drop).expect("works")), 1);
    assert_eq!(asked(&|it| it.set_conversation_data(vec![noted("c2c_9", 1, "")]).map(drop).expect("works")), 1);
}

#[test]
fn what_no_plugin_may_ask_for_ends_the_call() {
    let store = TestStore::memory().store;
    prepared(&store);
    let long = "x".repeat(257);
    let many = vec!["c2c_1"; 101];
    let id = "x".repeat(1025);
    let out_of_bounds = |result: Result<(), TransactionError>, what: &str| match result {
        Err(TransactionError::Fault(Fault::OutOfBounds(reason))) => assert!(reason.contains(what), "{reason}"),
        other => unreachable!("{what}: {other:?}"),
    };
    let mut transaction = begin(&store);
    out_of_bounds(transaction.create_group("", &[]).map(drop), "an empty group name");
    out_of_bounds(transaction.create_group(&long, &[]).map(drop), "a 257 bytes long group name");
    out_of_bounds(transaction.create_group("a\0b", &[]).map(drop), "control characters in a group name");
    out_of_bounds(transaction.rename_group("Work", "a\nb"), "control characters in a group name");
    out_of_bounds(transaction.remove_conversations("Work", &many).map(drop), "101 conversation ids, at most 100");
    out_of_bounds(transaction.remove_conversations("Work", &[&id]).map(drop), "a 1025 bytes long conversation id");
    out_of_bounds(transaction.add_conversations("Work", &[""]).map(drop), "an empty conversation id");
    let ids: Vec<String> = (0..21).map(|number| format!("c2c_{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    out_of_bounds(transaction.create_group("Many", &ids).map(drop), "more than 20 changes");
    let note = |id: &str, custom_data: &str, what: &str| {
        let set = begin(&store).set_conversation_data(vec![noted("c2c_1", 1, ""), noted(id, 1, custom_data)]);
        out_of_bounds(set.map(drop).map_err(TransactionError::Fault), what);
    };
    note("", "", "an empty conversation id");
    note("c2c_\u{7}", "", "control characters in a conversation id");
    note(&"x".repeat(1025), "", "a 1025 bytes long conversation id");
    note("c2c_2", &"x".repeat(4097), "4097 bytes of custom data");
    note("c2c_2", "a\0b", "custom data with the character U+0000");
    let mut transaction = begin(&store);
    let all: Vec<ConversationData> = many.iter().map(|id| noted(id, 1, "")).collect();
    let set = transaction.set_conversation_data(all).map(drop).map_err(TransactionError::Fault);
    out_of_bounds(set, "101 conversation ids, at most 100");
    let read = transaction.conversation_data(&many).map(drop).map_err(TransactionError::Fault);
    out_of_bounds(read, "101 conversation ids, at most 100");
    let all: Vec<ConversationData> = ids.iter().map(|id| noted(id, 8, "")).collect();
    let set = transaction.set_conversation_data(all).map(drop).map_err(TransactionError::Fault);
    out_of_bounds(set, "more than 20 changes");

    // A name that no group can have is the name of no group.
    let mut transaction = begin(&store);
    for name in ["", &long, "a\0b"] {
        assert_eq!(transaction.remove_group(name), Err(TransactionError::NoSuchGroup));
        assert_eq!(transaction.rename_group(name, "New"), Err(TransactionError::NoSuchGroup));
        assert_eq!(transaction.remove_conversations(name, &["c2c_1"]), Err(TransactionError::NoSuchGroup));
        assert_eq!(transaction.add_conversations(name, &["c2c_1"]), Err(TransactionError::NoSuchGroup));
        assert_eq!(transaction.evict_oldest(name, 1), Err(TransactionError::NoSuchGroup));
        assert_eq!(transaction.page_conversations(Some(name), 0, 1), Err(TransactionError::NoSuchGroup));
    }

    // Exactly at the bounds all is well.
    let mut transaction = begin(&store);
    let (name, id) = ("x".repeat(256), "x".repeat(1024));
    transaction.create_group(&name, &[&id]).expect("within bounds");
    transaction.remove_conversations("Work", &many[..100]).expect("within bounds");
    let data = noted(&id, u64::MAX, &"\u{1}".repeat(4096));
    transaction.set_conversation_data(vec![data; 100]).expect("within bounds");
}
