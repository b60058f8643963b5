//! A store's life on a disk, and what must hold of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use convgroups_host::model::{Change, ConversationData, DeletionReason, Origin};
use convgroups_host::store::{Commit, CommitOutcome, Skip, Store, StoreError, StoreErrorKind};
use convgroups_host::{SqliteStore, UserId, Version};
use convgroups_tests::load::{Asked, Outcome, compare};
use convgroups_tests::{ids, user};

use super::disk::{Disk, Fate};

const USERS: usize = 3;
pub(super) const STORE: &str = "store.db";

/// A store on a disk, and what was said of it.
pub(super) struct Life {
    pub(super) disk: Arc<Disk>,
    /// For messages.
    what: String,
    store: Option<SqliteStore>,
    asked: Vec<Asked>,
    /// The newest version of each user that was read.
    seen: BTreeMap<UserId, Version>,
    copies: usize,
}

impl Life {
    pub(super) fn on(disk: Arc<Disk>, what: &str) -> Self {
        Self { disk, what: what.to_owned(), store: None, asked: Vec::new(), seen: BTreeMap::new(), copies: 0 }
    }

    /// Opens the store, if that can be done.
    pub(super) fn open(&mut self) {
        // Twice: what failed once may work.
        for _ in 0..2 {
            match SqliteStore::open(self.disk.path(STORE)) {
                Ok(store) => {
                    self.store = Some(store);
                    return;
                }
                Err(error) => self.passes(&error),
            }
        }
    }

    /// A disk that fails for a moment does not make the store say that its contents are damaged.
    fn passes(&self, error: &StoreError) {
        let damaged = error.kind == StoreErrorKind::Corrupt;
        assert!(!damaged || self.disk.may_not_be_read(), "{}: {error}", self.what);
    }

    pub(super) fn close(&mut self) {
        self.store = None;
    }

    pub(super) fn commit_some(&mut self, count: usize) {
        for _ in 0..count {
            self.commit();
        }
    }

    fn commit(&mut self) -> Option<Outcome> {
        self.change(events)
    }

    /// Makes a group of this many conversations, which takes about a page for each 8 of them.
    pub(super) fn commit_much(&mut self, count: usize) {
        let prefix = |number| format!("c2c_{number}_{}", "x".repeat(230));
        self.change(|number| {
            let conversation_list = ids(&prefix(number), count);
            vec![Change::GroupCreated { group_name: format!("g{number}"), conversation_list }]
        });
        // Answers when everything that goes with the commit has been done.
        if let Some(store) = &self.store {
            // It may have failed by now, which is what this is about.
            let _ = store.health();
        }
    }

    /// Reads and changes a user's groups. What became of it.
    fn change(&mut self, events: impl Fn(usize) -> Vec<Change>) -> Option<Outcome> {
        let number = self.asked.len();
        let user = user(&format!("user {}", number % USERS));
        let store = self.store.as_ref()?;
        let base = match store.groups(&user) {
            Ok(groups) => groups.version,
            Err(error) => {
                self.passes(&error);
                return None;
            }
        };
        self.sees(&user, base);
        let store = self.store.as_ref()?;
        let events = events(number);
        let result = store.commit(Commit {
            user: user.clone(),
            base,
            changes: events.clone(),
            origin: Origin { method: "test".to_owned(), request_id: number.to_string() },
            keep: 100_000,
            skip: Skip::default(),
            deadline: None,
        });
        let outcome = match result {
            Ok(CommitOutcome::Committed(version)) => {
                assert_eq!(version, base.next());
                Outcome::Done
            }
            Ok(CommitOutcome::Conflict) => Outcome::Nothing,
            Err(error) => {
                self.passes(&error);
                outcome_of(&error)
            }
        };
        self.asked.push(Asked { user, events, outcome });
        Some(outcome)
    }

    /// A version that is read has all that was acknowledged, no more than was asked for, and what was read before.
    fn sees(&mut self, user: &UserId, version: Version) {
        let count =
            |outcome| self.asked.iter().filter(|asked| asked.user == *user && asked.outcome == outcome).count() as u64;
        let (done, unknown) = (count(Outcome::Done), count(Outcome::Unknown));
        assert!(
            (done..=done + unknown).contains(&version.0),
            "{}, {user}: {version:?}, of {done} and {unknown}",
            self.what
        );
        let seen = self.seen.insert(user.clone(), version).unwrap_or_default();
        assert!(seen <= version, "{}, {user}: {seen:?} was read, and now {version:?}", self.what);
    }

    /// Copies the store, if that can be done. A copy that is there is whole.
    pub(super) fn back_up(&mut self) {
        let Some(store) = &self.store else { return };
        self.copies += 1;
        let path = self.disk.path(&format!("copy {}.db", self.copies));
        match store.backup(&path) {
            Ok(()) => {}
            Err(error) => self.passes(&error),
        }
    }

    /// When the disk works again, so does the store, whether it was closed or not; and all is as was said.
    pub(super) fn goes_on_when_mended(&mut self) {
        self.disk.mend();
        if self.store.is_none() {
            self.open();
        }
        for _ in 0..USERS {
            assert_eq!(self.commit(), Some(Outcome::Done), "{}", self.what);
        }
        self.compare();
        self.disk.assert_complete();
    }

    /// What is on the disk when the power is back is as was said, and can be changed.
    pub(super) fn goes_on_after_power_loss(&mut self, fate: Fate) {
        self.store = None;
        let mut later = Self {
            disk: self.disk.after_power_loss(fate),
            what: format!("{}, {fate:?}", self.what),
            store: None,
            asked: self.asked.clone(),
            seen: self.seen.clone(),
            copies: self.copies,
        };
        later.open();
        for _ in 0..USERS {
            assert_eq!(later.commit(), Some(Outcome::Done), "{}", later.what);
        }
        later.compare();
    }

    /// All is as was said.
    fn compare(&self) {
        let what = &self.what;
        let Some(store) = &self.store else { unreachable!("{what}: the store does not open") };
        let users: Vec<UserId> = (0..USERS).map(|number| user(&format!("user {number}"))).collect();
        assert_as_said(store, &users, &self.asked, what);
        let plain = rusqlite::Connection::open(self.disk.path(STORE)).expect("opens");
        let check: String = plain.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("runs");
        assert_eq!(check, "ok", "{what}");
    }
}

/// A store has what its callers were told that it has.
pub(super) fn assert_as_said(store: &SqliteStore, users: &[UserId], asked: &[Asked], what: &str) {
    for user in users {
        let asked: Vec<&Asked> = asked.iter().filter(|asked| asked.user == *user).collect();
        compare(store, user, &asked, what);
    }
}

/// What a store's error says of a commit.
pub(super) fn outcome_of(error: &StoreError) -> Outcome {
    if error.kind == StoreErrorKind::OutcomeUnknown { Outcome::Unknown } else { Outcome::Nothing }
}

/// What the call of a number changes: a bit of everything.
fn events(number: usize) -> Vec<Change> {
    let (group_name, new_name) = (format!("g{number}"), format!("h{number}"));
    let conversation_list = ids(&format!("c2c_{number}_"), 12);
    let deleted = conversation_list[..4].to_vec();
    let data = ConversationData { custom_data: "x".repeat(400), ..ConversationData::none(&deleted[0]) };
    vec![
        Change::GroupCreated { group_name: group_name.clone(), conversation_list },
        Change::ConversationsDeleted {
            group_name: group_name.clone(),
            conversation_list: deleted,
            reason: DeletionReason::Requested,
        },
        Change::GroupRenamed { old_name: group_name, new_name },
        Change::ConversationsChanged { conversation_list: vec![data] },
    ]
}
