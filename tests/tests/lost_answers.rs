//! Connections to PostgreSQL that break in the middle of a commit: what the store says of the commit is true, and it is
//! there once or not at all.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use convgroups_host::model::{Change, ConversationData, Origin};
use convgroups_host::settings::PostgresSettings;
use convgroups_host::store::{Commit, CommitOutcome, Skip, Store, StoreError, StoreErrorKind};
use convgroups_host::{PostgresStore, Version};
use convgroups_tests::load::{number_from, replay, whole_log};
use convgroups_tests::proxy::{Direction, Door, Fault, Proxy};
use convgroups_tests::{ids, user};
use postgres_for_tests::{Database, Server};

/// Far longer than anything takes; only what hangs uses it up.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a commit is given where it is to come to nothing.
const SHORT: Duration = Duration::from_millis(100);

/// A database, a store with one connection to it through a proxy, and one that goes there straight.
struct Bench {
    broken: PostgresStore,
    straight: PostgresStore,
    proxy: Proxy,
    database: Database,
    _server: Server,
}

fn settings() -> PostgresSettings {
    // One connection, and nothing but what is asked for goes through it.
    let timeout_ms = u64::try_from(PATIENCE.as_millis()).expect("small");
    PostgresSettings { max_connections: 1, listen: false, timeout_ms, ..PostgresSettings::default() }
}

impl Bench {
    fn new() -> Option<Self> {
        let server = Server::start()?;
        let database = server.create_database();
        let proxy = Proxy::start(server.port());
        let straight = PostgresStore::open(database.url(), &settings()).expect("opens");
        let broken = PostgresStore::open(&database.url_through(proxy.port()), &settings()).expect("opens");
        Some(Self { broken, straight, proxy, database, _server: server })
    }

    /// Waits until the database does nothing any more: what comes late has come.
    fn settle(&self) {
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' \
                    AND pid <> pg_backend_pid()";
        let started = Instant::now();
        while self.database.query(busy) != ["0"] {
            assert!(started.elapsed() < PATIENCE, "the database is busy for ever");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// How often a commit is in the log.
    fn times(&self, name: &str, request_id: &str) -> usize {
        let log = whole_log(&self.straight, &user(name));
        log.iter().filter(|change| change.origin.request_id == request_id).count()
    }

    /// The log of a user has no gap, nothing twice, and tells what is there.
    fn check(&self, name: &str) {
        self.settle();
        let (log, state) = (whole_log(&self.straight, &user(name)), self.straight.state(&user(name)).expect("reads"));
        let versions: Vec<u64> = log.iter().map(|change| change.version.0).collect();
        assert_eq!(versions, (1..=state.version.0).collect::<Vec<_>>());
        assert_eq!(state.value, replay(&log));
        let mut requests: Vec<&str> = log.iter().map(|change| change.origin.request_id.as_str()).collect();
        requests.sort_unstable();
        requests.dedup();
        assert_eq!(requests.len(), log.len(), "each is there once");
    }
}

/// What commits are like.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// A user's first change, in one statement.
    First,
    /// A later one, in one statement.
    One,
    /// Several statements in a transaction.
    Several,
}

impl Shape {
    const ALL: [Self; 3] = [Self::First, Self::One, Self::Several];

    /// A commit after a version, of as many bytes as every other of its shape.
    fn commit(self, name: &str, number: u64, base: Version, patience: Duration) -> Commit {
        let (group_name, list) = (format!("g{number:06}"), ids(&format!("c2c_{number:06}_"), 3));
        let created = Change::GroupCreated { group_name: group_name.clone(), conversation_list: list.clone() };
        let noted = |id: &String| ConversationData { marks: 1, ..ConversationData::none(id) };
        let changes = match self {
            Self::First | Self::One => vec![created],
            Self::Several => vec![
                created,
                Change::ConversationsAdded {
                    group_name: group_name.clone(),
                    conversation_list: ids(&format!("group_{number:06}_"), 2),
                },
                Change::ConversationsChanged { conversation_list: list.iter().map(noted).collect() },
                Change::GroupRenamed { old_name: group_name, new_name: format!("h{number:06}") },
            ],
        };
        Commit {
            user: user(name),
            base,
            changes,
            origin: Origin { method: "test".to_owned(), request_id: request_id(name, number) },
            keep: 100_000,
            skip: Skip::default(),
            deadline: Some(Instant::now() + patience),
        }
    }
}

fn request_id(name: &str, number: u64) -> String {
    format!("{name}-{number:06}")
}

/// Commits of a shape, one after the other.
struct Commits<'a> {
    bench: &'a Bench,
    shape: Shape,
    number: u64,
    base: Version,
}

impl<'a> Commits<'a> {
    fn new(bench: &'a Bench, shape: Shape) -> Self {
        Self { bench, shape, number: 0, base: Version(0) }
    }

    /// Whose the next is. Each first change is another user's, whose id is as long as all others.
    fn name(&self) -> String {
        match self.shape {
            Shape::First => format!("u{:06}", self.number),
            Shape::One | Shape::Several => format!("{:?}", self.shape),
        }
    }

    /// The next.
    fn next(&mut self, patience: Duration) -> Commit {
        self.number += 1;
        if matches!(self.shape, Shape::First) {
            self.base = Version(0);
        }
        self.shape.commit(&self.name(), self.number, self.base, patience)
    }

    /// The version that the next leads to.
    fn expected(&self) -> Version {
        if matches!(self.shape, Shape::First) { Version(1) } else { self.base.next() }
    }

    /// One that nothing happens to, so that the connection is there and its statements are prepared.
    fn undisturbed(&mut self) {
        let expected = self.expected();
        let outcome = self.bench.broken.commit(self.next(PATIENCE));
        assert_eq!(outcome, Ok(CommitOutcome::Committed(expected)));
        self.base = expected;
    }

    /// One that something may happen to. Answers whether it is there, and which version it then led to.
    fn disturbed(&mut self, patience: Duration) -> (Result<CommitOutcome, StoreError>, usize) {
        let outcome = self.bench.broken.commit(self.next(patience));
        if outcome.is_err() {
            self.bench.settle();
        }
        let times = self.bench.times(&self.name(), &request_id(&self.name(), self.number));
        self.base = self.bench.straight.groups(&user(&self.name())).expect("reads").version;
        (outcome, times)
    }

    /// How many bytes a commit has, as a request and as an answer.
    fn measure(&mut self) -> [u64; 2] {
        // A user's first change is made in another way than later ones.
        self.undisturbed();
        self.undisturbed();
        let before = self.bench.proxy.passed();
        self.undisturbed();
        let after = self.bench.proxy.passed();
        [after[0] - before[0], after[1] - before[1]]
    }

    fn check(&self) {
        if matches!(self.shape, Shape::First) {
            self.bench.settle();
            assert_eq!(self.bench.database.query("SELECT user_id FROM convgroups.users WHERE version <> 1"), [""; 0]);
        } else {
            self.bench.check(&self.name());
        }
    }
}

fn seed() -> u64 {
    let seed = number_from("FAULT_SEED", fastrand::u64(..1 << 32));
    println!("to repeat: FAULT_SEED={seed}");
    seed
}

/// Places in messages of this many bytes: the ends, and some between that are others with another seed.
fn places(total: u64, step: u64, seed: u64) -> impl Iterator<Item = u64> {
    (0..=total).filter(move |place| place % step == seed % step || *place <= 2 || *place + 24 >= total)
}

#[test]
fn a_commit_whose_connection_breaks_at_any_byte_is_kept_once_and_said_to_be() {
    let Some(bench) = Bench::new() else { return };
    let seed = seed();
    let mut rounds = 0;
    for shape in Shape::ALL {
        let mut commits = Commits::new(&bench, shape);
        let total = commits.measure();
        let late = Fault::Late(Duration::from_millis(3));
        for (direction, faults) in
            [(Direction::Request, [Fault::Cut, late]), (Direction::Answer, [Fault::Cut, Fault::Cut])]
        {
            for place in places(total[direction as usize], 13, seed) {
                for fault in &faults {
                    commits.undisturbed();
                    bench.proxy.arm(direction, place, fault.clone());
                    let expected = commits.expected();
                    let (outcome, times) = commits.disturbed(PATIENCE);
                    let what = format!("{shape:?}: {fault:?} after {place} of {total:?} bytes of the {direction:?}");
                    assert!(bench.proxy.has_happened(PATIENCE), "{what}: nothing happened");
                    assert_eq!((outcome, times), (Ok(CommitOutcome::Committed(expected)), 1), "{what}");
                    rounds += 1;
                }
            }
        }
        commits.check();
    }
    println!("{rounds} rounds");
}

#[test]
fn a_commit_that_cannot_be_asked_after_is_of_unknown_outcome_unless_it_is_not_there() {
    let Some(bench) = Bench::new() else { return };
    let seed = seed();
    let mut kinds = std::collections::BTreeMap::<_, u32>::new();
    for shape in Shape::ALL {
        let mut commits = Commits::new(&bench, shape);
        let total = commits.measure();
        for direction in [Direction::Request, Direction::Answer] {
            let last = total[direction as usize];
            for place in places(last, 61, seed).filter(|place| place % 3 == seed % 3 || *place + 2 >= last) {
                commits.undisturbed();
                bench.proxy.then(Door::Shut);
                bench.proxy.arm(direction, place, Fault::Cut);
                let (outcome, times) = commits.disturbed(SHORT);
                let what = format!("{shape:?}: cut after {place} of {total:?} bytes of the {direction:?}: {outcome:?}");
                bench.proxy.disarm();
                match &outcome {
                    Ok(CommitOutcome::Committed(_)) => assert_eq!(times, 1, "{what}"),
                    Ok(CommitOutcome::Conflict) => unreachable!("nobody else commits: {what}"),
                    Err(error) if error.kind == StoreErrorKind::OutcomeUnknown => assert!(times <= 1, "{what}"),
                    Err(error) => {
                        assert_eq!(error.kind, StoreErrorKind::Unavailable, "{what}");
                        assert_eq!(times, 0, "{what}");
                    }
                }
                *kinds.entry(format!("{:?}", outcome.map(drop).map_err(|error| error.kind))).or_default() += 1;
            }
        }
        commits.check();
    }
    println!("{kinds:?}");
}

#[test]
fn a_commit_whose_answer_never_comes_is_of_unknown_outcome_and_kept_once_if_the_last_word_was_said() {
    let Some(bench) = Bench::new() else { return };
    for shape in Shape::ALL {
        let mut commits = Commits::new(&bench, shape);
        let total = commits.measure();
        for place in [0, 1, total[1] / 2, total[1] - 1] {
            commits.undisturbed();
            bench.proxy.arm(Direction::Answer, place, Fault::Swallow);
            let (outcome, times) = commits.disturbed(SHORT);
            let kind = outcome.map_err(|error| error.kind);
            // Of a transaction's first answers the host needs to hear before it says the last word.
            let unsaid = matches!(shape, Shape::Several) && place <= total[1] / 2;
            let expected = if unsaid { (StoreErrorKind::Unavailable, 0) } else { (StoreErrorKind::OutcomeUnknown, 1) };
            assert_eq!((kind, times), (Err(expected.0), expected.1), "{shape:?} {place} of {total:?}");
            bench.proxy.sever();
        }
        commits.check();
    }
}

#[test]
fn of_two_commits_on_the_same_version_one_is_kept_though_the_answers_are_lost() {
    let Some(bench) = Bench::new() else { return };
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut outcomes = [0, 0];
    for shape in [Shape::One, Shape::Several] {
        let mut commits = Commits::new(&bench, shape);
        let total = commits.measure();
        for _ in 0..60 {
            commits.undisturbed();
            let direction = if random.bool() { Direction::Request } else { Direction::Answer };
            let place = random.u64(..=total[direction as usize]);
            let fault = if random.bool() { Fault::Cut } else { Fault::Late(Duration::from_millis(random.u64(..6))) };
            bench.proxy.arm(direction, place, fault.clone());
            let name = commits.name();
            let rival = Shape::One.commit(&name, 500_000 + commits.number, commits.base, PATIENCE);
            let rivals_id = rival.origin.request_id.clone();
            let base = commits.base;
            let ((ours, times), theirs) = std::thread::scope(|scope| {
                let theirs = scope.spawn(|| {
                    // In the moment in which the answer is lost.
                    assert!(bench.proxy.has_happened(PATIENCE), "nothing happened");
                    bench.straight.commit(rival)
                });
                (commits.disturbed(PATIENCE), theirs.join().expect("no panic"))
            });
            let what = format!("seed {seed}, {shape:?}: {fault:?} after {place} of the {direction:?}");
            let kept = CommitOutcome::Committed(base.next());
            bench.settle();
            let theirs = (theirs.expect("nothing is wrong"), bench.times(&name, &rivals_id));
            match ours.expect("there is time to find out") {
                CommitOutcome::Conflict => {
                    assert_eq!((times, theirs), (0, (kept, 1)), "{what}");
                    outcomes[0] += 1;
                }
                committed => {
                    assert_eq!((committed, times, theirs), (kept, 1, (CommitOutcome::Conflict, 0)), "{what}");
                    outcomes[1] += 1;
                }
            }
            commits.base = base.next();
        }
        commits.check();
    }
    println!("lost and won: {outcomes:?}");
}

/// An error as the database sends it.
fn error_message(severity: &str, code: &str) -> Vec<u8> {
    let mut fields = Vec::new();
    for (kind, text) in [('S', severity), ('V', severity), ('C', code), ('M', "injected by a test")] {
        fields.push(u8::try_from(kind).expect("ASCII"));
        fields.extend(text.bytes().chain([0]));
    }
    fields.push(0);
    let length = u32::try_from(fields.len() + 4).expect("small").to_be_bytes();
    [b"E".as_slice(), &length, &fields].concat()
}

#[test]
fn an_error_that_may_have_come_after_the_commit_is_not_taken_for_the_end_of_it() {
    let Some(bench) = Bench::new() else { return };
    // Poolers and databases that speak as PostgreSQL does say so by codes; the severity alone does not tell.
    let errors = [
        ("FATAL", "57P01"),
        ("FATAL", "57P02"),
        ("FATAL", "25P03"),
        ("FATAL", "08P01"),
        ("ERROR", "08006"),
        ("ERROR", "08007"),
        ("ERROR", "40003"),
        ("PANIC", "XX000"),
    ];
    for shape in Shape::ALL {
        let mut commits = Commits::new(&bench, shape);
        for (severity, code) in errors {
            let total = commits.measure();
            // In the place of the last answer: to a statement on its own, or to COMMIT, which is of 18 bytes.
            let place = if matches!(shape, Shape::Several) { total[1] - 18 } else { 0 };
            bench.proxy.arm(Direction::Answer, place, Fault::Forge(error_message(severity, code)));
            let expected = commits.expected();
            let (outcome, times) = commits.disturbed(PATIENCE);
            let what = format!("{shape:?}, {severity} {code}");
            // What is asked again is answered; what is hopeless is not asked again.
            let hopeless = code == "XX000";
            let right =
                if hopeless { Err(StoreErrorKind::OutcomeUnknown) } else { Ok(CommitOutcome::Committed(expected)) };
            assert_eq!((outcome.map_err(|error| error.kind), times), (right, 1), "{what}");
        }
    }
}

#[test]
fn a_database_that_takes_connections_and_says_nothing_is_given_up_on() {
    let Some(bench) = Bench::new() else { return };
    bench.proxy.set_door(Door::Silent);
    let url = bench.database.url_through(bench.proxy.port());
    let settings = PostgresSettings { connect_timeout_ms: 200, ..PostgresSettings::default() };
    let (sender, opened) = channel();
    std::thread::spawn(move || sender.send(PostgresStore::open(&url, &settings).map(drop)));
    let opened = opened.recv_timeout(PATIENCE).expect("it does not wait for ever");
    let error = opened.expect_err("there is no database");
    assert_eq!(error.kind, StoreErrorKind::Unusable);
    assert!(error.message.contains("could not connect"), "{error}");
}

#[test]
fn to_find_out_what_became_of_a_commit_takes_no_longer_than_the_commit_may() {
    let Some(bench) = Bench::new() else { return };
    let mut commits = Commits::new(&bench, Shape::One);
    let total = commits.measure();
    // How much is answered, from the cut on, to who asks what became of the commit.
    bench.proxy.arm(Direction::Answer, 0, Fault::Cut);
    let before = bench.proxy.passed();
    assert!(commits.disturbed(PATIENCE).0.is_ok());
    let answers = bench.proxy.passed()[1] - before[1] - total[1];

    commits.undisturbed();
    bench.proxy.arm(Direction::Answer, 0, Fault::Cut);
    bench.proxy.arm(Direction::Answer, answers - 10, Fault::Swallow);
    let commit = commits.next(Duration::from_secs(1));
    let (sender, ended) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send(bench.broken.commit(commit)));
        let ended = ended.recv_timeout(PATIENCE / 3);
        bench.proxy.sever();
        assert!(bench.proxy.has_happened(PATIENCE), "nothing happened");
        let error = ended.expect("it ends in its time").expect_err("nothing was heard of it");
        assert_eq!(error.kind, StoreErrorKind::OutcomeUnknown, "{error}");
    });
    assert_eq!(bench.times(&commits.name(), &request_id(&commits.name(), commits.number)), 1);
}
