//! Hosts with the reference plugin, and many callers at once, on a disk that fails at random.

use std::sync::Arc;

use convgroups_host::api::{CreateConversationGroup, SetConversationCustomData};
use convgroups_host::model::{Change, ConversationData};
use convgroups_host::settings::{CallSettings, EventSettings, Limits};
use convgroups_host::{Failure, Host, HostFault, Settings, SqliteStore, UserId};
use convgroups_tests::load::{Asked, Outcome, rounds};
use convgroups_tests::{ids, user};

use super::disk::{Disk, Fate, Fault, Operation, Plan};
use super::life::{STORE, assert_as_said, outcome_of};

const CALLERS: usize = 6;
const CALLS_EACH: usize = 12;

/// Something that goes wrong at some time, or nothing.
fn some_plan(random: &mut fastrand::Rng) -> Plan {
    let concerns: [fn(Operation) -> bool; 4] = [
        |operation| operation == Operation::Write,
        |operation| operation == Operation::Flush,
        |operation| operation != Operation::Read,
        |_| true,
    ];
    let fault = [Fault::Full, Fault::Broken, Fault::PowerLoss][random.usize(..3)];
    let concerns = if fault == Fault::Full { concerns[0] } else { concerns[random.usize(..4)] };
    let after = [20, 200, 2000][random.usize(..3)];
    Plan { fault, concerns, after: random.usize(..after), lasting: random.bool() }
}

fn host(store: SqliteStore) -> Host {
    let settings = Settings {
        limits: Limits { max_groups: 1000, ..Limits::default() },
        calls: CallSettings { timeout_ms: 60_000, ..CallSettings::default() },
        events: EventSettings { keep_per_user: 100_000 },
        ..Settings::default()
    };
    Host::builder().settings(settings).store(store).build().expect("it builds")
}

/// One caller's calls, each of a change that no other call makes.
fn call(host: &Host, users: &[UserId], name: &str, random: &mut fastrand::Rng) -> Vec<Asked> {
    let mut asked = Vec::new();
    for number in 0..CALLS_EACH {
        let user = random.choice(users).expect("there are some").clone();
        let name = format!("{name} {number}");
        let ids = ids(&format!("c2c_{name} "), random.usize(1..30));
        let (result, change) = if random.bool() {
            let result = host.call(&user, &CreateConversationGroup::new(&*name, ids.clone())).map(drop);
            (result, Change::GroupCreated { group_name: name, conversation_list: ids })
        } else {
            let result = host.call(&user, &SetConversationCustomData::new(&*name, ids.clone())).map(drop);
            let data = |id| ConversationData { custom_data: name.clone(), ..ConversationData::none(id) };
            let conversation_list = ids.into_iter().map(data).collect();
            (result, Change::ConversationsChanged { conversation_list })
        };
        let outcome = match result.map_err(|error| error.failure) {
            Ok(()) => Outcome::Done,
            Err(Failure::Host(HostFault::Store(error))) => outcome_of(&error),
            Err(other) => unreachable!("{other}"),
        };
        asked.push(Asked { user, events: vec![change], outcome });
    }
    asked
}

#[test]
fn what_callers_are_told_is_so_whenever_the_disk_fails() {
    let mut total = [0; 3];
    rounds("a disk fails", 12, |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let users: Vec<UserId> = (0..4).map(|number| user(&format!("user {number}"))).collect();
        let mut disk = Disk::new();
        let mut asked = Vec::new();
        for part in 0..4 {
            disk.plan(some_plan(&mut random));
            if let Ok(store) = SqliteStore::open(disk.path(STORE)) {
                let host = Arc::new(host(store));
                std::thread::scope(|scope| {
                    let callers: Vec<_> = (0..CALLERS)
                        .map(|caller| {
                            let (host, users, mut random) = (&host, &users, random.fork());
                            scope.spawn(move || call(host, users, &format!("{part} {caller}"), &mut random))
                        })
                        .collect();
                    asked.extend(callers.into_iter().flat_map(|caller| caller.join().expect("a caller fails")));
                });
            }
            if disk.is_off() || random.bool() {
                disk.turn_off();
                disk = disk.after_power_loss(Fate::Mixed(random.u64(..)));
            } else {
                disk.mend();
            }
            let store = SqliteStore::open(disk.path(STORE)).expect("the disk works again");
            assert_as_said(&store, &users, &asked, &format!("seed {seed}, part {part}"));
        }
        let outcomes = [Outcome::Done, Outcome::Nothing, Outcome::Unknown];
        for (total, outcome) in total.iter_mut().zip(outcomes) {
            *total += asked.iter().filter(|asked| asked.outcome == outcome).count();
        }
    });
    let [done, nothing, unknown] = total;
    println!("{done} changes acknowledged, {nothing} said not to be, {unknown} of which nobody knew");
}
