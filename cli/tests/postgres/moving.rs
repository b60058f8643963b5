//! From SQLite to PostgreSQL and back, by files.

use std::path::Path;

use convgroups_host::Version;
use convgroups_host::model::{Change, ConversationData, Origin};
use convgroups_host::settings::PostgresSettings;
use convgroups_host::store::{Changes, Commit, MAX_BATCH, Skip, Store};
use convgroups_host::{PostgresStore, SqliteStore};
use convgroups_tests::{ids, user};
use postgres_for_tests::Database;

use crate::processes::run;

const USERS: usize = 300;

/// Users with groups that came and went, with marks, and one with very much.
fn fill(store: &dyn Store) {
    let mut random = fastrand::Rng::with_seed(17);
    for number in 0..USERS {
        let count = if number == 7 { 2000 } else { random.usize(..30) };
        let members = ids("c2c_", count);
        let created =
            |name: &str| Change::GroupCreated { group_name: name.to_owned(), conversation_list: members.clone() };
        let noted = |id: &str| ConversationData { marks: random.u64(1..), ..ConversationData::none(id) };
        let noted = ["c2c_m", "group_\u{e9}"].map(noted).to_vec();
        let steps = [
            vec![created("Gone"), created("Büro \"1\"")],
            vec![Change::GroupDeleted { group_name: "Gone".to_owned() }, created("Home")],
            vec![Change::ConversationsChanged { conversation_list: noted }],
        ];
        for (base, changes) in (0..).zip(steps.into_iter().take(random.usize(1..4))) {
            let commit = Commit {
                user: user(&format!("user {number}")),
                base: Version(base),
                changes,
                origin: Origin { method: "test".to_owned(), request_id: String::new() },
                keep: 100,
                skip: Skip::default(),
                deadline: None,
            };
            store.commit(commit).expect("commits");
        }
    }
}

#[track_caller]
fn succeeds(arguments: &[&str]) -> String {
    let output = run(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

/// Lines of groups and marks, which have no versions.
fn content(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).expect("it can be read");
    text.lines().filter(|line| line.contains("onversationID")).map(str::to_owned).collect()
}

#[test]
fn what_goes_to_postgres_and_back_is_the_same_and_can_go_on_after_an_interruption() {
    let Some(database) = Database::create() else { return };
    let directory = tempfile::tempdir().expect("a directory can be made");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (old, new) = (format!("sqlite:{}", path("old.db")), format!("sqlite:{}", path("new.db")));
    fill(&SqliteStore::open(path("old.db")).expect("it opens"));
    succeeds(&["export", &path("old"), "--store", &old]);

    // An import that has done a part of its work, and the same again.
    let whole = std::fs::read_to_string(path("old")).expect("it can be read");
    let other = Database::create().expect("there was one before");
    let said = succeeds(&["import", &path("old"), "--store", other.url()]);
    assert!(said.contains("verified"), "{said}");
    let some = "SELECT user_id FROM convgroups.users WHERE length(user_id) = 6";
    for table in ["users", "groups", "members", "conversations", "log"] {
        other.execute(&[&format!(
            "DELETE FROM convgroups.{table} WHERE user_id IN (SELECT 'user ' || n FROM generate_series(100, 999) n)"
        )]);
    }
    assert_eq!(other.query(some).len(), 10);
    let refused = run(&["import", &path("old"), "--store", other.url()]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("--resume"));
    let said = succeeds(&["import", &path("old"), "--resume", "--store", other.url()]);
    assert!(said.contains("verified"), "{said}");

    succeeds(&["import", &path("old"), "--store", database.url()]);
    for (name, url) in [("there", database.url()), ("resumed", other.url())] {
        succeeds(&["export", &path(name), "--store", url]);
        assert_eq!(content(&directory.path().join(name)), content(&directory.path().join("old")), "{name}");
    }
    succeeds(&["import", &path("there"), "--store", &new]);
    succeeds(&["export", &path("back"), "--store", &new]);
    assert_eq!(content(&directory.path().join("back")), content(&directory.path().join("old")));
    assert!(whole.lines().count() > USERS);

    // A reader that has seen any version of the old store starts over with a full snapshot.
    let settings = PostgresSettings::default();
    let store = PostgresStore::open_read_only(database.url(), &settings).expect("it opens");
    for after in 0..4 {
        let changes = store.changes(&user("user 7"), Version(after), MAX_BATCH).expect("reads");
        assert!(matches!(changes, Changes::Full(_)), "after {after}");
    }
}
