//! Out of one store and into another.

use super::*;

/// The first line of an export.
const EXPORTED: &str = r#"{"format":"convgroups-export","version":2}"#;

/// How many versions are left out by a move.
const GAP: u64 = 1000;

pub(super) fn group(user: &str, name: &str, ids: &[impl AsRef<str>]) -> String {
    let ids: Vec<&str> = ids.iter().map(AsRef::as_ref).collect();
    format!("{}\n", json!({ "user": user, "groupName": name, "conversationIDList": ids }))
}

/// An export of thousands of groups, in an order that nothing but the file itself knows.
pub(super) fn large_export() -> String {
    let mut text = format!("{HEADER}\n");
    for user in 0..400 {
        for number in 0..10 {
            let name = format!("{} \"größe\" \\ 组 {user}", (number * 7) % 10);
            let ids: Vec<String> = (0..number).map(|id| format!("group_{}_{user}", (id * 7 + 3) % 10)).collect();
            text += &group(&format!("user {user:04}"), &name, &ids);
        }
    }
    text
}

/// An export as it would be written by hand: groups, marks and custom data.
fn by_hand(exported: &str) -> String {
    let mut text = format!("{HEADER}\n");
    for mut line in exported.lines().map(parse) {
        let fields = line.as_object_mut().expect("an object");
        if fields.contains_key("groupName") || fields.contains_key("customData") {
            fields.shift_remove("groupID");
            text += &format!("{line}\n");
        }
    }
    text
}

impl Place {
    /// Everything in a store, as it would be written by hand.
    fn content(&self, store: &str) -> String {
        by_hand(&self.export(store))
    }

    fn events_after(&self, store: &str, user: &str, after: u64) -> Vec<Value> {
        let after = after.to_string();
        self.run(&["events", "--user", user, "--store", store, "--after", &after]).succeeds().json()
    }
}

/// A user's line in an export.
fn user_line(exported: &str, user: &str) -> Value {
    let line = exported.lines().map(parse).find(|line| line["user"] == user && line.get("groupsCreated").is_some());
    line.expect("the user is there")
}

#[test]
fn what_was_exported_and_imported_is_exported_the_same() {
    let place = Place::new();
    let exported = large_export();
    place.write("groups.ndjson", &exported);
    let imported = place.run(&["import", "groups.ndjson", "--store", "sqlite:a.db"]).succeeds();
    assert_eq!(
        (imported.stdout.as_str(), imported.stderr.as_str()),
        ("", "imported 4000 groups\nverified: the store has all of it\n")
    );
    assert_eq!(place.content("sqlite:a.db"), exported);

    // Calls go on where the file ends, and the order they lead to is kept too.
    let user = "user 0007";
    let input = create(user, "last", &["c2c_z", "c2c_a"])
        + &line(user, "renameConversationGroup", &json!({ "oldName": "7 \"größe\" \\ 组 7", "newName": "renamed" }))
        + &add(user, "renamed", &["c2c_z", "c2c_a"]);
    let run = place.feed(&["run", "-", "--store", "sqlite:a.db"], input).succeeds();
    assert!(run.json().iter().all(|answer| answer["code"] == 0), "{}", run.stdout);
    let changed = place.export("sqlite:a.db");
    assert_ne!(by_hand(&changed), exported);

    let imported = place.feed(&["import", "-", "--store", "sqlite:b.db"], changed.as_str()).succeeds();
    let digest = text(&parse(changed.lines().last().expect("a last line"))["sha256"]);
    let says = format!("imported 4001 groups of 400 users\nverified: the store has all of it, SHA-256 {digest}\n");
    assert_eq!((imported.stdout.as_str(), imported.stderr), ("", says));
    assert_eq!(place.content("sqlite:b.db"), by_hand(&changed));
    let to_file = place.run(&["export", "again.ndjson", "--store", "sqlite:a.db"]).succeeds();
    let says = format!("exported 4001 groups of 400 users, SHA-256 {digest}\n");
    assert_eq!((to_file.stdout.as_str(), to_file.stderr), ("", says));
    assert_eq!(place.read("again.ndjson"), changed.as_bytes());
    assert!(!place.names().iter().any(|name| name.contains("partial")), "{:?}", place.names());
}

#[test]
fn marks_and_custom_data_are_exported_after_the_users_groups_and_imported_from_anywhere() {
    let place = Place::with_a_group();
    let input = mark("alice", 1 | 1 << 63, &["group_42", "c2c_new"])
        + &give("alice", "re\"d\u{1b}", &["c2c_eve", "group_42"])
        + &give("bob", "blue", &["c2c_alice"]);
    place.feed(&["run", "-"], input).succeeds();
    let data = |user: &str, id: &str, marks: &[u64], custom_data: &str| {
        let data = json!({ "user": user, "conversationID": id, "markList": marks, "customData": custom_data });
        format!("{data}\n")
    };
    let lines = [
        group("alice", "Work", &["c2c_bob", "group_42"]),
        data("alice", "group_42", &[1, 1 << 63], "re\"d\u{1b}"),
        data("alice", "c2c_new", &[1, 1 << 63], ""),
        data("alice", "c2c_eve", &[], "re\"d\u{1b}"),
        data("bob", "c2c_alice", &[], "blue"),
    ];
    let exported = format!("{HEADER}\n{}", lines.concat());
    assert_eq!(place.content("sqlite:convgroups.db"), exported);
    let to_file = place.run(&["export", "all.ndjson"]).succeeds();
    assert!(to_file.stderr.starts_with("exported 1 groups and 4 marked conversations of 2 users, "), "{to_file:?}");

    let imported = place.run(&["import", "all.ndjson", "--store", "sqlite:a.db"]).succeeds();
    assert!(imported.stderr.starts_with("imported 1 groups and 4 marked conversations of 2 users\n"), "{imported:?}");
    assert_eq!(place.content("sqlite:a.db"), exported);
    let [work, first, second, third, bobs] = &lines;
    let mixed = format!("{HEADER}\n{first}{bobs}{second}{work}{third}");
    place.feed(&["import", "-", "--store", "sqlite:b.db"], mixed).succeeds();
    assert_eq!(place.content("sqlite:b.db"), exported);
    let events = place.run(&["events", "--user", "bob", "--store", "sqlite:b.db"]).succeeds().json();
    assert_eq!(events[0]["origin"]["method"], "import");
    assert_eq!(events[0]["events"][0]["event"], "onConversationChanged");
    // What is there already is not replaced.
    let again = format!("{HEADER}\n{third}");
    let reason = "user alice has marks or custom data of this conversation already";
    place.feed(&["import", "-", "--store", "sqlite:b.db"], again).fails(1, &["line 2: ", reason]);
    assert_eq!(place.content("sqlite:b.db"), exported);
}

#[test]
fn an_export_does_not_overwrite_a_file() {
    let place = Place::with_a_group();
    place.write("there.ndjson", "precious");
    place.run(&["export", "there.ndjson"]).fails(1, &["could not write there.ndjson", "exists already"]);
    assert_eq!(place.read("there.ndjson"), b"precious");
}

#[test]
fn an_import_keeps_the_order_of_a_users_groups_wherever_they_stand_in_the_file() {
    let place = Place::with_a_group();
    let mut text = format!("{HEADER}\n");
    for number in [3, 1, 2] {
        for user in ["bob", "alice", "carol"] {
            text += &group(user, &format!("group {number}"), &["c2c_z", "c2c_a"]);
        }
    }
    place.write("groups.ndjson", text);
    place.run(&["import", "groups.ndjson"]).succeeds();
    let mut expected = format!("{HEADER}\n");
    expected += &group("alice", "Work", &["c2c_bob", "group_42"]);
    for user in ["alice", "bob", "carol"] {
        for number in [3, 1, 2] {
            expected += &group(user, &format!("group {number}"), &["c2c_z", "c2c_a"]);
        }
    }
    assert_eq!(place.content("sqlite:convgroups.db"), expected);
    let events = place.events("alice");
    assert_eq!(events.len(), 4);
    assert!(events[1..].iter().all(|event| event["origin"]["method"] == "import"), "{events:?}");
}

#[test]
fn a_bad_file_is_refused_by_its_line_and_changes_nothing() {
    let good = |number: usize| group("bob", &format!("group {number}"), &["c2c_alice"]);
    let after_good = |bad: &str| format!("{HEADER}\n{}{}{bad}\n{}", good(1), good(2), good(3));
    let raw = |user: &str, name: &str, ids: &str| {
        format!(r#"{{"user":{user},"groupName":{name},"conversationIDList":{ids}}}"#)
    };
    let data = |id: &str, marks: &str, custom_data: &str| {
        format!(r#"{{"user":"bob","conversationID":"{id}","markList":{marks},"customData":"{custom_data}"}}"#)
    };
    let long = format!("\"{}\"", "x".repeat(2000));
    let cases: Vec<(String, &str, &str)> = vec![
        (String::new(), "line 1: ", "not an export"),
        ("nonsense\n".to_owned(), "line 1: ", "not an export"),
        (good(1), "line 1: ", "not an export"),
        (r#"{"format":"something-else","version":1}"#.to_owned(), "line 1: ", "not an export"),
        (format!("{}\n{}", r#"{"format":"convgroups-export","version":3}"#, good(1)), "line 1: ", "version 3"),
        (after_good(r#"{"user":"bob","version":1,"groupsCreated":0}"#), "line 4: ", "version 1 of the format"),
        (after_good(r#"{"users":1,"groups":2,"markedConversations":0,"sha256":""}"#), "line 4: ", "version 1 of the"),
        (
            after_good(r#"{"user":"bob","groupID":1,"groupName":"x","conversationIDList":[]}"#),
            "line 4: ",
            "version 1 of the format has no groupID",
        ),
        (after_good("nonsense"), "line 4: ", "expected"),
        (after_good(""), "line 4: ", "expected an object"),
        (after_good("[]"), "line 4: ", "expected an object"),
        (after_good(r#"{"user":"bob","groupName":"x"}"#), "line 4: ", "conversationIDList"),
        (after_good(&raw("7", r#""x""#, "[]")), "line 4: ", "expected a string, got 7"),
        (after_good(&raw(r#""""#, r#""x""#, "[]")), "line 4: ", "the user id is empty"),
        (after_good(&raw(r#""bob""#, r#""""#, "[]")), "line 4: ", "the group name"),
        (after_good(&raw(r#""bob""#, r#""a\u0007b""#, "[]")), "line 4: ", "the group name"),
        (after_good(&raw(r#""bob""#, &long, "[]")), "line 4: ", "the group name"),
        (after_good(&raw(r#""bob""#, r#""x""#, r#"[""]"#)), "line 4: ", "the conversation id"),
        (after_good(&raw(r#""bob""#, r#""x""#, r#"["c2c_a\n"]"#)), "line 4: ", "the conversation id"),
        (after_good(&raw(r#""bob""#, r#""x""#, &format!("[{long}]"))), "line 4: ", "the conversation id"),
        (after_good(&raw(r#""bob""#, r#""x""#, r#"["c2c_a","c2c_a"]"#)), "line 4: ", "twice"),
        (after_good(good(1).trim_end()), "line 4: ", "user bob has a group of this name already"),
        (after_good(group("alice", "Work", &["c2c_x"]).trim_end()), "line 4: ", "user alice has a group of this name"),
        (after_good(&data("c2c_x", "[3]", "")), "line 4: ", "powers of two"),
        (after_good(&data("c2c_x", "[1,1]", "")), "line 4: ", "powers of two"),
        (after_good(&data("c2c_x", "[]", "")), "line 4: ", "neither marks nor custom data"),
        (after_good(&data("c2c_x", "[1]", r"a\u0000")), "line 4: ", "U+0000"),
        (after_good(&data("c2c_x", "[1]", &"x".repeat(4097))), "line 4: ", "4096 bytes"),
        (after_good(&data("", "[1]", "")), "line 4: ", "the conversation id"),
        (after_good(&data("c2c_x", "[1]", r#"","more":""#)), "line 4: ", "unknown field \"more\""),
        (after_good(r#"{"user":"bob","conversationID":"c2c_x","markList":[1]}"#), "line 4: ", "customData"),
        (after_good(&data("c2c_marked", "[1]", "")), "line 4: ", "user bob has marks or custom data of this"),
        (
            after_good(&[data("c2c_x", "[1]", ""), data("c2c_x", "[2]", "")].join("\n")),
            "line 5: ",
            "user bob has marks",
        ),
    ];
    let place = Place::with_a_group();
    place.feed(&["run", "-"], mark("bob", 1, &["c2c_marked"])).succeeds();
    let before = place.export("sqlite:convgroups.db");
    for (file, line, reason) in cases {
        place.write("groups.ndjson", &file);
        place.run(&["import", "groups.ndjson"]).fails(1, &[line, reason]);
        assert_eq!(place.export("sqlite:convgroups.db"), before, "{file}");
    }
    let mut binary = format!("{HEADER}\n{}", good(1)).into_bytes();
    binary.extend_from_slice(b"\xff\xfe\n");
    place.write("groups.ndjson", binary);
    place.run(&["import", "groups.ndjson"]).fails(1, &["line 3: "]);
    place.run(&["import", "missing.ndjson"]).fails(1, &["could not read missing.ndjson"]);
    assert_eq!(place.export("sqlite:convgroups.db"), before);
    assert_eq!(place.events("alice").len(), 1);
}

#[test]
fn standard_input_is_checked_as_a_whole_before_anything_is_written() {
    let place = Place::new();
    let mut input = format!("{HEADER}\n");
    for user in 0..100 {
        input += &group(&format!("user{user}"), "Work", &["c2c_bob"]);
    }
    place.feed(&["import", "-"], input.clone() + "nonsense\n").fails(1, &["line 102: "]);
    assert_eq!(place.groups().len(), 0);
    place.feed(&["import", "-"], input.as_str()).succeeds();
    place.feed(&["import", "-"], input).fails(1, &["line 2: ", "has a group of this name already"]);
    assert_eq!(place.groups().len(), 100);
}

// ---- moving: versions, ids, whole files

/// Users of every kind in a store: with groups that were deleted and renamed, with marks, with nothing any more.
fn lived_in(place: &Place, store: &str) {
    let gone = |user: &str, name: &str| line(user, "deleteConversationGroup", &json!({ "groupName": name }));
    let input = [
        create("alice", "First", &["c2c_a"]),
        create("alice", "Work", &["c2c_b", "c2c_a"]),
        create("alice", "Third", &["c2c_a"]),
        create("alice", "Home", &["c2c_a", "group_1"]),
        create("alice", "Last", &["c2c_a"]),
        gone("alice", "First"),
        gone("alice", "Third"),
        gone("alice", "Last"),
        line("alice", "renameConversationGroup", &json!({ "oldName": "Work", "newName": "Büro" })),
        mark("alice", 3, &["c2c_b", "c2c_x"]),
        give("alice", "x", &["c2c_b"]),
        create("bob", "Gone", &["c2c_a"]),
        gone("bob", "Gone"),
        mark("carol", 1 << 63, &["c2c_b"]),
        create("dave", "Only", &["c2c_b"]),
    ];
    let run = place.feed(&["run", "-", "--store", store], input.concat()).succeeds();
    assert!(run.json().iter().all(|answer| answer["code"] == 0), "{}", run.stdout);
}

#[test]
fn who_has_seen_any_version_of_the_old_store_gets_the_whole_state_from_the_new_one() {
    let place = Place::new();
    lived_in(&place, "sqlite:old.db");
    place.run(&["export", "all.ndjson", "--store", "sqlite:old.db"]).succeeds();
    // Calls reach the old store until it is switched off.
    place.feed(&["run", "-", "--store", "sqlite:old.db"], mark("alice", 4, &["c2c_late"])).succeeds();
    place.run(&["import", "all.ndjson", "--store", "sqlite:new.db"]).succeeds();
    let exported = String::from_utf8(place.read("all.ndjson")).expect("text");
    let moved = place.export("sqlite:new.db");
    for user in ["alice", "bob", "carol", "dave"] {
        let old = user_line(&exported, user)["version"].as_u64().expect("a number");
        let new = user_line(&moved, user)["version"].as_u64().expect("a number");
        assert_eq!(new, old + GAP + 1, "{user}");
        for seen in [0, 1, old - 1, old, old + 1, old + GAP - 1, old + GAP, new + 1] {
            let events = place.events_after("sqlite:new.db", user, seen);
            assert_eq!(events.len(), 1, "{user} who saw {seen}: {events:?}");
            assert_eq!((&events[0]["version"], &events[0]["full"]), (&json!(new), &json!(true)), "{user}, {seen}");
        }
        assert!(place.events_after("sqlite:new.db", user, new).is_empty());
        // From here on the log goes on, for those who saw where it begins.
        place.feed(&["run", "-", "--store", "sqlite:new.db"], mark(user, 8, &["c2c_new"])).succeeds();
        for (seen, full) in [(new, false), (new - 1, true), (old, true)] {
            let events = place.events_after("sqlite:new.db", user, seen);
            assert_eq!((events.len(), events[0].get("full").is_some()), (1, full), "{user} who saw {seen}");
            assert_eq!(events[0]["version"], new + 1);
        }
    }
}

#[test]
fn groups_keep_their_ids_and_none_is_given_again() {
    let place = Place::new();
    lived_in(&place, "sqlite:old.db");
    let exported = place.export("sqlite:old.db");
    place.feed(&["import", "-", "--store", "sqlite:new.db"], exported.as_str()).succeeds();
    // The same in both; the versions are what differs.
    let without_versions = |exported: &str| -> Vec<Value> {
        let lines = exported.lines().map(parse).filter(|line| line.get("sha256").is_none());
        let forget = |mut line: Value| {
            line.as_object_mut().expect("an object").shift_remove("version");
            line
        };
        lines.map(forget).collect()
    };
    let ids = |store: &str, user: &str| -> Vec<(String, u64)> {
        let exported = place.export(store);
        let groups = exported.lines().map(parse).filter(|line| line["user"] == user && line.get("groupID").is_some());
        groups.map(|line| (text(&line["groupName"]), line["groupID"].as_u64().expect("a number"))).collect()
    };
    let named = |list: &[(&str, u64)]| list.iter().map(|&(name, id)| (name.to_owned(), id)).collect::<Vec<_>>();
    assert_eq!(without_versions(&place.export("sqlite:new.db")), without_versions(&exported));
    for store in ["sqlite:old.db", "sqlite:new.db"] {
        let input = create("alice", "New", &["c2c_a"]) + &create("bob", "New", &["c2c_a"]);
        place.feed(&["run", "-", "--store", store], input).succeeds();
        assert_eq!(ids(store, "alice"), named(&[("Büro", 2), ("Home", 4), ("New", 6)]), "{store}");
        assert_eq!(ids(store, "bob"), named(&[("New", 2)]), "{store}");
    }
    // Where ids are taken, all are higher by as many as were given.
    let input = create("alice", "Gone", &["c2c_a"])
        + &create("alice", "Mine", &["c2c_a"])
        + &line("alice", "deleteConversationGroup", &json!({ "groupName": "Gone" }));
    place.feed(&["run", "-", "--store", "sqlite:both.db"], input).succeeds();
    for arguments in
        [&["import", "-", "--store", "sqlite:both.db"][..], &["import", "-", "--store", "sqlite:both.db", "--resume"]]
    {
        place.feed(arguments, exported.as_str()).succeeds();
        assert_eq!(ids("sqlite:both.db", "alice"), named(&[("Mine", 2), ("Büro", 4), ("Home", 6)]));
        assert_eq!(user_line(&place.export("sqlite:both.db"), "alice")["groupsCreated"], 7);
    }
}

#[test]
fn one_store_is_moved_into_another_through_a_pipe() {
    let place = Place::new();
    lived_in(&place, "sqlite:convgroups.db");
    let script = r#""$0" export | "$0" import - --store sqlite:new.db"#;
    let ended = place.start_in_shell(script, &[]).feed(Vec::new()).succeeds();
    assert!(ended.stderr.contains("verified: the store has all of it, SHA-256 "), "{}", ended.stderr);
    assert_eq!(place.content("sqlite:new.db"), place.content("sqlite:convgroups.db"));
}

#[test]
fn a_file_that_was_cut_off_or_damaged_is_refused_and_nothing_is_written() {
    let place = Place::new();
    lived_in(&place, "sqlite:old.db");
    let exported = place.export("sqlite:old.db");
    let lines: Vec<&str> = exported.split_inclusive('\n').collect();
    let refused = |what: &str, content: &[u8], says: &[&str]| {
        place.write("bad.ndjson", content);
        let ended = place.run(&["import", "bad.ndjson", "--store", "sqlite:new.db"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{what}: {ended:?}");
        for fragment in says {
            assert!(ended.stderr.contains(fragment), "{what}: {fragment:?} is not in {}", ended.stderr);
        }
    };
    for end in 1..lines.len() {
        let line = format!("line {}: ", end + 1);
        refused(&line, lines[..end].concat().as_bytes(), &[&line, "the file is cut off"]);
        // A line is missing in the middle, two have changed places.
        if end + 1 < lines.len() {
            refused("missing", [&lines[..end], &lines[end + 1..]].concat().concat().as_bytes(), &["line "]);
            let swapped = [&lines[..end], &[lines[end + 1], lines[end]], &lines[end + 2..]].concat().concat();
            refused("swapped", swapped.as_bytes(), &["line "]);
        }
    }
    for cut in [1, 2, 20, 70, 200] {
        refused("cut", &exported.as_bytes()[..exported.len() - cut], &["cut off in the middle of this line"]);
    }
    let replaced = exported.replace("c2c_b", "c2c_c");
    refused("replaced", replaced.as_bytes(), &[&format!("line {}: the file is damaged: it has 3 groups", lines.len())]);
    refused("appended", format!("{exported}\n").as_bytes(), &["there is something after the last line"]);
    refused("twice", exported.repeat(2).as_bytes(), &["there is something after the last line"]);
    refused("spaced", exported.replacen(":[", ": [", 1).as_bytes(), &["damaged, or not as an export has it"]);
    assert_eq!(place.export("sqlite:new.db").lines().count(), 2, "something was written");
    place.feed(&["import", "-", "--store", "sqlite:new.db"], exported).succeeds();
}

#[test]
fn an_export_of_nobody_can_be_imported() {
    let place = Place::with_a_group();
    place.feed(&["run", "-", "--store", "sqlite:empty.db"], "").succeeds();
    let exported = place.export("sqlite:empty.db");
    assert_eq!(exported.lines().next(), Some(EXPORTED));
    let before = place.export("sqlite:convgroups.db");
    let imported = place.feed(&["import", "-"], exported).succeeds();
    assert!(imported.stderr.starts_with("imported 0 groups\nverified: "), "{}", imported.stderr);
    assert_eq!(place.export("sqlite:convgroups.db"), before);
}

#[test]
fn what_a_store_does_not_give_back_is_told_by_its_line() {
    let place = Place::new();
    lived_in(&place, "sqlite:old.db");
    let exported = place.export("sqlite:old.db");
    let position = exported.lines().position(|line| line.contains("Home")).expect("it is there");
    // A store that loses what was written to it.
    place.feed(&["run", "-", "--store", "sqlite:bad.db"], "").succeeds();
    let database = rusqlite::Connection::open(place.path("bad.db")).expect("it is a database");
    let trigger = "CREATE TRIGGER lose AFTER INSERT ON members WHEN NEW.conversation_id = 'group_1'
        BEGIN DELETE FROM members WHERE conversation_id = NEW.conversation_id; END";
    database.execute_batch(trigger).expect("it can be changed");
    drop(database);
    let ended = place.feed(&["import", "-", "--store", "sqlite:bad.db"], exported).exits(1);
    let says = format!("not verified: line {}: user alice has something else in the store", position + 1);
    assert!(ended.stderr.contains(&says), "{}", ended.stderr);
}

// ---- what was interrupted

/// A store with this many users, each with some groups, and the export of it.
fn crowded(place: &Place, users: usize) -> String {
    let mut text = format!("{HEADER}\n");
    for user in 0..users {
        let id = format!("user {user:05}");
        for number in 0..=user % 4 {
            let ids: Vec<String> = (0..10).map(|id| format!("c2c_{number}_{id}_{user}")).collect();
            text += &group(&id, &format!("group {number}"), &ids);
        }
        if user % 3 == 0 {
            let data = json!({ "user": id, "conversationID": "c2c_m", "markList": [1, 8], "customData": "x" });
            text += &format!("{data}\n");
        }
    }
    place.feed(&["import", "-", "--store", "sqlite:old.db"], text).succeeds();
    place.export("sqlite:old.db")
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

#[test]
fn an_export_that_is_killed_goes_on_where_it_was_and_ends_as_if_nothing_had_been() {
    let place = Place::new();
    let expected = crowded(&place, 6000);
    let export = ["export", "all.ndjson", "--store", "sqlite:old.db", "--resume"];
    let (file, partial) = (place.path("all.ndjson"), place.path("all.ndjson.partial"));
    let mut kills = 0;
    while !file.exists() {
        let mut session = place.start(&export);
        // When it has gone on by some part of the whole, by chance.
        let enough = length(&partial) + fastrand::u64(1..expected.len() as u64 / 4);
        while length(&partial) < enough && session.child.try_wait().expect("it can be waited for").is_none() {
            std::thread::yield_now();
        }
        let ended = session.kill();
        kills += u32::from(ended.code.is_none());
        assert!(ended.code.is_none_or(|code| code == 0), "{ended:?}");
        assert!(file.exists() != partial.exists(), "{ended:?}");
    }
    assert!(kills > 0, "it was never killed");
    assert!(place.read("all.ndjson") == expected.as_bytes(), "after {kills} kills it is another file");
}

#[test]
fn an_export_goes_on_after_the_last_user_who_is_whole_wherever_it_was_cut() {
    let place = Place::new();
    lived_in(&place, "sqlite:convgroups.db");
    let expected = place.export("sqlite:convgroups.db");
    let mut cuts: Vec<usize> = (0..=expected.len()).step_by(23).collect();
    cuts.extend(expected.match_indices('\n').flat_map(|(end, _)| [end, end + 1]));
    for cut in cuts {
        for tail in ["", "\0\0\0\0", "nonsense\n", "{}\n"] {
            place.write("all.ndjson.partial", expected[..cut].to_owned() + tail);
            // What does not begin as an export does is not overwritten.
            let readable =
                cut > expected.find('\n').expect("lines") || (tail.is_empty() && expected.is_char_boundary(cut));
            if !readable && cut + tail.len() > 0 {
                place.run(&["export", "all.ndjson", "--resume"]).fails(1, &["all.ndjson.partial", "no export"]);
                continue;
            }
            place.run(&["export", "all.ndjson", "--resume"]).succeeds();
            assert_eq!(place.read("all.ndjson"), expected.as_bytes(), "cut at {cut}, then {tail:?}");
            assert!(!place.path("all.ndjson.partial").exists());
            std::fs::remove_file(place.path("all.ndjson")).expect("it can be removed");
        }
    }
}

#[test]
fn an_export_goes_on_only_when_told_to_and_only_from_the_same_store() {
    let place = Place::new();
    lived_in(&place, "sqlite:convgroups.db");
    let exported = place.export("sqlite:convgroups.db");
    let last = exported.rfind("{\"user\":\"dave\",\"version").expect("dave is the last");
    place.write("all.ndjson.partial", &exported[..last]);
    let says = ["could not write all.ndjson", "go on with --resume, or remove it"];
    place.run(&["export", "all.ndjson"]).fails(1, &says);
    place.run(&["export", "--resume"]).fails(2, &["standard output"]);
    // Others have been here: bob never, or with fewer changes.
    place.feed(&["run", "-", "--store", "sqlite:a.db"], create("alice", "Work", &["c2c_a"])).succeeds();
    let says = ["all.ndjson.partial", "of another store, where there was a user bob", "remove it"];
    place.run(&["export", "all.ndjson", "--store", "sqlite:a.db", "--resume"]).fails(1, &says);
    place.write("all.ndjson.partial", &exported[..exported.find("{\"user\":\"carol").expect("carol is there")]);
    let input = create("alice", "Work", &["c2c_a"]) + &create("bob", "Work", &["c2c_a"]);
    place.feed(&["run", "-", "--store", "sqlite:b.db"], input).succeeds();
    let says = ["all.ndjson.partial", "of another store, where user alice had more changes"];
    place.run(&["export", "all.ndjson", "--store", "sqlite:b.db", "--resume"]).fails(1, &says);
    // Somebody has come since, and changed something.
    place.feed(&["run", "-"], create("aaron", "Work", &["c2c_a"]) + &mark("carol", 1, &["c2c_new"])).succeeds();
    let ended = place.run(&["export", "all.ndjson", "--resume"]).succeeds();
    assert!(ended.stderr.starts_with("going on after user alice: 2 groups and 2 marked"), "{}", ended.stderr);
    let content = by_hand(&String::from_utf8(place.read("all.ndjson")).expect("text"));
    assert!(content.contains("c2c_new") && !content.contains("aaron"), "{content}");
    place.run(&["import", "all.ndjson", "--store", "sqlite:new.db"]).succeeds();
    place.write("all.ndjson.partial", "");
    place.run(&["export", "all.ndjson", "--resume"]).fails(1, &["exists already"]);
}

#[cfg(unix)]
#[test]
fn an_export_goes_on_when_there_is_room_on_the_disk_again() {
    let place = Place::new();
    let expected = crowded(&place, 1000);
    let script = r#"ulimit -f 128; trap '' XFSZ; exec "$0" "$@""#;
    let export = ["export", "all.ndjson", "--store", "sqlite:old.db"];
    let ended = place.start_in_shell(script, &export).feed(Vec::new());
    ended.fails(1, &["could not write all.ndjson.partial: File too large", "go on with --resume"]);
    let ended = place.run(&[&export[..], &["--resume"]].concat()).succeeds();
    assert!(ended.stderr.starts_with("going on after user user 00"), "{}", ended.stderr);
    assert!(place.read("all.ndjson") == expected.as_bytes());
}

#[test]
fn an_import_that_is_killed_goes_on_where_it_was_and_ends_as_if_nothing_had_been() {
    let place = Place::new();
    let exported = crowded(&place, 4000);
    place.write("all.ndjson", &exported);
    place.run(&["import", "all.ndjson", "--store", "sqlite:expected.db"]).succeeds();
    let expected = place.export("sqlite:expected.db");
    let (mut partly, mut wait) = (0, 10);
    loop {
        let mut session = place.start(&["import", "all.ndjson", "--store", "sqlite:new.db", "--resume"]);
        let until = Instant::now() + Duration::from_millis(wait + fastrand::u64(0..40));
        while Instant::now() < until && session.child.try_wait().expect("it can be waited for").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let ended = session.kill();
        if ended.code.is_some() {
            let says = &ended.succeeds().stderr;
            assert!(says.contains(", the rest was there already\nverified: "), "{says}");
            break;
        }
        // Before it has become a store it cannot be exported.
        let there = place.run(&["export", "--store", "sqlite:new.db"]);
        let lines = there.stdout.lines().count();
        if there.code == Some(0) && lines > 2 && lines < expected.lines().count() {
            partly += 1;
            let again = place.run(&["import", "all.ndjson", "--store", "sqlite:new.db"]);
            again.fails(1, &["already", "if an import of this file was interrupted, go on with --resume"]);
        }
        wait += wait / 2;
    }
    assert!(partly > 0, "it was never killed in the middle");
    // Versions too: nobody was written twice.
    assert!(place.export("sqlite:new.db") == expected, "after {partly} kills it is another store");
    for seen in [0, 5, GAP] {
        assert_eq!(place.events_after("sqlite:new.db", "user 00001", seen)[0]["full"], true);
    }
}

#[test]
fn an_import_that_is_killed_in_the_middle_of_a_user_goes_on_there() {
    let place = Place::new();
    let mut text = format!("{HEADER}\n");
    let ids: Vec<String> = (0..60_000).map(|number| format!("c2c_{number:06}")).collect();
    for number in 0..8 {
        text += &group("alice", &format!("group {number}"), &ids);
    }
    for id in &ids {
        let data = json!({ "user": "alice", "conversationID": id, "markList": [2], "customData": "" });
        text += &format!("{data}\n");
    }
    place.feed(&["import", "-", "--store", "sqlite:old.db"], text).succeeds();
    let exported = place.export("sqlite:old.db");
    place.write("all.ndjson", &exported);
    let content = by_hand(&exported);
    let groups = |store: &str| place.export(store).lines().filter(|line| line.contains("groupName")).count();
    let mut partly = false;
    for attempt in 0..60 {
        let store = format!("sqlite:new {attempt}.db");
        let mut session = place.start(&["import", "all.ndjson", "--store", &store]);
        let file = place.path(&format!("new {attempt}.db-wal"));
        while length(&file) < 4 << 20 && session.child.try_wait().expect("it can be waited for").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(attempt * 5));
        let ended = session.kill();
        partly = ended.code.is_none() && (1..8).contains(&groups(&store));
        if !partly {
            continue;
        }
        place.run(&["import", "all.ndjson", "--store", &store]).fails(1, &["has a group of this name already"]);
        place.run(&["import", "all.ndjson", "--store", &store, "--resume"]).succeeds();
        assert!(place.content(&store) == content);
        let old = user_line(&exported, "alice")["version"].as_u64().expect("a number");
        for seen in [0, old - 1, old, old + GAP] {
            assert_eq!(place.events_after(&store, "alice", seen)[0]["full"], true, "who saw {seen}");
        }
        break;
    }
    assert!(partly, "it was never killed in the middle");
}

#[test]
fn an_import_goes_on_only_where_everything_is_as_in_the_file() {
    let place = Place::new();
    lived_in(&place, "sqlite:old.db");
    let exported = place.export("sqlite:old.db");
    place.write("all.ndjson", &exported);
    let line_of = |fragment: &str| {
        let position = exported.lines().position(|line| line.contains(fragment)).expect("it is there");
        format!("line {}: user alice has", position + 1)
    };
    let created = line_of("groupsCreated\":5");
    // Büro has the id 2, as the file has it.
    let first = create("alice", "First", &["c2c_a"])
        + &line("alice", "deleteConversationGroup", &json!({ "groupName": "First" }));
    let office = |ids: &[&str]| first.clone() + &create("alice", "Büro", ids);
    // What alice has there instead, and where that is told; nothing where the import goes on.
    let cases: &[(&str, String, Option<String>)] = &[
        ("nothing", String::new(), None),
        (
            "what is in the file, with other ids",
            office(&["c2c_b", "c2c_a"]) + &create("alice", "Home", &["c2c_a", "group_1"]),
            Some(line_of("Home")),
        ),
        ("something of her own", create("alice", "Mine", &["c2c_b"]) + &mark("alice", 1, &["c2c_z"]), None),
        ("another member", office(&["c2c_b", "c2c_c"]), Some(line_of("Büro"))),
        ("fewer members", office(&["c2c_b"]), Some(line_of("Büro"))),
        ("another order", office(&["c2c_a", "c2c_b"]), Some(line_of("Büro"))),
        ("only a later group", create("alice", "Home", &["c2c_a", "group_1"]), Some(line_of("Büro"))),
        ("the first group", office(&["c2c_b", "c2c_a"]), None),
        (
            "the first group, and one since",
            office(&["c2c_b", "c2c_a"]) + &create("alice", "New", &["c2c_b"]),
            Some(created.clone()),
        ),
        ("other marks", mark("alice", 1, &["c2c_b"]), Some(line_of("\"conversationID\":\"c2c_b\""))),
        (
            "other custom data",
            mark("alice", 3, &["c2c_b"]) + &give("alice", "y", &["c2c_b"]),
            Some(line_of("\"conversationID\":\"c2c_b\"")),
        ),
        ("only later marks", mark("alice", 3, &["c2c_x"]), Some(line_of("\"conversationID\":\"c2c_b\""))),
        ("the first marks", mark("alice", 3, &["c2c_b"]) + &give("alice", "x", &["c2c_b"]), None),
    ];
    for (number, (what, there, refused)) in cases.iter().enumerate() {
        let store = &format!("sqlite:new {number}.db");
        place.feed(&["run", "-", "--store", store], there.as_str()).succeeds();
        let before = place.export(store);
        let ended = place.run(&["import", "all.ndjson", "--store", store, "--resume"]);
        match refused {
            Some(says) => {
                assert!(ended.code == Some(1) && ended.stderr.contains(says), "{what}: {ended:?}, not {says:?}");
                assert_eq!(place.export(store), before, "{what}");
            }
            None => {
                assert_eq!(ended.code, Some(0), "{what}: {ended:?}");
                assert!(ended.stderr.contains("verified: "), "{what}: {ended:?}");
                // Once more, there is nothing to do.
                let after = place.export(store);
                let again = place.run(&["import", "all.ndjson", "--store", store, "--resume"]).succeeds();
                assert!(
                    again.stderr.starts_with("imported 0 groups, the rest was there already\n"),
                    "{what}: {again:?}"
                );
                assert_eq!(place.export(store), after, "{what}");
            }
        }
    }
}

#[test]
fn what_would_leave_a_user_without_versions_or_ids_is_refused_with_its_line_and_field() {
    use sha2::{Digest, Sha256};
    /// An export of alice with a group, and these numbers.
    fn export(version: u64, created: u64) -> String {
        let lines = format!(
            "{EXPORTED}\n{{\"user\":\"alice\",\"version\":{version},\"groupsCreated\":{created}}}\n{}\n",
            r#"{"user":"alice","groupID":1,"groupName":"Moved","conversationIDList":["c2c_a"]}"#
        );
        let end =
            format!(r#"{{"users":1,"groups":1,"markedConversations":0,"sha256":"{:x}"}}"#, Sha256::digest(&lines));
        lines + &end + "\n"
    }
    let most_versions = ((1_u64 << 43) - 1) / 2;
    let most_groups = u64::from(u32::MAX / 2);
    for (version, created, reason) in [
        (most_versions + 1, 1, "the version "),
        ((1 << 43) - 1, 1, "the version "),
        (u64::MAX, 1, "the version "),
        (7, most_groups + 1, "the groupsCreated 2147483648 is not between 0 and 2147483647"),
        (7, u64::from(u32::MAX), "the groupsCreated 4294967295 is not between"),
        (7, 1 << 32, "expected a whole number from 0 to 4294967295, got 4294967296"),
    ] {
        let place = Place::new();
        place.feed(&["import", "-"], export(version, created)).fails(1, &["line 2: ", reason]);
        assert_eq!(place.groups().len(), 0);
    }
    // With what was created in the store before, too.
    let place = Place::with_a_group();
    place
        .feed(&["import", "-"], export(7, most_groups))
        .fails(1, &["line 2: ", "groupsCreated 2147483647", "created 1 groups"]);
    assert_eq!(place.groups().len(), 1);
    // The most that is taken leaves a user who can go on, be exported, and be moved again.
    let place = Place::new();
    place.feed(&["import", "-"], export(most_versions - 10_000, most_groups)).succeeds();
    let exported = place.export("sqlite:convgroups.db");
    place.feed(&["import", "-", "--store", "sqlite:b.db"], exported.clone()).succeeds();
    place.feed(&["import", "-", "--resume", "--store", "sqlite:b.db"], exported).succeeds();
    for store in ["sqlite:convgroups.db", "sqlite:b.db"] {
        let created = place.feed(&["run", "-", "--store", store], create("alice", "New", &["c2c_b"])).succeeds();
        assert_eq!(created.json()[0]["code"], 0, "{created:?}");
        place.run(&["verify-store", "--store", store]).succeeds();
    }
    // The store is beyond the highest version then, which is no reason not to resume.
    let place = Place::new();
    let highest = export(most_versions, most_groups);
    place.feed(&["import", "-"], highest.clone()).succeeds();
    place.feed(&["import", "-", "--resume"], highest).succeeds();
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_without_lines_or_with_a_byte_order_mark_is_refused_at_once() {
    let place = Place::new();
    place.run(&["import", "/dev/zero"]).fails(1, &["line 1: it has more than 1024 bytes and so is not the first line"]);
    let good = format!("{HEADER}\n{}", group("alice", "Work", &["c2c_bob"]));
    place
        .feed(&["import", "-"], format!("\u{feff}{good}"))
        .fails(1, &["line 1: it begins with a byte-order mark of UTF-8"]);
    place.write(
        "utf16",
        good.encode_utf16().fold(vec![0xff, 0xfe], |mut file, unit| {
            file.extend(unit.to_le_bytes());
            file
        }),
    );
    place.run(&["import", "utf16"]).fails(1, &["line 1: it begins with a byte-order mark of UTF-16"]);
    place.feed(&["import", "-"], good).succeeds();
}
