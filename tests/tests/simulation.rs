//! A long life of a host in one thread: calls, and whatever can go wrong with them, decided by a seed. After each step the
//! answer, and from time to time everything, is compared with a reference of a few lines.
//!
//! `SIMULATION_SEED` and `SIMULATION_STEPS` repeat a run; a run that fails says which.

use std::sync::{Arc, Mutex, PoisonError};

use convgroups_host::api::{DeleteConversationsFromGroup, Request};
use convgroups_host::events::{Event, EventReader};
use convgroups_host::model::UserState;
use convgroups_host::settings::{CallSettings, EventSettings, Limits, SandboxSettings, WhenFull};
use convgroups_host::store::{Commit, CommitOutcome, MemoryStore, Store, StoreError, StoreErrorKind, StoreResult};
use convgroups_host::{Examiner, Failure, Host, HostFault, PluginSource, Settings, UserId, Version};
use convgroups_tests::guests::guest;
use convgroups_tests::load::{apply, number_from};
use convgroups_tests::meddled::{MeddledStore, Meddler};
use convgroups_tests::model::{Model, some_change, without_reasons};
use convgroups_tests::user;

const USERS: usize = 5;

/// What is to go wrong with the next call.
#[derive(Clone, Debug, Default)]
enum Plan {
    #[default]
    Nothing,
    /// The first read fails, or one of the next.
    ReadFails(u8),
    /// The commit fails, and is not there.
    CommitFails,
    /// The commit is there, and nobody is told.
    AnswerIsLost,
    /// The commit is not there, and nobody is told.
    CommitIsLost,
    /// Others change the user's groups before each of the first tries to commit.
    Contended(Vec<Request>),
}

/// Lets happen what is planned, and remembers what happened.
#[derive(Debug)]
struct Fate {
    plan: Mutex<Plan>,
    /// What others asked, and what they were answered.
    others: Mutex<Vec<(Request, Result<convgroups_host::api::AnyResult, i32>)>>,
    /// For the others.
    quiet: Host,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fault(kind: StoreErrorKind) -> StoreError {
    StoreError::new(kind, "as planned")
}

fn plain(
    result: Result<convgroups_host::Completed, convgroups_host::CallError>,
) -> Result<convgroups_host::api::AnyResult, i32> {
    result.map(|reply| without_reasons(reply.result)).map_err(|error| error.code())
}

impl Meddler for Fate {
    fn read(&self) -> StoreResult<()> {
        let mut plan = locked(&self.plan);
        match &mut *plan {
            Plan::ReadFails(0) => Err(fault(StoreErrorKind::Unavailable)),
            Plan::ReadFails(left) => {
                *left -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn commit(&self, store: &dyn Store, commit: Commit) -> StoreResult<CommitOutcome> {
        let other = {
            let mut plan = locked(&self.plan);
            match &mut *plan {
                Plan::Nothing | Plan::ReadFails(_) => None,
                Plan::CommitFails => return Err(fault(StoreErrorKind::Unavailable)),
                Plan::CommitIsLost => return Err(fault(StoreErrorKind::OutcomeUnknown)),
                Plan::AnswerIsLost => {
                    store.commit(commit)?;
                    return Err(fault(StoreErrorKind::OutcomeUnknown));
                }
                Plan::Contended(others) => others.pop(),
            }
        };
        if let Some(request) = other {
            let came = plain(self.quiet.call(&commit.user, &request));
            locked(&self.others).push((request, came));
        }
        store.commit(commit)
    }
}

/// Somebody who follows a user's events, when they please.
struct Reader {
    events: EventReader,
    state: UserState,
    fulls: u32,
}

impl Reader {
    fn new(store: &Arc<dyn Store>, user: &UserId) -> Self {
        let events = EventReader::new(Arc::clone(store), user.clone(), Version(0));
        Self { events, state: UserState::default(), fulls: 0 }
    }

    /// Reads this many events; answers whether there were fewer.
    fn read(&mut self, limit: u32) -> bool {
        let events = self.events.read_some(limit).expect("the quiet store does not fail");
        let end = events.len() < limit as usize;
        for event in events {
            match event {
                Event::Change(change) => change.events.iter().for_each(|event| apply(&mut self.state, event)),
                Event::Full(full) => {
                    self.state = UserState { groups: full.groups, conversations: full.conversations };
                    self.fulls += 1;
                }
            }
        }
        end
    }
}

struct World {
    limits: Limits,
    store: Arc<dyn Store>,
    fate: Arc<MeddledStore<Fate>>,
    host: Host,
    trapping: Host,
    looping: Host,
    users: Vec<(UserId, Model, Reader)>,
}

fn settings(limits: &Limits, deadline_ms: u64) -> Settings {
    Settings {
        limits: limits.clone(),
        calls: CallSettings { max_attempts: 3, timeout_ms: 60_000, ..CallSettings::default() },
        events: EventSettings { keep_per_user: 7 },
        sandbox: SandboxSettings { deadline_ms, ..SandboxSettings::default() },
        ..Settings::default()
    }
}

fn host(settings: &Settings, store: Arc<dyn Store>, plugin: Option<PluginSource>) -> Host {
    let mut builder = Host::builder().settings(settings.clone()).store(store);
    if let Some(plugin) = plugin {
        builder = builder.plugin(plugin).plugin_examiner(Examiner::InProcess);
    }
    builder.build().expect("it builds")
}

impl World {
    fn new(when_full: WhenFull) -> Self {
        let limits = Limits {
            max_groups: 4,
            max_conversations_per_group: 8,
            max_marked_conversations: 6,
            max_custom_data_bytes: 3,
            when_full,
            ..Limits::default()
        };
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let long = settings(&limits, 10_000);
        let quiet = host(&long, Arc::clone(&store), None);
        let fate = Fate { plan: Mutex::default(), others: Mutex::default(), quiet };
        let fate = MeddledStore::with(Arc::clone(&store), fate);
        let users = (0..USERS).map(|number| user(&format!("user {number}")));
        let users = users.map(|user| (user.clone(), Model::default(), Reader::new(&store, &user))).collect();
        Self {
            host: host(&long, Arc::clone(&fate) as Arc<dyn Store>, None),
            trapping: host(&long, Arc::clone(&store), Some(guest("stages_then_traps"))),
            looping: host(&settings(&limits, 10), Arc::clone(&store), Some(guest("stages_then_loops"))),
            limits,
            store,
            fate,
            users,
        }
    }

    fn step(&mut self, random: &mut fastrand::Rng) {
        let (user, model, reader) = &mut self.users[random.usize(..USERS)];
        match random.u16(..) {
            // A plugin that fails with changes staged.
            0..600 => fails(&self.trapping, user),
            600..602 => fails(&self.looping, user),
            // The process ends, and another begins.
            602..604 => {
                let settings = settings(&self.limits, 10_000);
                self.host = host(&settings, Arc::clone(&self.fate) as Arc<dyn Store>, None);
            }
            // Somebody reads some of what happened.
            604..8000 => drop(reader.read(random.u32(1..5))),
            8000..9000 => {
                while !reader.read(3) {}
                assert_eq!(reader.state, model.state(), "a reader that is up to date");
                assert_eq!(self.store.state(user).expect("reads").value, model.state());
            }
            number => {
                let plan = match number % 32 {
                    0 => Plan::ReadFails(random.u8(..3)),
                    1 => Plan::CommitFails,
                    2 => Plan::AnswerIsLost,
                    3 => Plan::CommitIsLost,
                    4 => Plan::Contended((0..random.usize(1..4)).map(|_| some_change(random)).collect()),
                    _ => Plan::Nothing,
                };
                call(&self.host, &self.fate, user, model, &self.limits, &some_change(random), &plan);
            }
        }
    }
}

/// Nothing comes of a plugin that fails, whose blame it is.
fn fails(host: &Host, user: &UserId) {
    let error = host.call(user, &DeleteConversationsFromGroup::new("Work", ["c2c_1"])).expect_err("it fails");
    assert!(matches!(error.failure, Failure::Plugin(_)), "{error}");
}

/// One call, as planned; the model follows what became of it.
fn call(host: &Host, fate: &Fate, user: &UserId, model: &mut Model, limits: &Limits, request: &Request, plan: &Plan) {
    locked(&fate.plan).clone_from(plan);
    let result = host.call(user, request);
    *locked(&fate.plan) = Plan::Nothing;
    for (other, came) in locked(&fate.others).drain(..) {
        assert_eq!(came, model.run(&other, limits), "{other:?} in between");
    }
    let before = model.clone();
    let expected = model.run(request, limits);
    let Err(Failure::Host(fault)) = result.as_ref().map_err(|error| &error.failure) else {
        assert_eq!(plain(result), expected, "{request:?} with {plan:?}");
        return;
    };
    // Only what was planned goes wrong; and what is said of it is true.
    match (plan, fault) {
        (Plan::ReadFails(_) | Plan::CommitFails, HostFault::Store(error)) => {
            assert_eq!(error.kind, StoreErrorKind::Unavailable);
            *model = before;
        }
        (Plan::CommitIsLost, HostFault::Store(error)) => {
            assert_eq!(error.kind, StoreErrorKind::OutcomeUnknown);
            *model = before;
        }
        (Plan::AnswerIsLost, HostFault::Store(error)) => {
            assert_eq!(error.kind, StoreErrorKind::OutcomeUnknown);
            assert!(expected.is_ok(), "{request:?} was committed");
        }
        (Plan::Contended(_), HostFault::Busy { .. }) => *model = before,
        _ => unreachable!("{request:?} with {plan:?}: {fault}"),
    }
}

#[test]
fn whatever_happens_a_host_does_what_the_reference_does() {
    let steps = number_from("SIMULATION_STEPS", 1_500_000);
    let first = number_from("SIMULATION_SEED", fastrand::u64(..1 << 32));
    for (seed, when_full) in [(first, WhenFull::Refuse), (first + 1, WhenFull::EvictOldest)] {
        println!("{steps} steps {when_full:?}; to repeat both: SIMULATION_SEED={first} SIMULATION_STEPS={steps}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new(when_full);
        for _ in 0..steps {
            world.step(&mut random);
        }
        let fulls: u32 = world.users.iter().map(|(_, _, reader)| reader.fulls).sum();
        assert!(fulls > 0 || steps < 10_000, "no reader was ever behind the end of the log");
    }
}
