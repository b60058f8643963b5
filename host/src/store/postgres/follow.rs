//! Learning of what other hosts commit, and telling them.
//!
//! The log is the truth, and a host looks twice a second at the versions of the users that are watched. Notifications only make
//! it sooner: a host tells the others which users changed, a few dozen times a second at most and after the commits, for a
//! notification inside a commit's transaction would make all commits of the database wait for one another. It may get lost
//! with its host, and a pooler swallows it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::sleep;
use tokio_postgres::types::Type;

use super::statement::Statement;
use super::{Shared, read};
use crate::model::{History, UserId};
use crate::store::{StoreResult, Watchers};

/// How often the versions are looked at.
const POLL: Duration = Duration::from_millis(500);
/// How long commits are collected for one notification.
const COLLECT: Duration = Duration::from_millis(20);
/// How long to wait before listening is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// The most bytes of a notification; PostgreSQL allows 8000.
const MAX_PAYLOAD: usize = 7900;
/// The most users whose versions are asked for at once.
const MAX_USERS: usize = 1000;

/// What a store knows of its users' changes.
#[derive(Debug)]
pub(super) struct News {
    pub(super) watchers: Arc<Watchers>,
    /// The versions that watched users were last seen at.
    seen: Mutex<HashMap<UserId, i64>>,
    /// The history that was last seen.
    history: Mutex<Option<History>>,
    /// Users that this host has changed. Nothing where nobody is told.
    changed: Option<UnboundedSender<UserId>>,
    notify: Statement,
}

impl News {
    /// And where the users that are changed come out, if they are to be told of.
    pub(super) fn new(tell: bool) -> (Self, Option<UnboundedReceiver<UserId>>) {
        let (sender, receiver) = unbounded_channel();
        let news = Self {
            watchers: Arc::default(),
            seen: Mutex::default(),
            history: Mutex::default(),
            changed: tell.then_some(sender),
            notify: Statement::new(
                // Nothing is lost with it that would not be found all the same, so that it need not be flushed.
                "SELECT TAG, set_config('synchronous_commit', 'off', true), pg_notify('convgroups', $1)",
                &[Type::TEXT],
            ),
        };
        (news, tell.then_some(receiver))
    }

    /// Tells those who watch the user here, and in a moment those on other hosts.
    pub(super) fn committed(&self, user: &UserId) {
        self.watchers.notify(user);
        if let Some(changed) = &self.changed {
            // Who would tell the others has stopped only when the store is going.
            let _ = changed.send(user.clone());
        }
    }
}

/// Tells other hosts of changes, until the store is gone.
pub(super) async fn tell(store: Weak<Shared>, mut changed: UnboundedReceiver<UserId>) {
    let mut users = Vec::new();
    while changed.recv_many(&mut users, usize::MAX).await > 0 {
        let Some(shared) = store.upgrade() else { return };
        users.sort_unstable();
        users.dedup();
        for payload in payloads(&users) {
            if let Err(error) = shared.read(&shared.news.notify, &[&payload], |_| Ok(())).await {
                // They will look for themselves.
                tracing::debug!(%error, "could not tell other hosts of a change");
            }
        }
        users.clear();
        drop(shared);
        sleep(COLLECT).await;
    }
}

/// Lists of users as JSON, each small enough for a notification.
fn payloads(users: &[UserId]) -> Vec<String> {
    let mut payloads: Vec<String> = Vec::new();
    for user in users {
        let user = serde_json::Value::from(user.as_str()).to_string();
        match payloads.last_mut().filter(|payload| payload.len() + user.len() < MAX_PAYLOAD) {
            Some(payload) => {
                payload.push(',');
                payload.push_str(&user);
            }
            None => payloads.push(format!("[{user}")),
        }
    }
    payloads.iter_mut().for_each(|payload| payload.push(']'));
    payloads
}

/// Listens to other hosts, until the store is gone.
pub(super) async fn listen(store: Weak<Shared>) {
    loop {
        let Some(shared) = store.upgrade() else { return };
        let address = Arc::clone(&shared.address);
        drop(shared);
        let (notified, notifications) = unbounded_channel();
        match address.connect(Some(notified)).await {
            Ok((client, connection)) => {
                match client.batch_execute("LISTEN convgroups").await {
                    Ok(()) => hear(&store, notifications).await,
                    Err(error) => tracing::debug!(%error, "could not listen"),
                }
                connection.abort();
            }
            Err(error) => tracing::debug!(%error, "could not connect to listen"),
        }
        sleep(AGAIN).await;
    }
}

/// Passes notifications on, until the connection or the store is gone.
async fn hear(store: &Weak<Shared>, mut notifications: UnboundedReceiver<String>) {
    while let Some(payload) = notifications.recv().await {
        let Some(shared) = store.upgrade() else { return };
        pass_on(&shared.news.watchers, &payload);
    }
}

fn pass_on(watchers: &Watchers, payload: &str) {
    // Anybody can send anything.
    let Ok(users) = serde_json::from_str::<Vec<UserId>>(payload) else { return };
    users.iter().for_each(|user| watchers.notify(user));
}

/// Looks at the versions of watched users, until the store is gone.
pub(super) async fn poll(store: Weak<Shared>) {
    loop {
        sleep(POLL).await;
        let Some(shared) = store.upgrade() else { return };
        if let Err(error) = look(&shared).await {
            tracing::debug!(%error, "could not look for changes of other hosts");
        }
    }
}

/// Wakes those who watch a user whose version is not what it was, and everybody when a new history has begun.
async fn look(shared: &Shared) -> StoreResult<()> {
    let news = &shared.news;
    let watched = news.watchers.watched();
    if watched.is_empty() {
        news.seen.lock().clear();
        return Ok(());
    }
    let history = shared.settle_history().await?;
    if std::mem::replace(&mut *news.history.lock(), history) != history {
        watched.iter().for_each(|user| news.watchers.notify(user));
    }
    for some in watched.chunks(MAX_USERS) {
        let ids: Vec<&str> = some.iter().map(UserId::as_str).collect();
        let found = shared.read(&shared.questions.versions, &[&ids], read::versions).await?;
        let found: HashMap<String, i64> = found.into_iter().collect();
        for user in some {
            let version = found.get(user.as_str()).copied().unwrap_or_default();
            // A user that is seen for the first time may have changed between the watcher's first look and this one.
            if news.seen.lock().insert(user.clone(), version) != Some(version) {
                news.watchers.notify(user);
            }
        }
    }
    let watched: std::collections::HashSet<UserId> = watched.into_iter().collect();
    news.seen.lock().retain(|user, _| watched.contains(user));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_users_are_cut_to_what_a_notification_holds() {
        let users: Vec<UserId> =
            (0..200).map(|number| UserId::new(format!("{number:0>200}\"é")).expect("valid")).collect();
        let payloads = payloads(&users);
        assert!(payloads.len() > 4 && payloads.iter().all(|payload| payload.len() < 8000));
        let read: Vec<UserId> =
            payloads.iter().flat_map(|payload| serde_json::from_str::<Vec<UserId>>(payload).expect("JSON")).collect();
        assert_eq!(read, users);
        assert!(super::payloads(&[]).is_empty());
    }
}
