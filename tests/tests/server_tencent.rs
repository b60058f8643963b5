//! `/v4`: the commands as Tencent's clients send them, with their quirks.

use convgroups_host::Version;
use convgroups_host::api::{AddConversationsToGroup, CreateConversationGroup, MarkConversation};
use convgroups_host::model::{Change, Origin};
use convgroups_host::settings::WhenFull;
use convgroups_host::store::{Commit, Skip};
use convgroups_tests::server::{ADMIN, Reply, Setup, TestServer, client, rest_path, sign};
use convgroups_tests::{ids, user};
use serde_json::{Value, json};

fn c2c(account: &str) -> Value {
    json!({ "Type": 1, "To_Account": account })
}

fn group(id: &str) -> Value {
    json!({ "Type": 2, "ToGroupId": id })
}

fn create(name: &str, contacts: &[Value]) -> Value {
    json!({ "From_Account": "alice", "GroupContactItem": [{ "GroupName": name, "ContactItem": contacts }] })
}

fn rename(old: &str, new: &str) -> Value {
    json!({
        "From_Account": "alice",
        "UpdateType": 1,
        "UpdateGroup": { "UpdateGroupType": 1, "OldGroupName": old, "NewGroupName": new, "ContactUpdateItem": [] },
    })
}

/// Adds (1) and removes (2).
fn update(name: &str, items: &[(u8, Value)]) -> Value {
    let items: Vec<Value> = items
        .iter()
        .map(|(operation, contact)| json!({ "ContactOptType": operation, "ContactItem": contact }))
        .collect();
    json!({
        "From_Account": "alice",
        "UpdateType": 1,
        "UpdateGroup": { "UpdateGroupType": 2, "OldGroupName": name, "ContactUpdateItem": items },
    })
}

fn mark(items: &Value) -> Value {
    json!({ "From_Account": "alice", "MarkItem": items })
}

fn get(server: &TestServer) -> Value {
    server.rest("get_contact_group", &json!({ "From_Account": "alice", "StartIndex": 0 })).json()
}

/// The answer without what every answer has.
fn succeeded(reply: &Reply) -> Value {
    assert_eq!(reply.outcome(), (200, 0), "{reply:?}");
    let mut json = reply.json();
    let fields = json.as_object_mut().expect("an object");
    let common = ["ActionStatus", "ErrorCode", "ErrorInfo", "ErrorDisplay"].map(|name| fields.remove(name));
    assert_eq!(common, [Some(json!("OK")), Some(json!(0)), Some(json!("")), Some(json!(""))]);
    json
}

fn version(server: &TestServer) -> u64 {
    server.host().store().state(&user("alice")).expect("reads").version.0
}

#[test]
fn each_command_answers_as_documented() {
    let server = TestServer::start();
    let created = server.rest("create_contact_group", &create("Work", &[c2c("bob"), group("42")]));
    let result = |contact: Value| json!({ "ContactItem": contact, "ResultCode": 0, "ResultInfo": "" });
    let expected = json!({ "GroupResultItem": [{
        "GroupItem": { "GroupName": "Work", "GroupId": 1 },
        "ResultItem": [result(c2c("bob")), result(group("42"))],
    }] });
    assert_eq!(succeeded(&created), expected);

    let updated = server.rest("update_contact_group", &update("Work", &[(2, c2c("bob")), (2, c2c("nobody"))]));
    let deleted = |contact: Value, info: &str| json!({ "ContactOptType": 2, "ContactItem": contact, "ResultCode": 0, "ResultInfo": info });
    let expected = json!({ "UpdateType": 1, "UpdateGroupResult": {
        "UpdateGroupType": 2, "GroupName": "Work", "GroupId": 1, "OldGroupName": "Work",
        "ContactResultItem": [deleted(c2c("bob"), ""), deleted(c2c("nobody"), "not in the group")],
    } });
    assert_eq!(succeeded(&updated), expected);

    let renamed = server.rest("update_contact_group", &rename("Work", "Play"));
    let expected = json!({ "UpdateType": 1, "UpdateGroupResult": {
        "UpdateGroupType": 1, "GroupName": "Play", "GroupId": 1, "OldGroupName": "Work", "ContactResultItem": [],
    } });
    assert_eq!(succeeded(&renamed), expected);

    let item = json!({ "OptType": 3, "ContactItem": c2c("eve"), "SetMark": [0, 63], "CustomMark": "vip" });
    let marked = server.rest("mark_contact", &mark(&json!([item])));
    let expected = json!({ "ResultItem": [
        { "OptType": 3, "ContactItem": c2c("eve"), "ResultCode": 0, "ResultInfo": "" },
    ] });
    assert_eq!(succeeded(&marked), expected);

    let bits = format!("1{}1", "0".repeat(62));
    let eve = json!({ "Type": 1, "To_Account": "eve", "StandardMark": bits, "CustomMark": "vip" });
    let forty_two = json!({ "Type": 2, "ToGroupId": "42", "ContactGroupId": [1] });
    let expected = json!({
        "ContactItem": [forty_two, eve], "GroupItem": [{ "GroupName": "Play", "GroupId": 1 }],
        "CompleteFlag": 1, "NextStartIndex": 0,
    });
    assert_eq!(succeeded(&server.rest("get_contact_group", &json!({ "From_Account": "alice" }))), expected);

    let search = json!({ "From_Account": "alice", "ContactItem": [c2c("eve"), group("42"), c2c("nobody")] });
    let expected = json!({
        "ContactResultItem": [eve, forty_two, c2c("nobody")], "GroupItem": [{ "GroupName": "Play", "GroupId": 1 }],
    });
    assert_eq!(succeeded(&server.rest("search_contact_group", &search)), expected);

    let delete = json!({ "From_Account": "alice", "GroupName": ["Play"] });
    let expected = json!({ "GroupItem": [{ "GroupName": "Play", "GroupId": 1 }] });
    assert_eq!(succeeded(&server.rest("del_contact_group", &delete)), expected);
    assert_eq!(server.rest("del_contact_group", &delete).outcome(), (200, 51009));
    assert_eq!(version(&server), 5, "one for each change");
}

#[test]
fn what_clients_send_beside_or_instead_of_what_is_documented() {
    let server = TestServer::start();
    let path = |command: &str| rest_path(command, ADMIN, &sign(ADMIN));
    assert_eq!(server.rest("create_contact_group", &create("Work", &[c2c("bob")])).code(), 0);
    // A renaming with an empty list, and one without.
    assert_eq!(server.rest("update_contact_group", &rename("Work", "Play")).code(), 0);
    let mut without = rename("Play", "Work");
    without["UpdateGroup"].as_object_mut().expect("an object").remove("ContactUpdateItem");
    assert_eq!(server.rest("update_contact_group", &without).code(), 0);

    // Both names of a conversation: the one that goes with the type counts, and is the one that comes back.
    for (kind, expected) in [(1, c2c("eve")), (2, group("eve's"))] {
        let both = json!({ "Type": kind, "To_Account": "eve", "ToGroupId": "eve's" });
        let reply = server.rest("update_contact_group", &update("Work", &[(1, both)]));
        let item = &reply.json()["UpdateGroupResult"]["ContactResultItem"][0];
        assert_eq!((&item["ContactItem"], &item["ResultCode"]), (&expected, &json!(0)));
    }
    let members = server.host().store().state(&user("alice")).expect("reads").value.groups.remove(0);
    assert_eq!(members.conversation_id_list, ["c2c_bob", "c2c_eve", "group_eve's"]);

    // Content types do not matter: none, a form's, JSON's.
    let body = json!({ "From_Account": "alice" }).to_string();
    for content_type in [None, Some("application/x-www-form-urlencoded"), Some("text/plain"), Some("application/json")]
    {
        let mut request = server.post(&path("get_contact_group")).body(body.clone());
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let reply = Reply::to(request);
        assert_eq!(reply.outcome(), (200, 0), "{content_type:?}");
        assert_eq!(reply.header("content-type"), Some("application/json"));
    }

    // Fields that are not known are ignored, at every depth.
    let mut more = update("Work", &[(2, c2c("bob"))]);
    more["More"] = json!({ "x": [1, 2, { "From_Account": "mallory" }] });
    more["UpdateGroup"]["More"] = json!(null);
    more["UpdateGroup"]["ContactUpdateItem"][0]["More"] = json!(1.5);
    more["UpdateGroup"]["ContactUpdateItem"][0]["ContactItem"]["More"] = json!("x");
    assert_eq!(server.rest("update_contact_group", &more).outcome(), (200, 0));

    // Without a start there is the first page.
    assert_eq!(server.rest("get_contact_group", &json!({ "From_Account": "alice" })).json(), get(&server));
}

#[test]
fn what_is_missing_or_wrong_is_named_with_its_path() {
    let server = TestServer::start();
    let item = |item: Value| mark(&json!([item]));
    let second_contact_of = |contact: Value| create("Work", &[c2c("bob"), contact]);
    let cases: Vec<(&str, Value, i64, &str)> = vec![
        ("create_contact_group", json!({}), 50002, "From_Account"),
        ("create_contact_group", json!([]), 50002, "expected an object"),
        ("create_contact_group", json!({ "From_Account": "alice" }), 50002, "GroupContactItem"),
        ("create_contact_group", json!({ "From_Account": 7, "GroupContactItem": [] }), 50002, "From_Account: "),
        (
            "create_contact_group",
            json!({ "From_Account": "alice", "GroupContactItem": [] }),
            50002,
            "exactly one, got 0",
        ),
        (
            "create_contact_group",
            json!({ "From_Account": "alice", "GroupContactItem": [{ "GroupName": "a" }, { "GroupName": "b" }] }),
            50002,
            "GroupContactItem: expected exactly one, got 2",
        ),
        (
            "create_contact_group",
            json!({ "From_Account": "alice", "GroupContactItem": [{}] }),
            50002,
            "GroupContactItem[0]: missing field \"GroupName\"",
        ),
        (
            "create_contact_group",
            second_contact_of(json!({ "To_Account": "x" })),
            50002,
            "ContactItem[1]: missing field \"Type\"",
        ),
        (
            "create_contact_group",
            second_contact_of(json!({ "Type": 3, "To_Account": "x" })),
            50002,
            "ContactItem[1].Type: ",
        ),
        (
            "create_contact_group",
            second_contact_of(json!({ "Type": 1 })),
            50002,
            "GroupContactItem[0].ContactItem[1].To_Account: missing",
        ),
        (
            "create_contact_group",
            second_contact_of(json!({ "Type": 2, "To_Account": "x" })),
            50002,
            "ContactItem[1].ToGroupId: missing",
        ),
        ("create_contact_group", create("", &[c2c("bob")]), 50002, "empty"),
        ("create_contact_group", create(&"x".repeat(33), &[c2c("bob")]), 51011, ""),
        ("create_contact_group", create("Work", &[]), 51006, ""),
        ("create_contact_group", create("Work", &vec![c2c("bob"); 101]), 51006, ""),
        (
            "create_contact_group",
            json!({ "From_Account": "", "GroupContactItem": [{ "GroupName": "a" }] }),
            50002,
            "From_Account: ",
        ),
        (
            "create_contact_group",
            json!({ "From_Account": "x".repeat(256), "GroupContactItem": [{ "GroupName": "a" }] }),
            50002,
            "From_Account: ",
        ),
        ("del_contact_group", json!({ "From_Account": "alice", "GroupName": "Work" }), 50002, "GroupName: "),
        ("del_contact_group", json!({ "From_Account": "alice", "GroupName": [] }), 50002, "exactly one, got 0"),
        ("del_contact_group", json!({ "From_Account": "alice", "GroupName": ["a", "b"] }), 50002, "exactly one, got 2"),
        ("update_contact_group", json!({ "From_Account": "alice", "UpdateType": 1 }), 50002, "UpdateGroup"),
        (
            "update_contact_group",
            json!({ "From_Account": "alice", "UpdateType": 2, "UpdateGroup": { "UpdateGroupType": 1, "OldGroupName": "x" } }),
            50002,
            "UpdateType: expected 1, got 2",
        ),
        (
            "update_contact_group",
            json!({ "From_Account": "alice", "UpdateType": 1, "UpdateGroup": { "UpdateGroupType": 3, "OldGroupName": "x" } }),
            50002,
            "UpdateGroup.UpdateGroupType: expected 1 or 2, got 3",
        ),
        (
            "update_contact_group",
            json!({ "From_Account": "alice", "UpdateType": 1, "UpdateGroup": { "UpdateGroupType": 1, "OldGroupName": "x" } }),
            50002,
            "UpdateGroup.NewGroupName: missing",
        ),
        ("update_contact_group", update("Work", &[(3, c2c("bob"))]), 50002, "ContactUpdateItem[0].ContactOptType: "),
        (
            "update_contact_group",
            update("Work", &[(1, json!({ "Type": 2 }))]),
            50002,
            "ContactUpdateItem[0].ToGroupId: missing",
        ),
        ("update_contact_group", update("nowhere", &[(1, c2c("bob"))]), 51009, ""),
        ("update_contact_group", update("nowhere", &[]), 51006, ""),
        ("update_contact_group", rename("nowhere", "x"), 51009, ""),
        ("get_contact_group", json!({ "From_Account": "alice", "StartIndex": -1 }), 50002, "StartIndex: "),
        ("get_contact_group", json!({ "From_Account": "alice", "StartIndex": "0" }), 50002, "StartIndex: "),
        ("search_contact_group", json!({ "From_Account": "alice" }), 50002, "ContactItem"),
        ("search_contact_group", json!({ "From_Account": "alice", "ContactItem": [] }), 51006, ""),
        ("search_contact_group", json!({ "From_Account": "alice", "ContactItem": vec![c2c("b"); 301] }), 51006, ""),
        ("mark_contact", mark(&json!([])), 51006, ""),
        (
            "mark_contact",
            mark(&json!(vec![json!({ "OptType": 1, "ContactItem": c2c("b"), "SetMark": [1] }); 101])),
            51006,
            "",
        ),
        ("mark_contact", item(json!({ "OptType": 4, "ContactItem": c2c("b") })), 50002, "MarkItem[0].OptType: "),
        (
            "mark_contact",
            item(json!({ "OptType": 1, "ContactItem": c2c("b"), "SetMark": [64] })),
            50002,
            "MarkItem[0].SetMark: ",
        ),
        (
            "mark_contact",
            item(json!({ "OptType": 1, "ContactItem": c2c("b"), "ClearMark": [-1] })),
            50002,
            "MarkItem[0].ClearMark",
        ),
        (
            "mark_contact",
            item(json!({ "OptType": 1, "ContactItem": { "Type": 1 }, "SetMark": [1] })),
            50002,
            "MarkItem[0].To_Account: missing",
        ),
    ];
    for (command, body, code, reason) in cases {
        let reply = server.rest(command, &body);
        assert_eq!(reply.outcome(), (200, code), "{command} {body}: {}", reply.body);
        assert!(reply.reason().contains(reason), "{command} {body}: {}", reply.reason());
        assert!(!reply.reason().is_empty() && reply.json()["ActionStatus"] == "FAIL", "{command} {body}");
    }
    assert_eq!(version(&server), 0);
    for body in ["{", "", "x", "{} {}"] {
        let reply = server.rest_at(&rest_path("get_contact_group", ADMIN, &sign(ADMIN)), body);
        assert!(matches!(reply.code(), 60003 | 50002), "{body}: {reply:?}");
    }
}

#[test]
fn what_is_no_command_fails_with_200() {
    let server = TestServer::start();
    for name in ["nothing", "Get_contact_group", "get_contact_group%20", "get_list"] {
        assert_eq!(server.rest(name, &json!({ "From_Account": "alice" })).outcome(), (200, 60009), "{name}");
    }
    let other_service = rest_path("get_contact_group", ADMIN, &sign(ADMIN)).replace("recentcontact", "openim");
    assert_eq!(server.rest_at(&other_service, "{}").outcome(), (200, 60009));
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let url = server.url(&rest_path("get_contact_group", ADMIN, &sign(ADMIN)));
        let reply = Reply::to(client().request(method, url).body(r#"{"From_Account":"alice"}"#));
        assert_eq!(reply.outcome(), (200, 60009));
        assert_eq!(reply.json()["ActionStatus"], "FAIL");
    }
}

#[test]
fn additions_and_removals_of_one_update_are_kept_together_or_not_at_all() {
    let setup = Setup::default().with(|settings| settings.limits.max_conversations_per_group = 3);
    let server = setup.start();
    assert_eq!(server.rest("create_contact_group", &create("Work", &[c2c("a"), c2c("b")])).code(), 0);
    let mixed = [(2, c2c("a")), (1, c2c("x")), (1, c2c("b")), (2, c2c("x")), (2, c2c("nobody")), (1, c2c("a"))];
    let reply = server.rest("update_contact_group", &update("Work", &mixed));
    let results = reply.json()["UpdateGroupResult"]["ContactResultItem"].clone();
    let results: Vec<(u64, &str, &str)> = results
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| {
            assert_eq!(item["ResultCode"], 0);
            let text = |value: &'_ Value| -> &'static str { value.as_str().expect("text").to_owned().leak() };
            let operation = item["ContactOptType"].as_u64().expect("a number");
            (operation, text(&item["ContactItem"]["To_Account"]), text(&item["ResultInfo"]))
        })
        .collect();
    let order: Vec<(u64, &str)> = results.iter().map(|(operation, account, _)| (*operation, *account)).collect();
    assert_eq!(order, [(2, "a"), (1, "x"), (1, "b"), (2, "x"), (2, "nobody"), (1, "a")], "in the order of the request");
    assert_eq!(results[4].2, "not in the group");
    assert_eq!(version(&server), 2, "one version for all");
    let log = server.host().events(user("alice"), Version(1)).read().expect("reads");
    let log = serde_json::to_value(&log).expect("is JSON");
    assert_eq!(log[0]["origin"]["method"], "deleteConversationsFromGroup+addConversationsToGroup");
    assert_eq!(log[0]["origin"]["requestID"], reply.request_id());
    let before = server.host().store().state(&user("alice")).expect("reads");
    assert_eq!(before.value.groups[0].conversation_id_list, ["c2c_b", "c2c_a"]);

    // The removal alone would go through.
    let overfull = [(2, c2c("a")), (1, c2c("1")), (1, c2c("2")), (1, c2c("3"))];
    assert_eq!(server.rest("update_contact_group", &update("Work", &overfull)).outcome(), (200, 51008));
    assert_eq!(server.host().store().state(&user("alice")).expect("reads"), before);
    let too_many: Vec<(u8, Value)> =
        ids("", 101).iter().enumerate().map(|(index, id)| (1 + u8::from(index % 2 == 0), c2c(id))).collect();
    assert_eq!(server.rest("update_contact_group", &update("Work", &too_many)).outcome(), (200, 51006));
    // Of marks, too: the second is refused as a whole, and with it the first.
    let items = json!([
        { "OptType": 2, "ContactItem": c2c("a"), "CustomMark": "kept?" },
        { "OptType": 2, "ContactItem": c2c("b"), "CustomMark": "x".repeat(257) },
    ]);
    let reply = server.rest("mark_contact", &mark(&items));
    assert_ne!(reply.code(), 0, "{reply:?}");
    assert_eq!(server.host().store().state(&user("alice")).expect("reads"), before);
}

#[test]
fn a_full_group_evicts_where_that_is_the_setting_and_says_so_in_the_log() {
    let setup = Setup::default().with(|settings| {
        settings.limits.max_conversations_per_group = 2;
        settings.limits.when_full = WhenFull::EvictOldest;
    });
    let server = setup.start();
    assert_eq!(server.rest("create_contact_group", &create("Work", &[c2c("a"), c2c("b")])).code(), 0);
    assert_eq!(server.rest("update_contact_group", &update("Work", &[(1, c2c("c"))])).outcome(), (200, 0));
    let state = server.host().store().state(&user("alice")).expect("reads");
    assert_eq!(state.value.groups[0].conversation_id_list, ["c2c_b", "c2c_c"]);
}

#[test]
fn a_group_keeps_its_number_for_life_and_nobody_gets_it_afterwards() {
    let server = TestServer::start();
    let number = |name: &str| {
        let reply = server.rest("create_contact_group", &create(name, &[c2c("bob")]));
        reply.json()["GroupResultItem"][0]["GroupItem"]["GroupId"].clone()
    };
    assert_eq!((number("a"), number("b")), (json!(1), json!(2)));
    assert_eq!(server.rest("update_contact_group", &rename("a", "z")).json()["UpdateGroupResult"]["GroupId"], 1);
    assert_eq!(number("a"), 3, "the old name is free, the number is not");
    for name in ["a", "z"] {
        let delete = json!({ "From_Account": "alice", "GroupName": [name] });
        assert_eq!(server.rest("del_contact_group", &delete).code(), 0);
    }
    assert_eq!((number("z"), number("a")), (json!(4), json!(5)));
    // Groups of `/v1` are counted too, and another user's are not.
    let params = json!({ "groupName": "v1", "conversationIDList": ["c2c_bob"] });
    assert_eq!(server.sdk("alice", "createConversationGroup", &params).code(), 0);
    assert_eq!(server.sdk("bob", "createConversationGroup", &params).code(), 0);
    let named = |name: &str, number: u32| json!({ "GroupName": name, "GroupId": number });
    let expected = json!([named("b", 2), named("z", 4), named("a", 5), named("v1", 6)]);
    assert_eq!(get(&server)["GroupItem"], expected);
    assert_eq!(get(&server)["ContactItem"][0]["ContactGroupId"], json!([2, 4, 5, 6]));
}

#[test]
fn everything_of_a_user_comes_in_pages_each_conversation_once() {
    let server = TestServer::start();
    let alice = user("alice");
    let mut expected = Vec::new();
    for group in 0..4 {
        let members = ids(&format!("c2c_{group}_"), 700);
        let name = format!("group {group}");
        for (batch, ids) in members.chunks(100).enumerate() {
            if batch == 0 {
                server.host().call(&alice, &CreateConversationGroup::new(&name, ids)).expect("creates");
            } else {
                server.host().call(&alice, &AddConversationsToGroup::new(&name, ids)).expect("adds");
            }
        }
        // In two groups, and still once.
        server.host().call(&alice, &AddConversationsToGroup::new(&name, ["c2c_0_0001"])).expect("adds");
        expected.extend(members);
    }
    server.host().call(&alice, &MarkConversation::new(1, true, ["group_marked", "c2c_0_0002"])).expect("marks");
    expected.push("group_marked".to_owned());

    let (mut start, mut pages, mut seen) = (json!(0), Vec::new(), Vec::new());
    loop {
        let page = server.rest("get_contact_group", &json!({ "From_Account": "alice", "StartIndex": start })).json();
        let contacts = page["ContactItem"].as_array().expect("a list").clone();
        pages.push(contacts.len());
        seen.extend(contacts.iter().map(|contact| match contact["Type"].as_u64() {
            Some(1) => format!("c2c_{}", contact["To_Account"].as_str().expect("text")),
            _ => format!("group_{}", contact["ToGroupId"].as_str().expect("text")),
        }));
        assert_eq!(page["GroupItem"].as_array().expect("a list").len(), 4, "on every page");
        if page["CompleteFlag"] == 1 {
            assert_eq!(page["NextStartIndex"], 0);
            break;
        }
        assert_eq!(page["CompleteFlag"], 0);
        start = page["NextStartIndex"].clone();
        assert!(start.as_u64().is_some_and(|start| start < 1 << 31), "{start} is for clients with 32 bits");
    }
    // Pages end where a call ended.
    assert_eq!(pages, [1000, 1000, 801]);
    assert_eq!(seen, expected);

    // From any number there is what follows.
    let at = |start: u64| {
        let page = server.rest("get_contact_group", &json!({ "From_Account": "alice", "StartIndex": start })).json();
        (page["ContactItem"].as_array().expect("a list").len(), page["CompleteFlag"].as_u64().expect("a flag"))
    };
    for start in [1 << 31, 1 << 32, 1 << 53, u64::MAX] {
        assert_eq!(at(start), (0, 1), "{start}");
    }
    // In whole calls, of which each has an index.
    let counts: Vec<usize> = (1..8).map(|call| at(call << 10).0).collect();
    assert_eq!(counts, [1000; 7]);
}

#[test]
fn paging_skips_nothing_when_what_a_page_showed_is_removed_before_the_next() {
    let members = ids("c2c_", 2500);
    let by_calls = |server: &TestServer| {
        for (batch, ids) in members.chunks(100).enumerate() {
            if batch == 0 {
                server.host().call(&user("alice"), &CreateConversationGroup::new("Work", ids)).expect("creates");
            } else {
                server.host().call(&user("alice"), &AddConversationsToGroup::new("Work", ids)).expect("adds");
            }
        }
    };
    // As an import does it.
    let at_once = |server: &TestServer| {
        let created = Change::GroupCreated { group_name: "Work".to_owned(), conversation_list: members.clone() };
        let commit = Commit {
            user: user("alice"),
            base: Version(0),
            changes: vec![created],
            origin: Origin { method: "import".to_owned(), request_id: String::new() },
            keep: 100,
            skip: Skip::default(),
            deadline: None,
        };
        server.host().store().commit(commit).expect("commits");
    };
    let fillings: [&dyn Fn(&TestServer); 2] = [&by_calls, &at_once];
    for fill in fillings {
        let setup = Setup::default().with(|settings| settings.limits.max_conversations_per_group = 2500);
        let server = setup.start();
        fill(&server);
        let (mut start, mut seen) = (json!(0), Vec::new());
        loop {
            let page =
                server.rest("get_contact_group", &json!({ "From_Account": "alice", "StartIndex": start })).json();
            let contacts: Vec<Value> = page["ContactItem"].as_array().expect("a list").clone();
            assert!(contacts.len() <= 1024);
            for shown in contacts.chunks(100) {
                let items: Vec<(u8, Value)> =
                    shown.iter().map(|contact| (2, c2c(contact["To_Account"].as_str().expect("text")))).collect();
                assert_eq!(server.rest("update_contact_group", &update("Work", &items)).code(), 0);
            }
            let account = |contact: &Value| format!("c2c_{}", contact["To_Account"].as_str().expect("text"));
            seen.extend(contacts.iter().map(account));
            if page["CompleteFlag"] == 1 {
                break;
            }
            start = page["NextStartIndex"].clone();
        }
        assert_eq!(seen, members);
        assert_eq!(get(&server)["ContactItem"], json!([]), "all were shown, and so all were removed");
    }
}

#[test]
fn arrays_are_not_read_as_objects_at_any_depth() {
    let server = TestServer::start();
    assert_eq!(server.rest("create_contact_group", &create("Work", &[c2c("bob")])).code(), 0);
    let before = server.host().store().state(&user("alice")).expect("reads");
    let alice = |fields: Value| {
        let mut body = json!({ "From_Account": "alice" });
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        body
    };
    let cases = [
        (
            "update_contact_group",
            alice(json!({ "UpdateType": 1, "UpdateGroup": [1, "Work", "Play", []] })),
            "UpdateGroup",
        ),
        ("update_contact_group", json!(["alice", 1, [1, "Work", "Play", []]]), ""),
        (
            "update_contact_group",
            alice(json!({ "UpdateType": 1, "UpdateGroup": {
                "UpdateGroupType": 2, "OldGroupName": "Work", "ContactUpdateItem": [[2, { "Type": 1, "To_Account": "bob" }]],
            } })),
            "UpdateGroup.ContactUpdateItem[0]",
        ),
        (
            "update_contact_group",
            alice(json!({ "UpdateType": 1, "UpdateGroup": {
                "UpdateGroupType": 2, "OldGroupName": "Work",
                "ContactUpdateItem": [{ "ContactOptType": 2, "ContactItem": [1, "bob", null] }],
            } })),
            "UpdateGroup.ContactUpdateItem[0].ContactItem",
        ),
        ("create_contact_group", json!(["alice", [["Play", []]]]), ""),
        (
            "create_contact_group",
            alice(json!({ "GroupContactItem": [["Play", [[1, "bob", null]]]] })),
            "GroupContactItem[0]",
        ),
        (
            "create_contact_group",
            alice(json!({ "GroupContactItem": [{ "GroupName": "Play", "ContactItem": [[1, "bob", null]] }] })),
            "GroupContactItem[0].ContactItem[0]",
        ),
        ("del_contact_group", json!(["alice", ["Work"]]), ""),
        ("get_contact_group", json!(["alice", 0]), ""),
        ("search_contact_group", alice(json!({ "ContactItem": [[1, "bob", null]] })), "ContactItem[0]"),
        (
            "mark_contact",
            alice(json!({ "MarkItem": [[1, { "Type": 1, "To_Account": "bob" }, [1], [], null]] })),
            "MarkItem[0]",
        ),
        (
            "mark_contact",
            alice(json!({ "MarkItem": [{ "OptType": 1, "ContactItem": [1, "bob", null], "SetMark": [1] }] })),
            "MarkItem[0].ContactItem",
        ),
    ];
    for (command, body, path) in cases {
        let reply = server.rest(command, &body);
        assert_eq!(reply.outcome(), (200, 50002), "{command} {body}: {reply:?}");
        let reason = "expected an object, got a list";
        let expected = if path.is_empty() { reason.to_owned() } else { format!("{path}: {reason}") };
        assert_eq!(reply.reason(), expected, "{command} {body}");
    }
    assert_eq!(server.host().store().state(&user("alice")).expect("reads"), before);
}

#[test]
fn null_stands_for_an_optional_field_that_is_missing() {
    let server = TestServer::start();
    let allowed = Setup::default().with(|settings| settings.limits.allow_empty_creation = true).start();
    let no_contacts =
        json!({ "From_Account": "alice", "GroupContactItem": [{ "GroupName": "Empty", "ContactItem": null }] });
    assert_eq!(server.rest("create_contact_group", &no_contacts).outcome(), (200, 51006), "an empty list");
    assert_eq!(allowed.rest("create_contact_group", &no_contacts).outcome(), (200, 0));

    let nulls = json!({ "Type": 1, "To_Account": "bob", "ToGroupId": null });
    assert_eq!(server.rest("create_contact_group", &create("Work", &[nulls])).code(), 0);
    let mut renaming = rename("Work", "Play");
    renaming["UpdateGroup"]["ContactUpdateItem"] = json!(null);
    assert_eq!(server.rest("update_contact_group", &renaming).code(), 0);
    let mut change = update("Play", &[(1, c2c("eve"))]);
    change["UpdateGroup"]["NewGroupName"] = json!(null);
    assert_eq!(server.rest("update_contact_group", &change).code(), 0);
    let item = json!({
        "OptType": 3, "ContactItem": c2c("bob"), "SetMark": [1], "ClearMark": null, "CustomMark": null,
    });
    assert_eq!(server.rest("mark_contact", &mark(&json!([item]))).code(), 0);
    let item = json!({ "OptType": 1, "ContactItem": c2c("bob"), "SetMark": null, "ClearMark": [1] });
    assert_eq!(server.rest("mark_contact", &mark(&json!([item]))).code(), 0);
    let start = json!({ "From_Account": "alice", "StartIndex": null });
    assert_eq!(server.rest("get_contact_group", &start).json(), get(&server));

    // What is required is not null.
    for (command, field) in [
        ("create_contact_group", "GroupContactItem"),
        ("del_contact_group", "GroupName"),
        ("search_contact_group", "ContactItem"),
        ("mark_contact", "MarkItem"),
    ] {
        let reply = server.rest(command, &json!({ "From_Account": "alice", field: null }));
        assert_eq!(reply.outcome(), (200, 50002), "{command}");
        assert!(reply.reason().starts_with(&format!("{field}: expected a list, got null")), "{}", reply.reason());
    }
}

#[test]
fn a_page_that_is_exactly_full_is_the_last_when_nothing_follows() {
    let server = TestServer::start();
    let alice = user("alice");
    let members = ids("c2c_", 1000);
    server.host().call(&alice, &CreateConversationGroup::new("Work", &members[..100])).expect("creates");
    for ids in members[100..].chunks(100) {
        server.host().call(&alice, &AddConversationsToGroup::new("Work", ids)).expect("adds");
    }
    let page = get(&server);
    assert_eq!(page["ContactItem"].as_array().expect("a list").len(), 1000);
    // A client that is told to go on finds an empty last page; one that is not has all.
    if page["CompleteFlag"] == 0 {
        let next = json!({ "From_Account": "alice", "StartIndex": page["NextStartIndex"] });
        let last = server.rest("get_contact_group", &next).json();
        assert_eq!((&last["ContactItem"], &last["CompleteFlag"]), (&json!([]), &json!(1)));
    }
}

#[test]
fn marks_are_set_and_cleared_by_the_numbers_of_their_bits() {
    let server = TestServer::start();
    let steps: Vec<(Value, Option<&str>, Option<&str>)> = vec![
        (json!({ "OptType": 1, "SetMark": [0] }), Some("1"), None),
        (json!({ "OptType": 1, "SetMark": [3, 1], "ClearMark": [] }), Some("1011"), None),
        (json!({ "OptType": 1, "ClearMark": [0, 2] }), Some("1010"), None),
        (json!({ "OptType": 1, "SetMark": [0], "ClearMark": [3, 1] }), Some("1"), None),
        // Custom data is not touched by marks, nor marks by custom data.
        (json!({ "OptType": 2, "CustomMark": "vip" }), Some("1"), Some("vip")),
        (json!({ "OptType": 1, "ClearMark": [0], "CustomMark": "ignored" }), None, Some("vip")),
        (json!({ "OptType": 2, "CustomMark": "x", "SetMark": [5] }), None, Some("x")),
        (json!({ "OptType": 3, "CustomMark": "", "SetMark": [2] }), Some("100"), None),
        (json!({ "OptType": 3, "CustomMark": "y", "ClearMark": [2] }), None, Some("y")),
        (json!({ "OptType": 3, "SetMark": [1, 1] }), Some("10"), Some("y")),
        // Both: what is set last stays set.
        (json!({ "OptType": 1, "SetMark": [1], "ClearMark": [1] }), Some("10"), Some("y")),
    ];
    let look = |account: &str| {
        let search = json!({ "From_Account": "alice", "ContactItem": [c2c(account)] });
        let found = server.rest("search_contact_group", &search).json()["ContactResultItem"][0].clone();
        let text = |name: &str| found[name].as_str().map(str::to_owned);
        (text("StandardMark"), text("CustomMark"))
    };
    for (mut item, standard, custom) in steps {
        item["ContactItem"] = c2c("bob");
        let reply = server.rest("mark_contact", &mark(&json!([item])));
        assert_eq!(reply.json()["ResultItem"][0]["ResultCode"], 0, "{item}: {reply:?}");
        assert_eq!(look("bob"), (standard.map(str::to_owned), custom.map(str::to_owned)), "{item}");
    }
    let highest = json!([{ "OptType": 1, "ContactItem": c2c("eve"), "SetMark": [63] }]);
    assert_eq!(server.rest("mark_contact", &mark(&highest)).json()["ResultItem"][0]["ResultCode"], 0);
    assert_eq!(look("eve").0, Some(format!("1{}", "0".repeat(63))));
    // As the SDK sees it.
    let found = server.sdk("alice", "searchConversations", &json!({ "conversationIDList": ["c2c_eve"] })).json();
    assert_eq!(found["data"][0]["markList"], json!([1_u64 << 63]));
    let clear = json!([{ "OptType": 1, "ContactItem": c2c("eve"), "ClearMark": [63] }]);
    assert_eq!(server.rest("mark_contact", &mark(&clear)).json()["ResultItem"][0]["ResultCode"], 0);
    assert_eq!(look("eve"), (None, None));
}

#[test]
fn several_marks_are_one_change_in_the_order_of_the_request() {
    let server = TestServer::start();
    let items = json!([
        { "OptType": 1, "ContactItem": c2c("a"), "SetMark": [0] },
        { "OptType": 1, "ContactItem": c2c("b"), "SetMark": [0] },
        { "OptType": 2, "ContactItem": group("c"), "CustomMark": "c's" },
        { "OptType": 1, "ContactItem": c2c("a"), "ClearMark": [0], "SetMark": [1] },
        { "OptType": 3, "ContactItem": { "Type": 1, "To_Account": "" }, "SetMark": [1], "CustomMark": "x" },
    ]);
    let reply = server.rest("mark_contact", &mark(&items));
    let results = succeeded(&reply)["ResultItem"].clone();
    let contacts: Vec<&Value> = results.as_array().expect("a list").iter().map(|item| &item["ContactItem"]).collect();
    assert_eq!(contacts, [&c2c("a"), &c2c("b"), &group("c"), &c2c("a"), &c2c("")]);
    let codes: Vec<bool> = results.as_array().expect("a list").iter().map(|item| item["ResultCode"] == 0).collect();
    assert_eq!(codes, [true, true, true, true, false], "{results}");
    assert_eq!(version(&server), 1);
    let state = server.host().store().state(&user("alice")).expect("reads").value;
    let marks: Vec<(&str, u64, &str)> = state
        .conversations
        .iter()
        .map(|data| (data.conversation_id.as_str(), data.marks, data.custom_data.as_str()))
        .collect();
    assert_eq!(marks, [("c2c_a", 2, ""), ("c2c_b", 1, ""), ("group_c", 0, "c's")]);
}
