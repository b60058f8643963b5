//! One host's process: callers of a host with the sandboxed plugin, or of plain statements.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use convgroups_host::api::{AddConversationsToGroup, DeleteConversationsFromGroup, Request};
use convgroups_host::settings::PostgresSettings;
use convgroups_host::{Failure as CallFailure, Host, HostFault, PostgresStore, Settings, UserId};
use convgroups_tests::gated::GatedStore;
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::database::{GROUPS, IDS, KEPT, Times};
use crate::naive::Naive;

/// The first argument of a host's process.
pub(crate) const ARGUMENT: &str = "host";
/// The line with which it says that it takes orders.
pub(crate) const READY: &str = "ready";

/// Conversations of a call.
const AT_ONCE: u32 = 10;

/// What a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Shape {
    Naive,
    NaiveNotifying,
    Store,
    StoreUnprepared,
}

impl Shape {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Naive => "plain statements",
            Self::NaiveNotifying => "with NOTIFY",
            Self::Store => "convgroups",
            Self::StoreUnprepared => "unprepared",
        }
    }
}

/// What to do for a round.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Users to choose from.
    pub(crate) users: u32,
    /// The number of this host's first caller among all.
    pub(crate) first_caller: u32,
    pub(crate) callers: u32,
    /// Callers of all hosts together.
    pub(crate) all_callers: u32,
    pub(crate) millis: u64,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) times_us: Vec<u64>,
    pub(crate) elapsed_us: u64,
    pub(crate) cpu_us: Option<u64>,
    pub(crate) trips: u64,
    pub(crate) reruns: u64,
    /// Calls that were given up after too many reruns.
    pub(crate) failed: u64,
}

enum Subject {
    Naive(Box<Naive>),
    Host(Host, Arc<GatedStore>),
}

impl Subject {
    /// How often the database was asked so far: a read is a round trip, and so is a commit of one change.
    fn trips(&self) -> u64 {
        match self {
            Self::Naive(naive) => naive.trips(),
            Self::Host(_, store) => store.asked(),
        }
    }
}

/// Works off orders from standard input until it ends.
pub(crate) fn serve(shape: Shape, url: &str) -> Result<(), Failure> {
    let subject = match shape {
        Shape::Naive | Shape::NaiveNotifying => {
            Subject::Naive(Box::new(Naive::connect(url, shape == Shape::NaiveNotifying)?))
        }
        Shape::Store | Shape::StoreUnprepared => {
            let mut settings = Settings::default();
            settings.events.keep_per_user = KEPT;
            let postgres = PostgresSettings { prepare: shape == Shape::Store, ..PostgresSettings::default() };
            let store = GatedStore::new(Arc::new(PostgresStore::open(url, &postgres)?));
            Subject::Host(Host::builder().settings(settings).store(store.clone()).build()?, store)
        }
    };
    let mut output = std::io::stdout();
    writeln!(output, "{READY}")?;
    for line in std::io::stdin().lock().lines() {
        let report = work(&subject, &serde_json::from_str(&line?)?)?;
        writeln!(output, "{}", serde_json::to_string(&report)?)?;
    }
    Ok(())
}

fn work(subject: &Subject, order: &Order) -> Result<Report, Failure> {
    let cpu = || Times::of(std::process::id()).map(|times| times.own);
    let (reruns, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let (cpu_before, trips_before, started) = (cpu(), subject.trips(), Instant::now());
    let deadline = started + Duration::from_millis(order.millis);
    let results: Vec<Result<Vec<u64>, Failure>> = std::thread::scope(|scope| {
        let caller = |number| {
            let caller = Caller { subject, order, number, reruns: &reruns, failed: &failed };
            scope.spawn(move || caller.work(deadline))
        };
        let callers: Vec<_> = (order.first_caller..order.first_caller + order.callers).map(caller).collect();
        callers.into_iter().map(|caller| caller.join().unwrap_or_else(|_| Err("a caller panicked".into()))).collect()
    });
    let elapsed_us = micros(started.elapsed());
    let cpu_us = cpu().zip(cpu_before).map(|(after, before)| after - before);
    let trips = subject.trips() - trips_before;
    let mut times_us = Vec::new();
    for result in results {
        times_us.extend(result?);
    }
    let (reruns, failed) = (reruns.into_inner(), failed.into_inner());
    Ok(Report { times_us, elapsed_us, cpu_us, trips, reruns, failed })
}

/// Takes conversations out of a group and puts them back, in turn.
struct Caller<'a> {
    subject: &'a Subject,
    order: &'a Order,
    number: u32,
    reruns: &'a AtomicU64,
    failed: &'a AtomicU64,
}

impl Caller<'_> {
    fn work(&self, deadline: Instant) -> Result<Vec<u64>, Failure> {
        let mut times = Vec::new();
        // Ends after an addition, so that the next round finds everything in its place.
        while Instant::now() < deadline {
            let (user, deletion) = self.choose()?;
            let addition = AddConversationsToGroup::new(deletion.group_name.as_str(), &deletion.conversation_id_list);
            for request in [deletion.into(), addition.into()] {
                let started = Instant::now();
                self.call(&user, &request)?;
                times.push(micros(started.elapsed()));
            }
        }
        Ok(times)
    }

    fn call(&self, user: &UserId, request: &Request) -> Result<(), Failure> {
        match self.subject {
            Subject::Naive(naive) => naive.call(user, request),
            Subject::Host(host, _) => match host.call(user, request) {
                Ok(reply) => {
                    self.reruns.fetch_add(u64::from(reply.attempts - 1), Ordering::Relaxed);
                    Ok(())
                }
                Err(error) if matches!(error.failure, CallFailure::Host(HostFault::Busy { .. })) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Where there are fewer users than callers, each caller has conversations of its own, so that every call changes something.
    fn choose(&self) -> Result<(UserId, DeleteConversationsFromGroup), Failure> {
        let parts_of_group = IDS / AT_ONCE;
        let users = self.order.users;
        let (user, part) = if users > self.order.all_callers {
            (fastrand::u32(..users), fastrand::u32(..GROUPS * parts_of_group))
        } else {
            (self.number % users, self.number / users)
        };
        let first = part % parts_of_group * AT_ONCE;
        let group_name = format!("Group {}", part / parts_of_group % GROUPS + 1);
        let ids = (first..first + AT_ONCE).map(|id| format!("c2c_user_{id}"));
        Ok((UserId::new(format!("user-{user}"))?, DeleteConversationsFromGroup::new(group_name, ids)))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
