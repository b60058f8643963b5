//! Callers and readers of several servers, and what must hold afterwards, whatever happened to servers and database.
//!
//! Each call makes a change that no other call makes, so that the log shows of each whether it is there once, twice, in part
//! or not at all.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use convgroups_host::events::{Event, FullState};
use convgroups_host::model::{Change, ConversationData, DeletionReason, GroupState, LoggedChange, UserState};
use convgroups_host::store::{Changes, MAX_BATCH, Store};
use convgroups_host::{UserId, Version};
use reqwest::blocking::RequestBuilder;
use serde_json::{Value, json};

use crate::server::{ADMIN, EventStream, client, rest_path, sign};
use crate::user;

/// The group that every user has from the start.
const ALL: &str = "All";
/// The group that is created when everything else has ended.
const LAST: &str = "Last";

/// What a caller knows of a call's change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is there.
    Done,
    /// It is not there, and will not be.
    Nothing,
    /// Nothing.
    Unknown,
}

/// A call, and what became of it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Who called.
    pub user: UserId,
    /// What the log has of it if it was done.
    pub events: Vec<Change>,
    /// What was answered.
    pub outcome: Outcome,
}

/// The servers that there are at the moment, each by its base URL.
#[derive(Debug, Default)]
pub struct Servers(Mutex<Vec<String>>);

impl Servers {
    /// Another one.
    pub fn add(&self, base: &str) {
        self.list().push(base.to_owned());
    }

    /// One that is no more.
    pub fn remove(&self, base: &str) {
        self.list().retain(|known| known != base);
    }

    fn any(&self, random: &mut fastrand::Rng) -> String {
        let list = self.list();
        random.choice(list.iter()).expect("there is always one").clone()
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One round: some users, callers that change their groups, readers that watch.
#[derive(Debug)]
pub struct Round<'a> {
    servers: &'a Servers,
    seed: u64,
    users: Vec<UserId>,
    stopping: AtomicBool,
    acknowledged: AtomicU32,
}

impl<'a> Round<'a> {
    /// A round with users of its own, named after the seed.
    #[must_use]
    pub fn new(servers: &'a Servers, seed: u64, users: usize) -> Self {
        let users = (0..users).map(|number| user(&format!("{seed}/{number}"))).collect();
        Self { servers, seed, users, stopping: AtomicBool::new(false), acknowledged: AtomicU32::new(0) }
    }

    /// How many changes were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> u32 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Runs this many callers, and readers of every user, while something happens; then lets them end, and compares what they
    /// were told with what a store has. Answers how many calls ended in each way.
    ///
    /// # Panics
    ///
    /// When something does not hold.
    pub fn run(&self, callers: u64, store: &dyn Store, settled: impl Fn(), meanwhile: impl FnOnce()) -> [usize; 3] {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut asked: Vec<Asked> = self.users.iter().map(|user| self.insist(user, ALL, &mut random)).collect();
        let seen: Vec<Vec<Event>> = std::thread::scope(|scope| {
            let readers: Vec<_> = self
                .users
                .iter()
                .map(|user| {
                    let random = random.fork();
                    scope.spawn(move || self.follow(user, random))
                })
                .collect();
            let callers: Vec<_> = (0..callers)
                .map(|caller| {
                    let random = random.fork();
                    scope.spawn(move || self.call(caller, random))
                })
                .collect();
            // What has failed must not leave the callers calling.
            let stop = Stop(&self.stopping);
            meanwhile();
            drop(stop);
            asked.extend(callers.into_iter().flat_map(|caller| caller.join().expect("a caller fails")));
            asked.extend(self.users.iter().map(|user| self.insist(user, LAST, &mut random)));
            readers.into_iter().map(|reader| reader.join().expect("a reader fails")).collect()
        });
        settled();
        for (user, seen) in self.users.iter().zip(seen) {
            let asked: Vec<&Asked> = asked.iter().filter(|asked| asked.user == *user).collect();
            let log = compare(store, user, &asked, format_args!("seed {}", self.seed));
            compare_events(&seen, &log, self.seed, user);
        }
        [Outcome::Done, Outcome::Nothing, Outcome::Unknown]
            .map(|outcome| asked.iter().filter(|asked| asked.outcome == outcome).count())
    }

    /// Creates a group, trying until it is there.
    fn insist(&self, user: &UserId, name: &str, random: &mut fastrand::Rng) -> Asked {
        let client = client();
        let id = format!("c2c_{name}");
        let body = json!({ "groupName": name, "conversationIDList": [id] });
        for _ in 0..1000 {
            let request = client.post(format!("{}/v1/createConversationGroup", self.servers.any(random)));
            let (outcome, code) = outcome(request.bearer_auth(sign(user.as_str())).body(body.to_string()));
            // That the name is taken means that it was created by a call before.
            if outcome == Outcome::Done || code == Some(50002) {
                let events = vec![Change::GroupCreated { group_name: name.to_owned(), conversation_list: vec![id] }];
                return Asked { user: user.clone(), events, outcome: Outcome::Done };
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        unreachable!("seed {}: no server takes calls", self.seed)
    }

    /// Calls until it is time to stop.
    fn call(&self, caller: u64, mut random: fastrand::Rng) -> Vec<Asked> {
        let client = client();
        let mut asked = Vec::new();
        // What was added and created, and can be taken away again: each only once.
        let mut added: HashMap<UserId, Vec<Vec<String>>> = HashMap::new();
        let mut created: HashMap<UserId, Vec<String>> = HashMap::new();
        let mut number = 0;
        while !self.stopping.load(Ordering::Relaxed) {
            number += 1;
            let name = format!("{caller}_{number}");
            let ids = |count: usize| (0..count).map(|place| format!("c2c_{name}_{place}")).collect::<Vec<_>>();
            let caller = random.choice(self.users.iter()).expect("there are some").clone();
            let (added, created) =
                (added.entry(caller.clone()).or_default(), created.entry(caller.clone()).or_default());
            let base = self.servers.any(&mut random);
            let sdk = |method: &str, body: &Value| {
                let request = client.post(format!("{base}/v1/{method}")).bearer_auth(sign(caller.as_str()));
                outcome(request.body(body.to_string())).0
            };
            let all = ALL.to_owned();
            let (events, outcome) = match random.u8(..8) {
                0..3 => {
                    let ids = ids(random.usize(1..30));
                    let body = json!({ "groupName": ALL, "conversationIDList": ids });
                    let outcome = sdk("addConversationsToGroup", &body);
                    if outcome == Outcome::Done {
                        added.push(ids.clone());
                    }
                    (vec![Change::ConversationsAdded { group_name: all, conversation_list: ids }], outcome)
                }
                3 => {
                    let ids = ids(random.usize(1..10));
                    let body = json!({ "groupName": name, "conversationIDList": ids });
                    let outcome = sdk("createConversationGroup", &body);
                    if outcome == Outcome::Done {
                        created.push(name.clone());
                    }
                    (vec![Change::GroupCreated { group_name: name, conversation_list: ids }], outcome)
                }
                4 if !created.is_empty() => {
                    let old_name = created.remove(0);
                    let body = json!({ "oldName": old_name, "newName": name });
                    let outcome = sdk("renameConversationGroup", &body);
                    match outcome {
                        Outcome::Done => created.push(name.clone()),
                        Outcome::Nothing => created.push(old_name.clone()),
                        Outcome::Unknown => {}
                    }
                    (vec![Change::GroupRenamed { old_name, new_name: name }], outcome)
                }
                5 => {
                    let ids = ids(random.usize(1..10));
                    let body = json!({ "customData": name, "conversationIDList": ids });
                    let conversation_list = ids
                        .into_iter()
                        .map(|id| ConversationData { custom_data: name.clone(), ..ConversationData::none(id) })
                        .collect();
                    let outcome = sdk("setConversationCustomData", &body);
                    (vec![Change::ConversationsChanged { conversation_list }], outcome)
                }
                // Two changes in one transaction, or one.
                _ => {
                    let new = ids(random.usize(1..10));
                    let old = added.pop().unwrap_or_default();
                    let item = |operation: u8, id: &String| {
                        let account = id.strip_prefix("c2c_").expect("all are");
                        json!({ "ContactOptType": operation, "ContactItem": { "Type": 1, "To_Account": account } })
                    };
                    let items = new.iter().map(|id| item(1, id)).chain(old.iter().map(|id| item(2, id)));
                    let body = json!({
                        "From_Account": caller.as_str(),
                        "UpdateType": 1,
                        "UpdateGroup": {
                            "UpdateGroupType": 2,
                            "OldGroupName": ALL,
                            "ContactUpdateItem": items.collect::<Vec<_>>(),
                        },
                    });
                    let path = rest_path("update_contact_group", ADMIN, &sign(ADMIN));
                    let outcome = outcome(client.post(format!("{base}{path}")).body(body.to_string())).0;
                    let mut events =
                        vec![Change::ConversationsAdded { group_name: all.clone(), conversation_list: new.clone() }];
                    if !old.is_empty() {
                        events.push(Change::ConversationsDeleted {
                            group_name: all,
                            conversation_list: old.clone(),
                            reason: DeletionReason::Requested,
                        });
                    }
                    match outcome {
                        Outcome::Done => added.push(new),
                        Outcome::Nothing if !old.is_empty() => added.push(old),
                        _ => {}
                    }
                    (events, outcome)
                }
            };
            if outcome == Outcome::Done {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            asked.push(Asked { user: caller, events, outcome });
        }
        asked
    }

    /// Reads a user's events, from whichever server there is and on from where it was cut off, to the last.
    fn follow(&self, user: &UserId, mut random: fastrand::Rng) -> Vec<Event> {
        let client = client();
        let mut seen: Vec<Event> = Vec::new();
        loop {
            let after = seen.last().map_or(Version(0), Event::version);
            let request = client.get(format!("{}/v1/events?after=0", self.servers.any(&mut random)));
            let request = request.bearer_auth(sign(user.as_str())).header("last-event-id", after.0);
            let Some(response) = request.send().ok().filter(|response| response.status() == 200) else {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            };
            let mut stream = EventStream::from(response);
            while let Some(sent) = stream.next_event().filter(|sent| sent.event != "end") {
                let event: Event = serde_json::from_value(sent.data).expect("an event");
                assert_eq!(Some(event.version().0), sent.id, "seed {}: an event's id is its version", self.seed);
                let is_last = match &event {
                    Event::Change(change) => change
                        .events
                        .iter()
                        .any(|event| matches!(event, Change::GroupCreated { group_name, .. } if group_name == LAST)),
                    Event::Full(full) => full.groups.iter().any(|group| group.group_name == LAST),
                };
                seen.push(event);
                if is_last {
                    return seen;
                }
            }
        }
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends a call of either API. What it was answered, and with which code.
fn outcome(request: RequestBuilder) -> (Outcome, Option<i64>) {
    let response = match request.send() {
        Ok(response) => response,
        Err(error) if error.is_connect() => return (Outcome::Nothing, None),
        Err(error) => {
            assert!(!error.is_timeout(), "nothing is answered: {error}");
            return (Outcome::Unknown, None);
        }
    };
    let status = response.status();
    let Ok(body) = response.text() else { return (Outcome::Unknown, None) };
    let answer: Value = serde_json::from_str(&body).expect("answers are JSON");
    let code = answer.get("code").or_else(|| answer.get("ErrorCode")).and_then(Value::as_i64).expect("a code");
    let reason = answer.get("desc").or_else(|| answer.get("ErrorInfo")).and_then(Value::as_str).unwrap_or_default();
    let outcome = match code {
        0 => Outcome::Done,
        50004 if reason.contains("whether the change was kept is not known") => Outcome::Unknown,
        50004 | 50005 | 60018 => {
            // A call that is rejected before it runs needs no statement that nothing was changed.
            let promised = reason.contains("nothing was changed")
                || reason.contains("too many")
                || reason.contains("the server is stopping");
            assert!(promised, "{status}: {body}");
            Outcome::Nothing
        }
        50002 => Outcome::Nothing,
        _ => unreachable!("no call is refused: {status}: {body}"),
    };
    (outcome, Some(code))
}

/// A user's whole log, as long as it was never trimmed.
///
/// # Panics
///
/// When it cannot be read.
#[must_use]
pub fn whole_log(store: &dyn Store, user: &UserId) -> Vec<LoggedChange> {
    let mut log: Vec<LoggedChange> = Vec::new();
    loop {
        let after = log.last().map_or(Version(0), |change| change.version);
        match store.changes(user, after, MAX_BATCH).expect("the log can be read") {
            Changes::Since(more) if more.is_empty() => return log,
            Changes::Since(more) => log.extend(more),
            Changes::Full(_) => unreachable!("the log was not trimmed"),
        }
    }
}

/// The log has what it should, and the state is what the log says. Answers the log.
///
/// # Panics
///
/// When it is not so, with what was run.
pub fn compare(store: &dyn Store, user: &UserId, asked: &[&Asked], run: impl Display) -> Vec<LoggedChange> {
    let log = whole_log(store, user);
    let versions: Vec<u64> = log.iter().map(|change| change.version.0).collect();
    let expected: Vec<u64> = (1..=log.len() as u64).collect();
    assert_eq!(versions, expected, "{run}, {user}: versions without gap or repeat");
    let key = |events: &[Change]| serde_json::to_string(events).expect("JSON");
    let mut there: HashMap<String, u32> = HashMap::new();
    for change in &log {
        *there.entry(key(&change.events)).or_default() += 1;
    }
    for asked in asked {
        let times = there.remove(&key(&asked.events)).unwrap_or_default();
        let right = match asked.outcome {
            Outcome::Done => times == 1,
            Outcome::Nothing => times == 0,
            Outcome::Unknown => times <= 1,
        };
        assert!(right, "{run}: {asked:?} is there {times} times");
    }
    assert!(there.is_empty(), "{run}, {user}: nobody asked for all of {there:?}, and nothing else");
    let state = store.state(user).expect("it can be read");
    assert_eq!(state.version.0, log.len() as u64, "{run}, {user}: the version counts the changes");
    assert_eq!(state.value, replay(&log), "{run}, {user}: the state is what the log says");
    log
}

/// What a reader saw is the log, each change once and in order; or it was given the state, and the log from there.
fn compare_events(seen: &[Event], log: &[LoggedChange], seed: u64, user: &UserId) {
    let mut at = 0;
    for event in seen {
        match event {
            Event::Change(change) => {
                assert_eq!(change.version.0, at as u64 + 1, "seed {seed}, {user}: a reader misses nothing");
                assert_eq!(Some(change), log.get(at), "seed {seed}, {user}: a reader sees what is in the log");
                at += 1;
            }
            Event::Full(FullState { version, groups, conversations, .. }) => {
                at = usize::try_from(version.0).expect("small");
                let state = UserState { groups: groups.clone(), conversations: conversations.clone() };
                assert_eq!(state, replay(log.get(..at).expect("as far as that")), "seed {seed}, {user}");
            }
        }
    }
    assert_eq!(at, log.len(), "seed {seed}, {user}: a reader has seen everything");
}

/// What a user's changes lead to.
///
/// # Panics
///
/// When they do not fit one another.
#[must_use]
pub fn replay(log: &[LoggedChange]) -> UserState {
    let mut state = UserState::default();
    log.iter().flat_map(|change| &change.events).for_each(|change| apply(&mut state, change));
    state
}

/// What a change makes of a state.
///
/// # Panics
///
/// When it does not fit.
pub fn apply(state: &mut UserState, change: &Change) {
    let named = |groups: &[GroupState], name: &str| {
        let place = groups.iter().position(|group| group.group_name == name);
        place.expect("only groups that are there are changed")
    };
    let groups = &mut state.groups;
    match change.clone() {
        Change::GroupCreated { group_name, conversation_list } => {
            groups.push(GroupState { group_name, conversation_id_list: conversation_list });
        }
        Change::GroupDeleted { group_name } => drop(groups.remove(named(groups, &group_name))),
        Change::GroupRenamed { old_name, new_name } => {
            let place = named(groups, &old_name);
            groups[place].group_name = new_name;
        }
        Change::ConversationsAdded { group_name, conversation_list } => {
            let place = named(groups, &group_name);
            groups[place].conversation_id_list.extend(conversation_list);
        }
        Change::ConversationsDeleted { group_name, conversation_list, .. } => {
            let place = named(groups, &group_name);
            groups[place].conversation_id_list.retain(|id| !conversation_list.contains(id));
        }
        Change::ConversationsChanged { conversation_list } => {
            for data in conversation_list {
                let conversations = &mut state.conversations;
                let known = conversations.iter().position(|known| known.conversation_id == data.conversation_id);
                match known {
                    Some(place) if data.is_none() => drop(conversations.remove(place)),
                    Some(place) => conversations[place] = data,
                    None => conversations.push(data),
                }
            }
        }
    }
}

/// A number from the environment, or this.
///
/// # Panics
///
/// When what is there is no number.
#[must_use]
pub fn number_from(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |value| value.parse().expect("a number"))
}

/// Runs rounds, each with a seed of its own, which is told; `FAULT_SEED` sets the first, `FAULT_ROUNDS` how many.
pub fn rounds(what: &str, count: u64, mut round: impl FnMut(u64)) {
    let count = number_from("FAULT_ROUNDS", count);
    let first = number_from("FAULT_SEED", fastrand::u64(..1 << 32));
    println!("{what}: {count} rounds; to repeat: FAULT_SEED={first} FAULT_ROUNDS={count}");
    for seed in first..first + count {
        println!("{what}: seed {seed}");
        round(seed);
    }
}
