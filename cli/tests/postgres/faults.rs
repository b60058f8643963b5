//! Several hosts on one database, under load, while hosts are killed, the database goes down and connections break: what
//! was acknowledged is there once, what was not is there as a whole or not at all, and readers miss nothing.

use std::collections::HashMap;
use std::time::Duration;

use convgroups_host::api::{AnyResult, Request};
use convgroups_host::settings::{Limits, PostgresSettings, WhenFull};
use convgroups_host::store::Store;
use convgroups_host::{PostgresStore, UserId};
use convgroups_tests::load::{Round, Servers, replay, rounds, whole_log};
use convgroups_tests::model::{Model, some_change, without_reasons};
use convgroups_tests::proxy::{Direction, Fault, Proxy};
use convgroups_tests::server::{Reply, client, eventually, sign};
use convgroups_tests::user;
use postgres_for_tests::{Database, Server};
use serde_json::{Value, json};

use crate::processes::Serving;

const CALLERS: u64 = 6;
const USERS: usize = 3;
/// More than any round needs.
const SETTINGS: [&str; 5] = [
    "events.keep_per_user=100000",
    "limits.max_groups=1000",
    "limits.max_conversations_per_group=1000000",
    "limits.max_marked_conversations=1000000",
    "calls.max_attempts=1000",
];

/// Hosts on one database, and a store to look at it with.
struct Fleet {
    hosts: Vec<Serving>,
    servers: Servers,
    store: PostgresStore,
    url: String,
    database: Database,
}

impl Fleet {
    /// This many hosts, by way of `port`.
    fn new(server: &Server, port: u16, hosts: usize) -> Self {
        let database = server.create_database();
        let settings = PostgresSettings { max_connections: 2, timeout_ms: 60_000, ..PostgresSettings::default() };
        let store = PostgresStore::open(database.url(), &settings).expect("it opens");
        let url = database.url_through(port);
        let mut fleet = Self { hosts: Vec::new(), servers: Servers::default(), store, url, database };
        for _ in 0..hosts {
            fleet.start();
        }
        fleet
    }

    fn start(&mut self) {
        let host = Serving::start(&self.url, &SETTINGS);
        self.servers.add(&host.base);
        self.hosts.push(host);
    }

    /// A round in which this happens; it is given what tells how many changes were acknowledged so far. The fleet is as large
    /// afterwards as it was before.
    fn round(&mut self, seed: u64, fault: impl FnOnce(&mut Vec<Serving>, &Servers, &dyn Fn(u32))) -> [usize; 3] {
        let Self { hosts, servers, store, database, .. } = self;
        let round = Round::new(servers, seed, USERS);
        let settled = || settle(database);
        round.run(CALLERS, store, settled, || {
            fault(hosts, servers, &|more| {
                let target = round.acknowledged() + more;
                eventually("changes are acknowledged", || round.acknowledged() >= target);
            });
        })
    }
}

/// Waits until the database does nothing any more: what comes late has come.
fn settle(database: &Database) {
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' \
                AND pid <> pg_backend_pid() AND query !~ 'pg_notify|ANY\\(\\$1\\)'";
    eventually("the database is idle", || database.query(busy) == ["0"]);
}

/// How calls ended, all rounds together.
#[derive(Debug, Default)]
struct Total {
    done: usize,
    nothing: usize,
    unknown: usize,
}

impl Total {
    fn add(&mut self, [done, nothing, unknown]: [usize; 3]) {
        self.done += done;
        self.nothing += nothing;
        self.unknown += unknown;
    }
}

#[test]
fn hosts_are_killed() {
    let Some(server) = Server::start() else { return };
    let mut fleet = Fleet::new(&server, server.port(), 3);
    let mut total = Total::default();
    rounds("hosts are killed", 60, |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let url = fleet.url.clone();
        total.add(fleet.round(seed, |hosts, servers, acknowledge| {
            for _ in 0..random.u8(1..3) {
                acknowledge(random.u32(1..25));
                std::thread::sleep(Duration::from_micros(random.u64(..3000)));
                let place = random.usize(..hosts.len());
                hosts[place].kill();
                servers.remove(&hosts[place].base);
                hosts[place] = Serving::start(&url, &SETTINGS);
                servers.add(&hosts[place].base);
            }
            acknowledge(10);
        }));
    });
    println!("{total:?}");
}

#[test]
fn the_database_goes_down_and_comes_back() {
    let Some(mut server) = Server::start() else { return };
    let mut fleet = Fleet::new(&server, server.port(), 2);
    let mut total = Total::default();
    rounds("the database goes down", 40, |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        total.add(fleet.round(seed, |_, _, acknowledge| {
            acknowledge(random.u32(1..25));
            std::thread::sleep(Duration::from_micros(random.u64(..3000)));
            if random.bool() {
                server.crash();
            } else {
                server.stop();
            }
            std::thread::sleep(Duration::from_millis(random.u64(..50)));
            server.resume();
            acknowledge(10);
        }));
    });
    println!("{total:?}");
}

#[test]
fn the_database_ends_connections_and_cancels_statements() {
    let Some(server) = Server::start() else { return };
    let mut fleet = Fleet::new(&server, server.port(), 2);
    let admin = server.create_database();
    let name = fleet.database.query("SELECT current_database()").remove(0);
    let mut total = Total::default();
    rounds("connections are ended", 60, |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        total.add(fleet.round(seed, |_, _, acknowledge| {
            for _ in 0..random.u8(1..6) {
                acknowledge(random.u32(1..10));
                std::thread::sleep(Duration::from_micros(random.u64(..3000)));
                let function = if random.u8(..3) == 0 { "pg_cancel_backend" } else { "pg_terminate_backend" };
                let share = random.f64();
                let _ = admin.query(&format!(
                    "SELECT {function}(pid) FROM pg_stat_activity
                     WHERE datname = '{name}' AND state <> 'idle' AND random() <= {share}"
                ));
            }
            acknowledge(10);
        }));
    });
    println!("{total:?}");
}

#[test]
fn connections_break_at_any_byte() {
    let Some(server) = Server::start() else { return };
    let proxy = Proxy::start(server.port());
    let mut fleet = Fleet::new(&server, proxy.port(), 2);
    // Hears of what the others commit by a way that does not break.
    fleet.url = fleet.database.url().to_owned();
    fleet.start();
    let mut total = Total::default();
    rounds("connections break", 60, |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        total.add(fleet.round(seed, |_, _, acknowledge| {
            for _ in 0..random.u8(1..12) {
                let pause = Duration::from_millis(random.u64(..20));
                let (direction, fault) = match random.u8(..4) {
                    0 => (Direction::Request, Fault::Cut),
                    1 => (Direction::Answer, Fault::Cut),
                    2 => (Direction::Request, Fault::Late(pause)),
                    _ => (if random.bool() { Direction::Request } else { Direction::Answer }, Fault::Stall(pause)),
                };
                proxy.arm(direction, random.u64(..6000), fault);
            }
            acknowledge(random.u32(10..40));
            if random.u8(..4) == 0 {
                proxy.sever();
            }
            acknowledge(10);
            proxy.disarm();
        }));
    });
    println!("{total:?}");
}

#[test]
fn a_host_that_is_told_to_stop_while_the_database_is_away_stops() {
    let Some(mut server) = Server::start() else { return };
    let mut fleet = Fleet::new(&server, server.port(), 1);
    server.crash();
    let base = fleet.hosts[0].base.clone();
    let body = json!({ "groupName": "Work", "conversationIDList": ["c2c_bob"] }).to_string();
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8)
            .map(|number| {
                let request = client().post(format!("{base}/v1/createConversationGroup"));
                let request = request.bearer_auth(sign(&format!("user {number}"))).body(body.clone());
                scope.spawn(move || request.send())
            })
            .collect();
        let running = "convgroups_calls_running 8";
        let metric = || Reply::to(client().get(format!("{base}/metrics"))).body.lines().any(|line| line == running);
        eventually("all calls run", metric);
        fleet.hosts[0].terminate();
        assert_eq!(fleet.hosts[0].end().code(), Some(0));
        for call in calls {
            let answer = call.join().expect("no panic").expect("an answer");
            let answer: Value = serde_json::from_str(&answer.text().expect("text")).expect("JSON");
            assert_eq!(answer["code"], 50004, "{answer}");
            assert!(answer["desc"].as_str().expect("text").contains("nothing was changed"), "{answer}");
        }
    });
}

#[test]
fn what_callers_of_three_processes_do_to_one_user_equals_some_serial_order() {
    let Some(server) = Server::start() else { return };
    let limits = Limits {
        max_groups: 4,
        max_conversations_per_group: 12,
        max_marked_conversations: 8,
        max_custom_data_bytes: 3,
        when_full: WhenFull::EvictOldest,
        ..Limits::default()
    };
    let settings = [
        "limits.max_groups=4",
        "limits.max_conversations_per_group=12",
        "limits.max_marked_conversations=8",
        "limits.max_custom_data_bytes=3",
        "limits.when_full=\"evict-oldest\"",
        "events.keep_per_user=100000",
        "calls.max_attempts=1000",
        "calls.timeout_ms=60000",
        "server.max_calls_per_user=64",
    ];
    let database = server.create_database();
    let hosts: Vec<Serving> = (0..3).map(|_| Serving::start(database.url(), &settings)).collect();
    let alice = user("alice");
    let answered: HashMap<String, (Request, Value)> = std::thread::scope(|scope| {
        let (hosts, alice) = (&hosts, &alice);
        let callers: Vec<_> = (0..24)
            .map(|caller| scope.spawn(move || call_at_random(&hosts[caller % 3].base, alice, caller as u64)))
            .collect();
        callers.into_iter().flat_map(|caller| caller.join().expect("no panic")).collect()
    });

    let store = PostgresStore::open(database.url(), &PostgresSettings::default()).expect("it opens");
    let log = whole_log(&store, &alice);
    assert!(log.len() > 100, "too little happened to mean anything");
    let mut model = Model::default();
    for (place, change) in log.iter().enumerate() {
        assert_eq!(change.version.0, place as u64 + 1, "versions without gap or repeat");
        let (request, answer) = &answered[&change.origin.request_id];
        let expected = model.run(request, &limits).map(|answer| reply(&answer));
        assert_eq!(Ok(answer), expected.as_ref(), "{request:?} as change {place}");
    }
    let state = store.state(&alice).expect("reads");
    assert_eq!((state.version.0, &state.value), (log.len() as u64, &model.state()));
    assert_eq!(state.value, replay(&log));
    let met: u64 = hosts.iter().map(|host| conflicts(&host.base)).sum();
    assert!(met > 0, "the processes never met");
}

/// Calls of one caller: by the id of each that was answered with success, what was asked and what was answered.
fn call_at_random(base: &str, caller: &UserId, seed: u64) -> Vec<(String, (Request, Value))> {
    let mut random = fastrand::Rng::with_seed(seed);
    let client = client();
    let mut answered = Vec::new();
    for _ in 0..25 {
        let request = some_change(&mut random);
        let (method, params) = (request.method().name(), serde_json::to_string(&request).expect("JSON"));
        let sent = client.post(format!("{base}/v1/{method}")).bearer_auth(sign(caller.as_str())).body(params);
        let response = sent.send().expect("an answer");
        let id = response.headers()["x-request-id"].to_str().expect("text").to_owned();
        let mut answer: Value = serde_json::from_str(&response.text().expect("text")).expect("JSON");
        if answer["code"] == 0 {
            for result in answer.get_mut("data").and_then(Value::as_array_mut).into_iter().flatten() {
                if result["resultCode"] != 0 {
                    result["resultInfo"] = "malformed".into();
                }
            }
            answered.push((id, (request, answer)));
        } else {
            assert!(answer["code"].as_i64().is_some_and(|code| (50000..52000).contains(&code)), "{answer}");
            assert_ne!(answer["code"], 50004, "{answer}");
        }
    }
    answered
}

fn reply(answer: &AnyResult) -> Value {
    let answer = without_reasons(answer.clone());
    match answer {
        AnyResult::Done => json!({ "code": 0, "desc": "" }),
        answer => json!({ "code": 0, "desc": "", "data": answer }),
    }
}

/// How often calls of a server were run again.
fn conflicts(base: &str) -> u64 {
    let metrics = Reply::to(client().get(format!("{base}/metrics"))).body;
    let line = metrics.lines().find_map(|line| line.strip_prefix("convgroups_conflicts_total "));
    line.map_or(0, |value| value.parse().expect("a number"))
}
