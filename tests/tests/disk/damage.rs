//! A file that was damaged while nobody had it open: a corrupt page is reported by every read that needs it, and by no other
//! else. What SQLite cannot notice, for its pages have no checksums, is a byte within a text.

use std::collections::BTreeMap;
use std::sync::Arc;

use convgroups_host::model::{LoggedChange, UserState};
use convgroups_host::store::{Changes, MAX_BATCH, Store, StoreErrorKind, Versioned};
use convgroups_host::{SqliteStore, UserId, Version};
use convgroups_tests::load::rounds;
use convgroups_tests::user;

use super::disk::Disk;
use super::life::{Life, STORE};

const PAGE: usize = 4096;

/// What a store has of a user.
type Kept = (Versioned<UserState>, Vec<LoggedChange>);

/// A store's file, and what is in it.
fn sound() -> (Vec<u8>, BTreeMap<UserId, Kept>) {
    let mut life = Life::on(Disk::new(), "before the damage");
    life.open();
    life.commit_some(9);
    for count in [30, 40, 50] {
        life.commit_much(count);
    }
    life.close();
    let bytes = std::fs::read(life.disk.path(STORE)).expect("it is there");
    let store = SqliteStore::open(life.disk.path(STORE)).expect("it is sound");
    let kept = |user: UserId| (user.clone(), ask(&store, &user).expect("it is sound"));
    (bytes, (0..3).map(|number| kept(user(&format!("user {number}")))).collect())
}

fn ask(store: &SqliteStore, user: &UserId) -> Result<Kept, StoreErrorKind> {
    let state = store.state(user).map_err(|error| error.kind)?;
    match store.changes(user, Version(0), MAX_BATCH).map_err(|error| error.kind)? {
        Changes::Since(log) => Ok((state, log)),
        // The beginning of the log is gone, of which the version tells.
        Changes::Full(_) => Err(StoreErrorKind::Corrupt),
    }
}

/// Opens what has become of a file: the users who are answered, or why it is refused.
fn open_damaged(bytes: Vec<u8>, users: &BTreeMap<UserId, Kept>) -> Vec<Result<Kept, StoreErrorKind>> {
    let disk: Arc<Disk> = Disk::with(&BTreeMap::from([(STORE.to_owned(), bytes)]));
    match SqliteStore::open(disk.path(STORE)) {
        Ok(store) => users.keys().map(|user| ask(&store, user)).collect(),
        Err(error) => vec![Err(error.kind); users.len()],
    }
}

#[test]
fn a_page_that_is_no_page_is_refused_or_not_needed() {
    let (bytes, users) = sound();
    let mut random = fastrand::Rng::with_seed(1);
    let (mut refused, mut answered) = (0, 0);
    let mut noise = || -> Vec<u8> { std::iter::repeat_with(|| random.u8(..)).take(PAGE).collect() };
    for place in (0..bytes.len()).step_by(PAGE) {
        for instead in [vec![0; PAGE], vec![0xff; PAGE], noise()] {
            let mut damaged = bytes.clone();
            damaged[place..place + PAGE].copy_from_slice(&instead);
            for (answer, kept) in open_damaged(damaged, &users).iter().zip(users.values()) {
                match answer {
                    Ok(answer) => assert!(answer == kept, "page {}: something else is answered", place / PAGE),
                    Err(kind) => assert_eq!(*kind, StoreErrorKind::Corrupt, "page {}", place / PAGE),
                }
                *if answer.is_ok() { &mut answered } else { &mut refused } += 1;
            }
        }
    }
    println!("{} pages, each damaged in 3 ways: {answered} users answered, {refused} refused", bytes.len() / PAGE);
}

#[test]
fn a_file_that_was_cut_off_is_refused_or_not_needed() {
    let (bytes, users) = sound();
    for size in (PAGE..bytes.len()).step_by(PAGE) {
        for (answer, kept) in open_damaged(bytes[..size].to_vec(), &users).iter().zip(users.values()) {
            assert!(answer.as_ref().map_or(true, |answer| answer == kept), "{size} bytes: something else is answered");
        }
    }
}

#[test]
fn a_byte_that_was_changed_never_ends_the_process() {
    let (bytes, users) = sound();
    let [mut right, mut refused, mut unnoticed] = [0; 3];
    rounds("a byte is changed", 300, |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut damaged = bytes.clone();
        damaged[random.usize(..bytes.len())] ^= 1 << random.u8(..8);
        for (answer, kept) in open_damaged(damaged, &users).iter().zip(users.values()) {
            match answer {
                Ok(answer) if answer == kept => right += 1,
                Ok(_) => unnoticed += 1,
                Err(_) => refused += 1,
            }
        }
    });
    println!("{right} users answered rightly, {refused} refused, {unnoticed} answered with the changed byte");
}
