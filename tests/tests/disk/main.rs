//! A disk that fails: full, broken, or without power at any operation. After each the store on SQLite refuses or recovers,
//! and what it says is so.
//!
//! What is acknowledged is there afterwards; what is said not to be is not; what nobody knows of is there as a whole or not
//! at all; and what was read once is there ever after. Out of scope is a disk that says that it has flushed and has not.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod calls;
mod damage;
mod disk;
mod hosts;
mod life;

use convgroups_host::SqliteStore;
use convgroups_host::store::Store;

use disk::{Disk, Fate, Fault, Operation, Plan};
use life::{Life, STORE};

/// A life, in which the disk is mended before the store is closed, or only later.
type Lived = fn(&mut Life, bool);

/// Operations that change what is on a disk.
fn changes(operation: Operation) -> bool {
    operation != Operation::Read
}

/// A life in which a disk may fail: a store is made and changed.
fn live_shortly(life: &mut Life, _: bool) {
    life.open();
    life.commit_some(4);
}

/// As before, and the store ends, is opened again, and is copied.
fn live(life: &mut Life, mended_before_closing: bool) {
    live_shortly(life, false);
    for _ in 0..2 {
        if mended_before_closing {
            life.disk.mend();
        }
        life.close();
        life.open();
        life.commit_some(5);
        life.back_up();
    }
    life.close();
}

/// How many such operations there are in a life without faults.
fn count(live: Lived, concerns: fn(Operation) -> bool) -> usize {
    let mut life = Life::on(Disk::new(), "without faults");
    live(&mut life, false);
    life.disk.assert_complete();
    life.disk.done(concerns)
}

#[test]
fn a_power_loss_at_any_operation_loses_nothing_that_was_acknowledged() {
    let count = count(live, changes);
    for after in 0..count {
        let mut life = Life::on(Disk::new(), &format!("power loss after {after} operations"));
        life.disk.plan(Plan { fault: Fault::PowerLoss, concerns: changes, after, lasting: false });
        live(&mut life, false);
        for fate in [Fate::Lost, Fate::Kept, Fate::Mixed(after as u64)] {
            life.goes_on_after_power_loss(fate);
        }
    }
    println!("power loss: {count} points, 3 fates each");
}

/// A fault after each number of operations, once or until the disk is mended; then the power goes.
fn fails_everywhere(
    fault: Fault,
    concerns: fn(Operation) -> bool,
    live: Lived,
    ways: impl Fn(usize) -> Vec<[bool; 2]>,
) {
    let count = count(live, concerns);
    for after in 0..count {
        for [lasting, mended_before_closing] in ways(after) {
            let what = format!("{fault:?} after {after} operations, lasting: {lasting}");
            let mut life = Life::on(Disk::new(), &what);
            life.disk.plan(Plan { fault, concerns, after, lasting });
            live(&mut life, mended_before_closing);
            life.goes_on_when_mended();
            life.disk.turn_off();
            life.goes_on_after_power_loss(Fate::Lost);
        }
    }
    println!("{fault:?}: {count} points");
}

/// All ways there are.
fn each_way(_: usize) -> Vec<[bool; 2]> {
    vec![[false, false], [true, false], [false, true], [true, true]]
}

/// One after the other, where there are many points.
fn in_turns(after: usize) -> Vec<[bool; 2]> {
    vec![[after.is_multiple_of(2), after % 4 < 2]]
}

#[test]
fn a_write_that_finds_the_disk_full_is_told_truthfully_and_forgotten() {
    fails_everywhere(Fault::Full, |operation| operation == Operation::Write, live, in_turns);
}

#[test]
fn a_write_that_fails_is_told_truthfully_and_forgotten() {
    fails_everywhere(
        Fault::Broken,
        |operation| matches!(operation, Operation::Write | Operation::Truncate),
        live,
        in_turns,
    );
}

#[test]
fn a_flush_that_fails_is_told_truthfully_and_what_comes_after_is_durable() {
    let concerns = |operation| matches!(operation, Operation::Flush | Operation::Unlink | Operation::Rename);
    fails_everywhere(Fault::Broken, concerns, live, each_way);
    fails_everywhere(Fault::Broken, concerns, live_shortly, each_way);
}

#[test]
fn a_read_that_fails_is_told_and_forgotten() {
    fails_everywhere(Fault::Broken, |operation| operation == Operation::Read, live, in_turns);
}

#[test]
fn a_file_that_could_not_be_flushed_loses_nothing_though_a_part_of_the_log_was_taken_over_before() {
    for after in 0..4 {
        for closed in [false, true] {
            let mut life = Life::on(Disk::new(), &format!("the flush fails after {after} others, closed: {closed}"));
            life.open();
            // Fills pages that nothing changes later.
            life.commit_much(400);
            let reader = rusqlite::Connection::open(life.disk.path(STORE)).expect("opens");
            reader.execute_batch("BEGIN; SELECT count(*) FROM users").expect("reads");
            // Enough for the log to be taken over, as far as the reader is not in the way: without a flush.
            for _ in 0..2 {
                life.commit_much(4500);
            }
            drop(reader);
            let concerns = |operation| operation == Operation::Flush;
            life.disk.plan(Plan { fault: Fault::Broken, concerns, after, lasting: false });
            life.commit_some(3);
            if closed {
                life.close();
                life.open();
            }
            life.commit_some(3);
            life.disk.turn_off();
            life.goes_on_after_power_loss(Fate::Lost);
        }
    }
}

#[test]
fn a_store_is_not_ready_as_long_as_its_disk_takes_no_writes() {
    type Concerns = fn(Operation) -> bool;
    let faults: [(Fault, Concerns); 2] = [
        (Fault::Full, |operation| operation == Operation::Write),
        (Fault::Broken, |operation| operation == Operation::Flush),
    ];
    for (fault, concerns) in faults {
        let disk = Disk::new();
        let store = SqliteStore::open(disk.path(STORE)).expect("opens");
        for _ in 0..3 {
            store.health().expect("it can be written");
            disk.plan(Plan { fault, concerns, after: 0, lasting: true });
            for _ in 0..3 {
                store.health().expect_err("it cannot be written");
            }
            disk.mend();
        }
        disk.assert_complete();
    }
}

#[test]
fn who_only_reads_leaves_a_log_that_could_not_be_flushed_to_who_writes_it_again() {
    for after in 0..30 {
        let mut life = Life::on(Disk::new(), &format!("power loss after {after} operations of a reader"));
        live_shortly(&mut life, false);
        life.close();
        life.open();
        // The log begins anew, which goes well, with its directory; but not what is put there.
        let concerns = |operation| operation == Operation::Flush;
        life.disk.plan(Plan { fault: Fault::Broken, concerns, after: 2, lasting: true });
        life.commit_some(1);
        life.close();
        life.disk.plan(Plan { fault: Fault::PowerLoss, concerns: changes, after, lasting: false });
        let read = SqliteStore::open_read_only(life.disk.path(STORE)).and_then(|store| store.users(None, 10));
        drop(read);
        life.disk.turn_off();
        for fate in [Fate::Lost, Fate::Mixed(after as u64)] {
            life.goes_on_after_power_loss(fate);
        }
    }
}
