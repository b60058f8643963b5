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

use disk::{Disk, Fate, Fault, Operation, Plan};
use life::{Life, STORE};

/// Operations that change what is on a disk.
fn changes(operation: Operation) -> bool {
    operation != Operation::Read
}

/// A life in which a disk may fail: a store is made, is changed, ends, is opened again, and is copied.
fn live(life: &mut Life, mended_before_closing: bool) {
    life.open();
    life.commit_some(6);
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
fn count(concerns: fn(Operation) -> bool) -> usize {
    let mut life = Life::on(Disk::new(), "without faults");
    live(&mut life, false);
    life.disk.assert_complete();
    life.disk.done(concerns)
}

#[test]
fn a_power_loss_at_any_operation_loses_nothing_that_was_acknowledged() {
    let count = count(changes);
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

/// A fault after each number of operations: in turns once and until the disk is mended, before the store is closed or after.
fn fails_everywhere(fault: Fault, concerns: fn(Operation) -> bool) {
    let count = count(concerns);
    for after in 0..count {
        let (lasting, mended_before_closing) = (after % 2 == 0, after % 4 < 2);
        let what = format!("{fault:?} after {after} operations, lasting: {lasting}");
        let mut life = Life::on(Disk::new(), &what);
        life.disk.plan(Plan { fault, concerns, after, lasting });
        live(&mut life, mended_before_closing);
        life.goes_on_when_mended();
        life.disk.turn_off();
        life.goes_on_after_power_loss(Fate::Lost);
    }
    println!("{fault:?}: {count} points");
}

#[test]
fn a_write_that_finds_the_disk_full_is_told_truthfully_and_forgotten() {
    fails_everywhere(Fault::Full, |operation| operation == Operation::Write);
}

#[test]
fn a_write_that_fails_is_told_truthfully_and_forgotten() {
    fails_everywhere(Fault::Broken, |operation| matches!(operation, Operation::Write | Operation::Truncate));
}

#[test]
fn a_flush_that_fails_is_told_truthfully_and_what_comes_after_is_durable() {
    fails_everywhere(Fault::Broken, |operation| {
        matches!(operation, Operation::Flush | Operation::Unlink | Operation::Rename)
    });
}

#[test]
fn a_read_that_fails_is_told_and_forgotten() {
    fails_everywhere(Fault::Broken, |operation| operation == Operation::Read);
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
