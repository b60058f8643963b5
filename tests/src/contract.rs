//! What every store must do. A backend runs the whole suite with one line: `store_contract!(TestStore::memory());`.

#![expect(clippy::panic, reason = "tests, which other packages make their own")]

use std::sync::Arc;

use convgroups_host::model::{Change, ConversationData, DeletionReason, GroupState, Origin, UserState};
use convgroups_host::store::{
    Changes, Commit, CommitOutcome, GroupEntry, GroupList, MAX_BATCH, Member, Memberships, Skip, Store, Verified,
    Versioned,
};
use convgroups_host::{EventId, History, Version};

use crate::{ids, user};

/// Defines the suite once: each test as a function, and the macro that makes them tests of a backend.
macro_rules! contract {
    ($dollar:tt $(fn $name:ident($store:ident) $body:block)*) => {
        $(
            #[expect(missing_docs, reason = "the name is the sentence")]
            #[expect(clippy::missing_panics_doc, reason = "a test")]
            pub fn $name($store: &Arc<dyn Store>) $body
        )*

        /// Makes the suite tests of the store that an expression makes, or which there may not be.
        #[macro_export]
        macro_rules! store_contract {
            ($dollar make:expr) => {
                $(
                    #[test]
                    fn $name() {
                        let made: Option<$crate::TestStore> = $dollar make.into();
                        if let Some(made) = made {
                            $crate::contract::$name(&made.store);
                        }
                    }
                )*
            };
        }
    };
}

contract! { $
    fn a_user_nobody_has_changed_anything_for_is_at_version_0_and_has_nothing(store) {
        let alice = user("alice");
        assert_eq!(store.groups(&alice).expect("reads"), at(0, GroupList::default()));
        assert_eq!(store.contains(&alice, "Work", &["c2c_bob"]).expect("reads"), at(0, None));
        assert_eq!(store.contains_and_size(&alice, "Work", &["c2c_bob"]).expect("reads"), at(0, None));
        assert_eq!(store.page(&alice, Some("Work"), 0, 10).expect("reads"), at(0, None));
        assert_eq!(store.page(&alice, None, 0, 10).expect("reads"), at(0, Some(vec![])));
        assert_eq!(memberships(store, "alice", &["c2c_bob"]), at(0, vec![vec![]]));
        assert_eq!(store.data(&alice, &["c2c_bob"]).expect("reads"), at(0, vec![noted("c2c_bob", 0, "")]));
        let data = store.data_and_count(&alice, &["c2c_bob"]).expect("reads");
        assert_eq!(data, at(0, (vec![noted("c2c_bob", 0, "")], 0)));
        assert_eq!(store.data_count(&alice).expect("reads"), at(0, 0));
        assert_eq!(store.page_of_data(&alice, 0, 10).expect("reads"), at(0, vec![]));
        assert_eq!(store.state(&alice).expect("reads"), at(0, UserState::default()));
        assert_eq!(store.changes(&alice, Version(0), MAX_BATCH).expect("reads"), Changes::Since(vec![]));
        assert!(store.users(None, 10).expect("reads").is_empty());
    }

    fn a_commit_raises_the_version_by_one_and_shows_in_every_read(store) {
        let alice = user("alice");
        assert_eq!(commit(store, "alice", 0, vec![created("Work", &["c2c_b", "c2c_a"])]), committed(1));
        assert_eq!(commit(store, "alice", 1, vec![created("Home", &["c2c_a"])]), committed(2));
        assert_eq!(store.groups(&alice).expect("reads"), at(2, groups(&[(1, "Work"), (2, "Home")], 2)));
        let held = store.contains(&alice, "Work", &["c2c_a", "c2c_x", "c2c_b", "c2c_a"]).expect("reads");
        assert_eq!(held, at(2, Some(vec![true, false, true, true])));
        let held = store.contains_and_size(&alice, "Work", &["c2c_a", "c2c_x", "c2c_b", "c2c_a"]).expect("reads");
        assert_eq!(held, at(2, Some((vec![true, false, true, true], 2))));
        assert_eq!(store.contains_and_size(&alice, "Home", &[]).expect("reads"), at(2, Some((vec![], 1))));
        let held = memberships(store, "alice", &["c2c_a", "c2c_x", "c2c_b"]);
        assert_eq!(held.value, [vec!["Work", "Home"], vec![], vec!["Work"]]);
        let changes = vec![changed(&[noted("c2c_x", 5, ""), noted("c2c_a", 0, "x")])];
        assert_eq!(commit(store, "alice", 2, changes), committed(3));
        let data = store.data(&alice, &["c2c_a", "c2c_b", "c2c_x", "c2c_a"]).expect("reads");
        let expected = [noted("c2c_a", 0, "x"), noted("c2c_b", 0, ""), noted("c2c_x", 5, ""), noted("c2c_a", 0, "x")];
        assert_eq!(data, at(3, expected.to_vec()));
        let ids = ["c2c_a", "c2c_b", "c2c_x", "c2c_a"];
        assert_eq!(store.data_and_count(&alice, &ids).expect("reads"), at(3, (expected.to_vec(), 2)));
        assert_eq!(store.data_count(&alice).expect("reads"), at(3, 2));
        let expected = UserState {
            groups: vec![state("Work", &["c2c_b", "c2c_a"]), state("Home", &["c2c_a"])],
            conversations: vec![noted("c2c_x", 5, ""), noted("c2c_a", 0, "x")],
        };
        assert_eq!(store.state(&alice).expect("reads"), at(3, expected));
        assert_eq!(store.users(None, 10).expect("reads"), [alice]);
    }

    fn memberships_are_found_up_to_a_limit_and_not_beyond(store) {
        let alice = user("alice");
        let groups: Vec<Change> = (0..20).map(|group| created(&format!("group {group}"), &["c2c_a", "c2c_b"])).collect();
        assert_eq!(commit(store, "alice", 0, groups), committed(1));
        let find = |limit| store.memberships(&alice, &["c2c_a", "c2c_none", "c2c_b"], limit).expect("reads");
        let found = find(40).value.expect("there are exactly 40");
        assert_eq!(found.groups.len(), 20);
        let all: Vec<u32> = (0..20).collect();
        assert_eq!(found.held, [all.clone(), vec![], all]);
        assert_eq!(find(39), at(1, None));
        assert_eq!(find(0), at(1, None));
        assert!(store.memberships(&alice, &["c2c_none"], 0).expect("reads").value.is_some());
    }

    fn a_commit_on_another_version_than_the_users_is_a_conflict_and_changes_nothing(store) {
        let alice = user("alice");
        for change in [created("Early", &[]), changed(&[noted("c2c_a", 1, "x")])] {
            assert_eq!(commit(store, "alice", 1, vec![change]), CommitOutcome::Conflict);
        }
        assert_eq!(store.state(&alice).expect("reads"), at(0, UserState::default()));
        assert!(store.users(None, 10).expect("reads").is_empty());
        assert_eq!(commit(store, "alice", 0, vec![created("Work", &["c2c_a"])]), committed(1));
        for base in [0, 2, u64::from(u32::MAX)] {
            let changes = vec![deleted("Work", &["c2c_a"]), changed(&[noted("c2c_a", 1, "x")]), created("New", &[])];
            assert_eq!(commit(store, "alice", base, changes), CommitOutcome::Conflict);
        }
        assert_eq!(store.state(&alice).expect("reads"), at(1, in_groups(vec![state("Work", &["c2c_a"])])));
        assert_eq!(store.groups(&alice).expect("reads"), at(1, groups(&[(1, "Work")], 1)));
        assert_eq!(store.data_count(&alice).expect("reads"), at(1, 0));
        let Changes::Since(log) = store.changes(&alice, Version(0), MAX_BATCH).expect("reads") else { panic!("the log is whole") };
        assert_eq!(log.len(), 1);
    }

    fn users_do_not_see_each_other(store) {
        commit(store, "alice", 0, vec![created("Work", &["c2c_a"])]);
        commit(store, "bob", 0, vec![created("Work", &["c2c_b"])]);
        commit(store, "alice", 1, vec![Change::GroupDeleted { group_name: "Work".to_owned() }]);
        commit(store, "alice", 2, vec![changed(&[noted("c2c_b", 1, "x")])]);
        commit(store, "alice", 3, vec![changed(&[noted("c2c_a", 1, ""), noted("c2c_b", 0, "")])]);
        let expected = UserState { groups: vec![], conversations: vec![noted("c2c_a", 1, "")] };
        assert_eq!(store.state(&user("alice")).expect("reads"), at(4, expected));
        assert_eq!(store.state(&user("bob")).expect("reads"), at(1, in_groups(vec![state("Work", &["c2c_b"])])));
        assert_eq!(memberships(store, "bob", &["c2c_a"]).value, [Vec::<String>::new()]);
        assert_eq!(store.data(&user("bob"), &["c2c_a"]).expect("reads").value, [noted("c2c_a", 0, "")]);
        assert_eq!(store.data_count(&user("bob")).expect("reads").value, 0);
        assert_eq!(store.groups(&user("bob")).expect("reads").value, groups(&[(1, "Work")], 1));
    }

    fn all_kinds_of_changes_are_applied_in_their_order(store) {
        let changes = vec![
            created("Work", &["c2c_a", "c2c_b", "c2c_c"]),
            deleted("Work", &["c2c_a"]),
            added("Work", &["c2c_a", "group_1"]),
            Change::GroupRenamed { old_name: "Work".to_owned(), new_name: "Office".to_owned() },
            created("Work", &["c2c_z"]),
            Change::GroupDeleted { group_name: "Work".to_owned() },
            created("Work", &[]),
            changed(&[noted("c2c_x", 1, ""), noted("c2c_y", 2, "y")]),
            added("Office", &["c2c_d"]),
            changed(&[noted("c2c_z", 4, ""), noted("c2c_x", 0, ""), noted("c2c_y", 3, "")]),
            changed(&[noted("c2c_x", 8, "x"), noted("c2c_x", 8, "again")]),
        ];
        assert_eq!(commit(store, "alice", 0, changes), committed(1));
        let expected = UserState {
            groups: vec![state("Office", &["c2c_b", "c2c_c", "c2c_a", "group_1", "c2c_d"]), state("Work", &[])],
            conversations: vec![noted("c2c_y", 3, ""), noted("c2c_z", 4, ""), noted("c2c_x", 8, "again")],
        };
        assert_eq!(store.state(&user("alice")).expect("reads").value, expected);
        assert_eq!(store.groups(&user("alice")).expect("reads").value, groups(&[(1, "Office"), (3, "Work")], 3));
    }

    fn a_groups_id_stays_with_it_and_is_never_given_again(store) {
        let alice = user("alice");
        let rename = |old: &str, new: &str| Change::GroupRenamed { old_name: old.to_owned(), new_name: new.to_owned() };
        let delete = |name: &str| Change::GroupDeleted { group_name: name.to_owned() };
        let steps = [
            (vec![created("a", &[]), created("b", &[]), created("c", &[])], groups(&[(1, "a"), (2, "b"), (3, "c")], 3)),
            (vec![rename("a", "d"), delete("c")], groups(&[(1, "d"), (2, "b")], 3)),
            (vec![created("c", &["c2c_x"])], groups(&[(1, "d"), (2, "b"), (4, "c")], 4)),
            (vec![delete("d"), delete("b"), delete("c")], groups(&[], 4)),
            (vec![created("e", &[]), delete("e"), created("a", &[])], groups(&[(6, "a")], 6)),
            (vec![changed(&[noted("c2c_x", 1, "")])], groups(&[(6, "a")], 6)),
        ];
        for (version, (changes, expected)) in (0..).zip(steps) {
            assert_eq!(commit(store, "alice", version, changes), committed(version + 1));
            assert_eq!(store.groups(&alice).expect("reads"), at(version + 1, expected));
        }
        // Each user's groups are numbered on their own, from the first commit on.
        commit(store, "bob", 0, vec![changed(&[noted("c2c_x", 1, "")])]);
        assert_eq!(store.groups(&user("bob")).expect("reads"), at(1, GroupList::default()));
        commit(store, "bob", 1, vec![created("a", &[])]);
        assert_eq!(store.groups(&user("bob")).expect("reads"), at(2, groups(&[(1, "a")], 1)));
    }

    fn marks_and_custom_data_are_kept_until_both_are_gone(store) {
        let alice = user("alice");
        let all = 1 | 1 << 31 | 1 << 32 | 1 << 63;
        for (version, (marks, custom_data)) in
            (0..).zip([(all, ""), (all, "x"), (u64::MAX, "x"), (0, "x"), (1 << 63, ""), (0, "\u{1}\n\u{1b}[2J é 🦀 '\"\\")])
        {
            let data = noted("c2c_a", marks, custom_data);
            commit(store, "alice", version, vec![changed(std::slice::from_ref(&data))]);
            assert_eq!(store.data(&alice, &["c2c_a"]).expect("reads").value, std::slice::from_ref(&data));
            assert_eq!(store.data_count(&alice).expect("reads").value, 1);
            assert_eq!(store.state(&alice).expect("reads").value.conversations, [data]);
        }
        commit(store, "alice", 6, vec![changed(&[noted("c2c_a", 0, "")])]);
        assert_eq!(store.data(&alice, &["c2c_a"]).expect("reads"), at(7, vec![noted("c2c_a", 0, "")]));
        assert_eq!(store.data_count(&alice).expect("reads").value, 0);
        assert_eq!(store.state(&alice).expect("reads").value, UserState::default());
    }

    fn a_conversations_place_is_that_of_its_first_mark_until_it_has_nothing(store) {
        commit(store, "alice", 0, vec![changed(&[noted("c2c_a", 1, ""), noted("c2c_b", 1, "")])]);
        commit(store, "alice", 1, vec![changed(&[noted("c2c_c", 0, "c"), noted("c2c_a", 2, "a")])]);
        let first = page_of_data(store, 0, 10);
        assert_eq!(names(&first), ["c2c_a", "c2c_b", "c2c_c"]);
        commit(store, "alice", 2, vec![changed(&[noted("c2c_b", 0, "b"), noted("c2c_a", 0, "")])]);
        assert_eq!(page_of_data(store, 0, 10), first[1..]);
        commit(store, "alice", 3, vec![changed(&[noted("c2c_a", 1, "")])]);
        let all = page_of_data(store, 0, 10);
        assert_eq!(names(&all), ["c2c_b", "c2c_c", "c2c_a"]);
        assert_eq!(page_of_data(store, 0, 2), all[..2]);
        assert_eq!(page_of_data(store, all[1].position, 2), all[2..]);
        assert!(page_of_data(store, u64::MAX, 10).is_empty());
        assert!(page_of_data(store, 0, 0).is_empty());
    }

    fn pages_of_marked_conversations_have_at_most_a_thousand(store) {
        let many: Vec<ConversationData> = ids("c2c_", 1500).iter().map(|id| noted(id, 1, "")).collect();
        commit(store, "alice", 0, vec![changed(&many)]);
        let first = page_of_data(store, 0, u32::MAX);
        assert_eq!(first.len(), 1000);
        let rest = page_of_data(store, first[999].position, u32::MAX);
        let seen: Vec<&str> = names(&first).into_iter().chain(names(&rest)).collect();
        assert_eq!(seen, many.iter().map(|data| data.conversation_id.as_str()).collect::<Vec<_>>());
        assert_eq!(store.data_count(&user("alice")).expect("reads").value, 1500);
    }

    fn changes_that_do_not_fit_fail_and_leave_nothing_behind(store) {
        let alice = user("alice");
        let marked = changed(&[noted("c2c_m", 1, "")]);
        commit(store, "alice", 0, vec![created("Work", &["c2c_a"]), created("Home", &[]), marked]);
        let before = (store.state(&alice).expect("reads"), store.groups(&alice).expect("reads"));
        let misfits = [
            created("Work", &[]),
            added("Work", &["c2c_a"]),
            added("Gone", &["c2c_a"]),
            deleted("Work", &["c2c_x"]),
            Change::GroupDeleted { group_name: "Gone".to_owned() },
            Change::GroupRenamed { old_name: "Work".to_owned(), new_name: "Home".to_owned() },
            Change::GroupRenamed { old_name: "Gone".to_owned(), new_name: "New".to_owned() },
            changed(&[noted("c2c_x", 0, "")]),
        ];
        for misfit in misfits {
            let first = changed(&[noted("c2c_m", 2, "m"), noted("c2c_n", 1, "")]);
            let changes = vec![added("Work", &["c2c_b"]), first, created("More", &[]), misfit.clone()];
            let result = store.commit(to_commit("alice", 1, changes));
            let nobody = store.commit(to_commit("nobody", 0, vec![misfit.clone(), misfit.clone()]));
            assert!(nobody.is_err(), "{misfit:?} went through twice for a new user: {nobody:?}");
            assert_eq!(store.users(None, 10).expect("reads"), std::slice::from_ref(&alice));
            assert!(result.is_err(), "{misfit:?} went through: {result:?}");
            let after = (store.state(&alice).expect("reads"), store.groups(&alice).expect("reads"));
            assert_eq!(after, before, "after {misfit:?}");
        }
        assert_eq!(commit(store, "alice", 1, vec![added("Work", &["c2c_b"])]), committed(2));
    }

    fn order_is_the_order_of_adding_and_what_comes_back_goes_to_the_end(store) {
        commit(store, "alice", 0, vec![created("Work", &["c2c_c", "c2c_a", "c2c_b"])]);
        commit(store, "alice", 1, vec![deleted("Work", &["c2c_c"])]);
        commit(store, "alice", 2, vec![added("Work", &["c2c_0", "c2c_c"])]);
        let expected = [state("Work", &["c2c_a", "c2c_b", "c2c_0", "c2c_c"])];
        assert_eq!(store.state(&user("alice")).expect("reads").value.groups, expected);
    }

    fn pages_of_a_group_cover_it_once_in_order(store) {
        let members = ids("c2c_", 2500);
        let refs: Vec<&str> = members.iter().map(String::as_str).collect();
        commit(store, "alice", 0, vec![created("Work", &refs)]);
        for (limit, most) in [(1, 1), (7, 7), (1000, 1000), (u32::MAX, 1000)] {
            let limited = if limit == 1 { 100 } else { members.len() };
            let mut seen = Vec::new();
            let mut after = 0;
            while seen.len() < limited {
                let page = page(store, Some("Work"), after, limit);
                assert!(page.len() <= most, "{} members on a page of {limit}", page.len());
                assert!(page.is_sorted_by_key(|member| member.position));
                after = page.last().expect("pages go on to the end").position;
                seen.extend(page.into_iter().map(|member| member.conversation_id));
            }
            assert_eq!(seen, members[..seen.len()]);
        }
        assert!(page(store, Some("Work"), u64::MAX, 10).is_empty());
        assert!(page(store, Some("Work"), 0, 0).is_empty());
    }

    fn pages_of_all_that_is_known_have_each_conversation_once_at_its_earliest_place(store) {
        commit(store, "alice", 0, vec![created("Work", &["c2c_a", "c2c_b"])]);
        commit(store, "alice", 1, vec![created("Home", &["c2c_b", "c2c_c", "c2c_a"])]);
        assert_eq!(names(&page(store, None, 0, 10)), ["c2c_a", "c2c_b", "c2c_c"]);
        let first = page(store, None, 0, 1);
        assert_eq!(names(&page(store, None, first[0].position, 10)), ["c2c_b", "c2c_c"]);
        // Out of its first group, it is where it was added later.
        commit(store, "alice", 2, vec![deleted("Work", &["c2c_a"])]);
        assert_eq!(names(&page(store, None, 0, 10)), ["c2c_b", "c2c_c", "c2c_a"]);
        // Marks give a place, too, and keep a conversation listed that is in no group.
        let marked = changed(&[noted("c2c_d", 1, ""), noted("c2c_b", 1, ""), noted("c2c_c", 1, "")]);
        commit(store, "alice", 3, vec![marked]);
        assert_eq!(names(&page(store, None, 0, 10)), ["c2c_b", "c2c_c", "c2c_a", "c2c_d"]);
        let both = ["Work", "Home"].map(|name| Change::GroupDeleted { group_name: name.to_owned() });
        commit(store, "alice", 4, both.to_vec());
        assert_eq!(names(&page(store, None, 0, 10)), ["c2c_d", "c2c_b", "c2c_c"]);
        commit(store, "alice", 5, vec![created("Work", &["c2c_b"]), changed(&[noted("c2c_b", 0, "")])]);
        let all = page(store, None, 0, 10);
        assert_eq!(names(&all), ["c2c_d", "c2c_c", "c2c_b"]);
        assert_eq!(page(store, None, all[0].position, 1), all[1..2]);
    }

    fn places_of_later_commits_come_after_those_of_earlier_ones(store) {
        commit(store, "alice", 0, vec![created("Work", &["c2c_a"])]);
        let mut last = 0;
        for version in 1..20 {
            let id = format!("c2c_{version}");
            commit(store, "alice", version, vec![added("Work", &[&id])]);
            let newest = page(store, Some("Work"), last, 1000).pop().expect("one was added");
            assert!(newest.position > last);
            last = newest.position;
        }
    }

    fn the_log_tells_every_change_in_order_with_its_origin(store) {
        let alice = user("alice");
        let changes = [
            created("Work", &["c2c_a", "group_1"]),
            added("Work", &["c2c_b"]),
            deleted("Work", &["c2c_a"]),
            Change::ConversationsDeleted {
                group_name: "Work".to_owned(),
                conversation_list: vec!["group_1".to_owned()],
                reason: DeletionReason::Evicted,
            },
            Change::GroupRenamed { old_name: "Work".to_owned(), new_name: "Büro 🏢".to_owned() },
            Change::GroupDeleted { group_name: "Büro 🏢".to_owned() },
            changed(&[noted("c2c_a", 1 << 63 | 9, "x\u{1b} é"), noted("group_1", 0, "y")]),
            changed(&[noted("c2c_a", 0, "")]),
        ];
        for (version, change) in changes.iter().enumerate() {
            commit(store, "alice", version as u64, vec![change.clone()]);
        }
        let Changes::Since(log) = store.changes(&alice, Version(0), MAX_BATCH).expect("reads") else { panic!("the log is whole") };
        let events: Vec<Change> = log.iter().flat_map(|logged| logged.events.clone()).collect();
        assert_eq!(events, changes);
        for (index, logged) in log.iter().enumerate() {
            assert_eq!(logged.version, Version(index as u64 + 1));
            assert_eq!(logged.origin, origin(index as u64));
        }
        let Changes::Since(rest) = store.changes(&alice, Version(4), MAX_BATCH).expect("reads") else { panic!("the log is whole") };
        assert_eq!(rest, log[4..]);
        assert_eq!(store.changes(&alice, Version(8), MAX_BATCH).expect("reads"), Changes::Since(vec![]));
    }

    fn a_log_that_was_trimmed_answers_with_the_state_to_those_who_are_too_far_behind(store) {
        let alice = user("alice");
        commit(store, "alice", 0, vec![created("Work", &[]), changed(&[noted("c2c_m", 5, "x")])]);
        for version in 1..10 {
            let id = format!("c2c_{version}");
            let commit = Commit { keep: 3, ..to_commit("alice", version, vec![added("Work", &[&id])]) };
            store.commit(commit).expect("commits");
        }
        // Versions 8, 9 and 10 are kept.
        for after in 0..7 {
            let Changes::Full(full) = store.changes(&alice, Version(after), MAX_BATCH).expect("reads") else {
                panic!("version {after} is trimmed")
            };
            assert_eq!(full, store.state(&alice).expect("reads"));
            assert_eq!(full.version, Version(10));
            assert_eq!(full.value.conversations, [noted("c2c_m", 5, "x")]);
        }
        for after in 7..=10 {
            let Changes::Since(log) = store.changes(&alice, Version(after), MAX_BATCH).expect("reads") else {
                panic!("version {after} is kept")
            };
            let versions: Vec<u64> = log.iter().map(|logged| logged.version.0).collect();
            assert_eq!(versions, (after + 1..=10).collect::<Vec<_>>());
        }
    }

    fn a_reader_from_the_future_gets_the_state(store) {
        let alice = user("alice");
        let Changes::Full(nothing) = store.changes(&alice, Version(5), MAX_BATCH).expect("reads") else { panic!("there is no 5") };
        assert_eq!(nothing, at(0, UserState::default()));
        commit(store, "alice", 0, vec![created("Work", &["c2c_a"])]);
        let Changes::Full(full) = store.changes(&alice, Version(2), MAX_BATCH).expect("reads") else { panic!("there is no 2") };
        assert_eq!(full, at(1, in_groups(vec![state("Work", &["c2c_a"])])));
    }

    fn a_reader_of_another_history_gets_the_state_whatever_version_it_has_seen(store) {
        let alice = user("alice");
        let history = store.history().expect("reads");
        let seen = |version, history| EventId { version: Version(version), history };
        for version in 0..4 {
            commit(store, "alice", version, vec![created(&format!("group {version}"), &["c2c_a"])]);
        }
        let state = store.state(&alice).expect("reads");
        for after in 0..6 {
            let other = store.changes_after(&alice, seen(after, Some(History::random())), MAX_BATCH).expect("reads");
            assert_eq!(other, (history, Changes::Full(state.clone())), "after {after}");
            let same = store.changes_after(&alice, seen(after, Some(history)), MAX_BATCH).expect("reads");
            let unsaid = store.changes_after(&alice, seen(after, None), MAX_BATCH).expect("reads");
            assert_eq!(same, unsaid, "after {after}");
            match same {
                (of, Changes::Since(log)) => assert_eq!((of, log.len() as u64 + after), (history, 4), "after {after}"),
                (of, Changes::Full(full)) => assert_eq!((of, full, after > 4), (history, state.clone(), true)),
            }
        }
        // Of users that nobody has changed anything for, too.
        let other = store.changes_after(&user("bob"), seen(0, Some(History::random())), MAX_BATCH).expect("reads");
        assert_eq!(other, (history, Changes::Full(at(0, UserState::default()))));
        assert_eq!(store.history().expect("reads"), history);
    }

    fn what_commits_and_imports_leave_is_verified_without_an_error(store) {
        assert_eq!(verify(store), (Verified::default(), vec![]));
        let note = changed(&[noted("c2c_a", 1 << 63, ""), noted("c2c_b", 0, "b"), noted("c2c_a", 2, "a")]);
        commit(store, "alice", 0, vec![created("Work", &["c2c_b", "c2c_a"]), note, created("Home", &["c2c_a"])]);
        commit(store, "alice", 1, vec![deleted("Work", &["c2c_a"]), added("Work", &["c2c_c", "c2c_a"])]);
        commit(store, "alice", 2, vec![changed(&[noted("c2c_b", 0, "")])]);
        skip(store, "bob", 0, 1000, vec![created("Moved", &["c2c_b"])]);
        commit(store, "bob", 1001, vec![added("Moved", &["c2c_a"])]);
        skip(store, "\u{202e}eve \u{e9}", 0, 7, vec![]);
        let trimmed = Commit { keep: 1, ..to_commit("bob", 1002, vec![added("Moved", &["c2c_c"])]) };
        store.commit(trimmed).expect("commits");
        let expected = Verified { users: 3, groups: 3, members: 7, conversations: 1, changes: 4 };
        assert_eq!(verify(store), (expected, vec![]));
    }

    fn a_commit_that_leaves_versions_out_gives_the_state_to_everybody_who_saw_an_earlier_one(store) {
        for (name, before, versions) in [("new", 0, 1), ("new too", 0, 1000), ("known", 3, 1), ("known too", 3, 17)] {
            for base in 0..before {
                commit(store, name, base, vec![created(&format!("group {base}"), &["c2c_a"])]);
            }
            let changes = vec![created("Moved", &["c2c_b", "c2c_a"]), changed(&[noted("c2c_m", 1, "")])];
            assert_eq!(skip(store, name, before, versions, changes), committed(before + versions + 1), "{name}");
            let moved = store.state(&user(name)).expect("reads");
            assert_eq!(moved.version, Version(before + versions + 1));
            assert_eq!(moved.value.groups.len() as u64, before + 1);
            for after in (0..=before + versions).chain([before + versions + 2, u64::from(u32::MAX)]) {
                let read = store.changes(&user(name), Version(after), MAX_BATCH).expect("reads");
                assert_eq!(read, Changes::Full(moved.clone()), "{name} after {after}");
            }
            let read = store.changes(&user(name), moved.version, MAX_BATCH).expect("reads");
            assert_eq!(read, Changes::Since(vec![]), "{name}");
        }
    }

    fn after_versions_were_left_out_the_log_goes_on_and_is_trimmed_as_ever(store) {
        let alice = user("alice");
        commit(store, "alice", 0, vec![created("Work", &[])]);
        assert_eq!(skip(store, "alice", 1, 50, vec![added("Work", &["c2c_moved"])]), committed(52));
        for version in 52..60 {
            let id = format!("c2c_{version}");
            let commit = Commit { keep: 3, ..to_commit("alice", version, vec![added("Work", &[&id])]) };
            assert_eq!(store.commit(commit).expect("commits"), committed(version + 1));
            let kept = (version - 1).max(53);
            for after in 0..=version + 1 {
                match store.changes(&alice, Version(after), MAX_BATCH).expect("reads") {
                    Changes::Full(full) => {
                        assert!(after + 1 < kept, "after {after} at {}", version + 1);
                        assert_eq!(full, store.state(&alice).expect("reads"));
                    }
                    Changes::Since(log) => {
                        let versions: Vec<u64> = log.iter().map(|logged| logged.version.0).collect();
                        assert_eq!(versions, (after + 1..=version + 1).collect::<Vec<_>>());
                        assert!(after + 1 >= kept, "after {after} at {}", version + 1);
                    }
                }
            }
        }
    }

    fn places_go_on_growing_where_versions_are_left_out(store) {
        commit(store, "alice", 0, vec![created("Work", &["c2c_a"]), changed(&[noted("c2c_m", 1, "")])]);
        skip(store, "alice", 1, 1000, vec![added("Work", &["c2c_b", "c2c_c"]), changed(&[noted("c2c_n", 1, "")])]);
        commit(store, "alice", 1002, vec![added("Work", &["c2c_d"]), changed(&[noted("c2c_o", 1, "")])]);
        let members = page(store, Some("Work"), 0, 10);
        assert_eq!(names(&members), ["c2c_a", "c2c_b", "c2c_c", "c2c_d"]);
        let marked = page_of_data(store, 0, 10);
        assert_eq!(names(&marked), ["c2c_m", "c2c_n", "c2c_o"]);
        for list in [members, marked] {
            assert!(list.is_sorted_by(|a, b| a.position < b.position), "{list:?}");
        }
    }

    fn versions_can_be_left_out_without_a_change(store) {
        let alice = user("alice");
        assert_eq!(skip(store, "alice", 0, 7, vec![]), committed(8));
        assert_eq!(store.state(&alice).expect("reads"), at(8, UserState::default()));
        assert_eq!(store.users(None, 10).expect("reads"), std::slice::from_ref(&alice));
        let read = store.changes(&alice, Version(3), MAX_BATCH).expect("reads");
        assert_eq!(read, Changes::Full(at(8, UserState::default())));
        assert_eq!(commit(store, "alice", 8, vec![created("Work", &[])]), committed(9));
    }

    fn versions_end_below_the_last(store) {
        let alice = user("alice");
        let last = Version::MAX.0 - 1;
        commit(store, "alice", 0, vec![created("Work", &[])]);
        let before = store.state(&alice).expect("reads");
        for versions in [u64::MAX, u64::MAX - 1, u64::MAX - 2, 1 << 43, last - 1] {
            let outcome = skip(store, "alice", 1, versions, vec![added("Work", &["c2c_a"])]);
            assert_eq!(outcome, CommitOutcome::Conflict, "{versions} left out");
            assert_eq!(store.state(&alice).expect("reads"), before);
        }
        assert_eq!(skip(store, "alice", 1, last - 2, vec![added("Work", &["c2c_a"])]), committed(last));
        assert_eq!(commit(store, "alice", last, vec![added("Work", &["c2c_b"])]), CommitOutcome::Conflict);
        assert_eq!(names(&page(store, Some("Work"), 0, 10)), ["c2c_a"]);
    }

    fn group_ids_can_be_left_out_before_each_group_and_after_the_last(store) {
        let alice = user("alice");
        let id_skip = |base, versions, group_ids: &[u32], changes| {
            let skip = Skip { versions, group_ids: group_ids.to_vec() };
            store.commit(Commit { skip, ..to_commit("alice", base, changes) })
        };
        let delete = |name: &str| Change::GroupDeleted { group_name: name.to_owned() };
        let steps = [
            (vec![2], vec![created("a", &[]), created("b", &[])], groups(&[(3, "a"), (4, "b")], 4)),
            (vec![0, 3, 2], vec![delete("a"), created("c", &[]), created("d", &[])],
                groups(&[(4, "b"), (5, "c"), (9, "d")], 11)),
            (vec![4, 9], vec![added("b", &["c2c_a"])], groups(&[(4, "b"), (5, "c"), (9, "d")], 15)),
            (vec![], vec![created("e", &[])], groups(&[(4, "b"), (5, "c"), (9, "d"), (16, "e")], 16)),
        ];
        for (version, (group_ids, changes, expected)) in (0..).zip(steps) {
            assert_eq!(id_skip(version, 0, &group_ids, changes).expect("commits"), committed(version + 1));
            assert_eq!(store.groups(&alice).expect("reads"), at(version + 1, expected));
        }
        // Beside versions; and ids end somewhere.
        assert_eq!(id_skip(4, 5, &[0, u32::MAX - 18], vec![created("f", &[])]).expect("commits"), committed(10));
        let before = store.groups(&alice).expect("reads");
        assert_eq!(before.value.created, u32::MAX - 1);
        for group_ids in [vec![1], vec![0, 1], vec![u32::MAX]] {
            let result = id_skip(10, 0, &group_ids, vec![created("g", &[])]);
            assert!(result.is_err(), "{group_ids:?} left out: {result:?}");
            assert_eq!(store.groups(&alice).expect("reads"), before);
        }
        assert_eq!(commit(store, "alice", 10, vec![created("g", &[])]), committed(11));
        assert!(store.commit(to_commit("alice", 11, vec![created("h", &[])])).is_err());
    }

    fn a_long_log_is_read_in_parts_without_gap_or_repeat(store) {
        let alice = user("alice");
        commit(store, "alice", 0, vec![created("Work", &[])]);
        for version in 1..1100 {
            let (change, id) = (version % 2, ["c2c_a"]);
            let change = if change == 1 { added("Work", &id) } else { deleted("Work", &id) };
            let commit = Commit { keep: 5000, ..to_commit("alice", version, vec![change]) };
            store.commit(commit).expect("commits");
        }
        let mut after = Version(100);
        let mut seen = Vec::new();
        loop {
            let Changes::Since(part) = store.changes(&alice, after, MAX_BATCH).expect("reads") else { panic!("the log is kept") };
            assert!(part.len() <= 1000);
            let Some(last) = part.last() else { break };
            after = last.version;
            seen.extend(part.iter().map(|logged| logged.version.0));
        }
        assert_eq!(seen, (101..=1100).collect::<Vec<_>>());
        for (limit, expected) in [(1, 1), (7, 7), (u32::MAX, 1000)] {
            let Changes::Since(part) = store.changes(&alice, Version(0), limit).expect("reads") else {
                panic!("the log is kept")
            };
            assert_eq!(part.len(), expected, "asked for {limit}");
        }
    }

    fn users_are_listed_in_the_order_of_their_bytes_page_by_page(store) {
        let mut names = vec!["b", "a", "B", "é", "a b", "z", "10", "9", "日本"];
        for name in &names {
            commit(store, name, 0, vec![created("Work", &[])]);
        }
        names.sort_unstable();
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = store.users(after.as_ref(), 2).expect("reads");
            assert!(page.len() <= 2);
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            seen.extend(page);
        }
        assert_eq!(seen.iter().map(convgroups_host::UserId::as_str).collect::<Vec<_>>(), names);
    }

    fn texts_are_kept_as_they_are(store) {
        let names = ["Work", "work", "WORK ", " ", "Ünïcode", "日本語", "🏳️‍🌈", "a'b\"c\\d;--", "%_*?", "null", "0"];
        let ids = ["c2c_'; DROP TABLE users; --", "c2c_é", "c2c_e\u{301}", "group_🦀", "c2c_ ", "c2c_%", "c2c_NULL"];
        let changes = names.map(|name| created(name, &ids)).to_vec();
        commit(store, "o'hara; --", 0, changes);
        let hara = user("o'hara; --");
        assert_eq!(store.state(&hara).expect("reads").value.groups, names.map(|name| state(name, &ids)));
        let data: Vec<ConversationData> = ids.iter().zip(names).map(|(id, name)| noted(id, 1, name)).collect();
        commit(store, "o'hara; --", 1, vec![changed(&data)]);
        assert_eq!(store.data(&hara, &ids).expect("reads").value, data);
        let held = store.contains(&user("o'hara; --"), "🏳️‍🌈", &ids).expect("reads").value;
        assert_eq!(held, Some(vec![true; ids.len()]));
    }

    fn of_many_who_commit_on_the_same_version_exactly_one_succeeds(store) {
        for version in 0..20 {
            let outcomes: Vec<CommitOutcome> = std::thread::scope(|scope| {
                let racers: Vec<_> = (0..8)
                    .map(|racer| {
                        scope.spawn(move || {
                            let name = format!("by {racer} on {version}");
                            store.commit(to_commit("alice", version, vec![created(&name, &["c2c_a"])])).expect("commits")
                        })
                    })
                    .collect();
                racers.into_iter().map(|racer| racer.join().expect("no panic")).collect()
            });
            let winners = outcomes.iter().filter(|outcome| **outcome == committed(version + 1)).count();
            assert_eq!(winners, 1, "{outcomes:?}");
        }
        let end = store.state(&user("alice")).expect("reads");
        assert_eq!((end.version, end.value.groups.len()), (Version(20), 20));
    }

    fn a_read_never_sees_half_a_commit(store) {
        commit(store, "alice", 0, vec![created("Left", &["c2c_a"]), created("Right", &[])]);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for version in 1..200 {
                    let (from, to) = if version % 2 == 1 { ("Left", "Right") } else { ("Right", "Left") };
                    let mark = changed(&[noted("c2c_a", version, "")]);
                    commit(store, "alice", version, vec![deleted(from, &["c2c_a"]), mark, added(to, &["c2c_a"])]);
                }
            });
            while !writer.is_finished() {
                let held = memberships(store, "alice", &["c2c_a"]);
                let expected = if held.version.0 % 2 == 1 { "Left" } else { "Right" };
                assert_eq!(held.value, [vec![expected]], "at version {}", held.version);
                let Versioned { version, value } = store.data(&user("alice"), &["c2c_a"]).expect("reads");
                assert_eq!(value[0].marks, version.0 - 1, "at version {version}");
            }
        });
    }

    fn it_says_that_it_is_well(store) {
        store.health().expect("it is");
    }
}

fn at<T>(version: u64, value: T) -> Versioned<T> {
    Versioned { version: Version(version), value }
}

fn committed(version: u64) -> CommitOutcome {
    CommitOutcome::Committed(Version(version))
}

fn origin(base: u64) -> Origin {
    Origin { method: "test".to_owned(), request_id: format!("on {base}") }
}

fn to_commit(id: &str, base: u64, changes: Vec<Change>) -> Commit {
    Commit {
        user: user(id),
        base: Version(base),
        changes,
        origin: origin(base),
        keep: 100,
        skip: Skip::default(),
        deadline: None,
    }
}

fn verify(store: &Arc<dyn Store>) -> (Verified, Vec<String>) {
    let mut found = Vec::new();
    let verified = store.verify(&mut |line| found.push(line)).expect("it can be read");
    (verified, found)
}

fn commit(store: &Arc<dyn Store>, id: &str, base: u64, changes: Vec<Change>) -> CommitOutcome {
    store.commit(to_commit(id, base, changes)).expect("commits")
}

fn skip(store: &Arc<dyn Store>, id: &str, base: u64, versions: u64, changes: Vec<Change>) -> CommitOutcome {
    let skip = Skip { versions, ..Skip::default() };
    store.commit(Commit { skip, ..to_commit(id, base, changes) }).expect("commits")
}

/// For each ID the names of the groups that hold it.
fn memberships(store: &Arc<dyn Store>, id: &str, ids: &[&str]) -> Versioned<Vec<Vec<String>>> {
    let Versioned { version, value } = store.memberships(&user(id), ids, usize::MAX).expect("reads");
    let Memberships { groups, held } = value.expect("there is no limit");
    let names = |held: Vec<u32>| held.into_iter().map(|index| groups[index as usize].clone()).collect();
    Versioned { version, value: held.into_iter().map(names).collect() }
}

fn page(store: &Arc<dyn Store>, group: Option<&str>, after: u64, limit: u32) -> Vec<Member> {
    store.page(&user("alice"), group, after, limit).expect("reads").value.expect("the group is there")
}

fn page_of_data(store: &Arc<dyn Store>, after: u64, limit: u32) -> Vec<Member> {
    store.page_of_data(&user("alice"), after, limit).expect("reads").value
}

fn names(members: &[Member]) -> Vec<&str> {
    members.iter().map(|member| member.conversation_id.as_str()).collect()
}

fn groups(groups: &[(u32, &str)], created: u32) -> GroupList {
    let entry = |&(id, name): &(u32, &str)| GroupEntry { id, name: name.to_owned() };
    GroupList { groups: groups.iter().map(entry).collect(), created }
}

fn noted(id: &str, marks: u64, custom_data: &str) -> ConversationData {
    ConversationData { conversation_id: id.to_owned(), marks, custom_data: custom_data.to_owned() }
}

fn in_groups(groups: Vec<GroupState>) -> UserState {
    UserState { groups, conversations: Vec::new() }
}

fn changed(data: &[ConversationData]) -> Change {
    Change::ConversationsChanged { conversation_list: data.to_vec() }
}

fn owned(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|&id| id.to_owned()).collect()
}

fn state(name: &str, ids: &[&str]) -> GroupState {
    GroupState { group_name: name.to_owned(), conversation_id_list: owned(ids) }
}

fn created(name: &str, ids: &[&str]) -> Change {
    Change::GroupCreated { group_name: name.to_owned(), conversation_list: owned(ids) }
}

fn added(name: &str, ids: &[&str]) -> Change {
    Change::ConversationsAdded { group_name: name.to_owned(), conversation_list: owned(ids) }
}

fn deleted(name: &str, ids: &[&str]) -> Change {
    let (group_name, conversation_list) = (name.to_owned(), owned(ids));
    Change::ConversationsDeleted { group_name, conversation_list, reason: DeletionReason::Requested }
}
