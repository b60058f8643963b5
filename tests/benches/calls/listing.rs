//! The most expensive listing: conversations in no group, for a user with everything that the default limits allow.

use std::hint::black_box;
use std::time::Instant;

use convgroups_host::api::{ConversationFilter, GetConversationListByFilter};
use convgroups_host::model::{Change, ConversationData, Origin};
use convgroups_host::settings::Limits;
use convgroups_host::store::{Commit, Skip, Store};
use convgroups_host::{Host, MemoryStore, SqliteStore, UserId};

use crate::report::{Figure, Reach, Report};
use crate::{Effort, Failure};

pub(crate) fn measure(effort: &Effort, report: &mut Report) -> Result<(), Failure> {
    let Limits { max_groups, max_conversations_per_group, max_marked_conversations, .. } = Limits::default();
    println!(
        "getConversationListByFilter of what is in no group, in microseconds; {max_groups} groups of \
         {max_conversations_per_group}, {max_marked_conversations} annotated conversations, all in groups"
    );
    let directory = tempfile::tempdir()?;
    let alice = UserId::new("alice")?;
    let filter = ConversationFilter { conversation_group: Some(String::new()), ..ConversationFilter::default() };
    let listing = GetConversationListByFilter::new(filter, 0, 100);
    let memory = MemoryStore::new();
    fill(&memory, &alice)?;
    let sqlite = SqliteStore::open(directory.path().join("groups.db"))?;
    fill(&sqlite, &alice)?;
    let hosts =
        [("memory", Host::builder().store(memory).build()?), ("SQLite", Host::builder().store(sqlite).build()?)];
    let mut rounds: [Vec<f64>; 2] = Default::default();
    // One round more than is counted, to warm up.
    for round in 0..=effort.rounds {
        for ((_, host), times) in hosts.iter().zip(&mut rounds) {
            let (started, mut calls) = (Instant::now(), 0_u32);
            while calls == 0 || started.elapsed() < effort.round {
                let page = black_box(host.call(&alice, &listing)?).result;
                if !page.is_finished || !page.conversation_list.is_empty() {
                    return Err("everything is in some group".into());
                }
                calls += 1;
            }
            if round > 0 {
                times.push(started.elapsed().as_secs_f64() * 1e6 / f64::from(calls));
            }
        }
    }
    for ((name, _), times) in hosts.iter().zip(&rounds) {
        let figure = Figure::of(times.iter().copied());
        println!("{name:<7} {figure:>24.0}");
        report.note(&format!("listing of what is in no group, {name}"), figure, " µs", Reach::AtMost(20_000.0));
    }
    Ok(())
}

/// All that the default limits allow.
fn fill(store: &impl Store, user: &UserId) -> Result<(), Failure> {
    let Limits { max_groups, max_conversations_per_group, max_marked_conversations, .. } = Limits::default();
    let id = |number: u32| format!("c2c_user_{number:06}");
    for group in 0..=max_groups {
        let changes = if group < max_groups {
            let first = group * max_conversations_per_group;
            let conversation_list = (first..first + max_conversations_per_group).map(id).collect();
            vec![Change::GroupCreated { group_name: format!("Group {group}"), conversation_list }]
        } else {
            // From all groups.
            let every = max_groups * max_conversations_per_group / max_marked_conversations;
            let annotated = |number| ConversationData { marks: 1, ..ConversationData::none(id(number * every)) };
            let conversation_list = (0..max_marked_conversations).map(annotated).collect();
            vec![Change::ConversationsChanged { conversation_list }]
        };
        let base = store.groups(user)?.version;
        let origin = Origin { method: "bench".to_owned(), request_id: String::new() };
        let (user, skip) = (user.clone(), Skip::default());
        store.commit(Commit { user, base, changes, origin, keep: 1, skip, deadline: None })?;
    }
    Ok(())
}
