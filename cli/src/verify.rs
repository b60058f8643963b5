//! `convgroups verify-store`: whether what a store has can be true.

use crate::settings::Settings;
use convgroups_host::store::{Verified, without_password};

use super::{Done, Failed, Outcome, print, readable, say};

pub(crate) fn verify(settings: &Settings) -> Outcome {
    let store = readable(settings)?;
    let mut wrong = 0_u64;
    let mut unprinted = None;
    let mut found = |line: String| {
        wrong += 1;
        if unprinted.is_none() {
            unprinted = print(format!("{line}\n").as_bytes()).err();
        }
    };
    let verified = store.verify(&mut found);
    if let Some(failed) = unprinted {
        return Err(failed);
    }
    let Verified { users, groups, members, conversations, changes } =
        verified.map_err(|error| Failed::Run(format!("not everything could be checked: {error}")))?;
    let name = without_password(&settings.store);
    let checked = format!(
        "{users} users, {groups} groups with {members} conversations, {conversations} marked conversations, {changes} changes"
    );
    if wrong == 0 {
        say(&format!("{name} is in order: {checked}"));
        return Ok(Done::Well);
    }
    say(&format!("{name} has {wrong} errors in {checked}"));
    Ok(Done::WithCode)
}
