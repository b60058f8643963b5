//! The store that any number of hosts share: PostgreSQL, or a database that speaks as it does.
//!
//! A read is one statement, a commit of one change is one statement, and no statement concerns more than one user. Commits
//! are not collected as they are for SQLite: the database itself lets commits of different connections share a flush.

mod commit;
mod connect;
mod follow;
mod history;
mod migrate;
mod read;
mod statement;
mod verify;

use std::cell::Cell;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deadpool_postgres::{Pool, PoolError};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Row};

use self::commit::{Commits, Prepared};
use self::connect::Address;
use self::follow::News;
use self::history::Histories;
use self::read::Questions;
use self::statement::{Lease, Params, Statement, Trouble};
use super::record::{self, Encoded};
use super::{
    Changes, Commit, CommitOutcome, GroupList, HeldAndSize, MAX_BATCH, MAX_PAGE, Member, Memberships, Store,
    StoreCounts, StoreError, StoreErrorKind, StoreResult, Verified, Versioned, Watch,
};
use crate::model::{ConversationData, EventId, History, UserId, UserState};
use crate::store::PostgresSettings;

/// The first pause before something is tried again; each next one is twice as long, up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(200);
/// How long a probe may take: less than the server waits for it, so that it says why.
const PROBE_PATIENCE: Duration = Duration::from_millis(1500);

/// Keeps groups, marks and custom data in PostgreSQL.
#[derive(Debug)]
pub struct PostgresStore {
    shared: Arc<Shared>,
    /// Its threads move messages; statements are waited for on the threads of those who ask.
    runtime: Option<Runtime>,
}

#[derive(Debug)]
struct Shared {
    address: Arc<Address>,
    pool: Pool,
    timeout: Duration,
    questions: Questions,
    commits: Commits,
    histories: Histories,
    news: News,
    /// Whether this host leaves the database as it is.
    read_only: bool,
    /// Whether statements are prepared: until something between shows that it does not keep track of them.
    prepared: AtomicBool,
    committed: AtomicU64,
}

impl PostgresStore {
    /// Opens a database, as `postgres://USER@HOST/DATABASE`, and brings its schema to this program's version if the
    /// settings say so. Blocks, as all methods do: not for use in asynchronous code.
    ///
    /// # Errors
    ///
    /// When the URL or the settings cannot be used, the database cannot be reached, or its schema is of another version.
    pub fn open(url: &str, settings: &PostgresSettings) -> StoreResult<Self> {
        Self::open_as(url, settings, settings.migrate, false)
    }

    /// Opens a database to read it; of the standby too. Its schema is left alone.
    ///
    /// # Errors
    ///
    /// As [`PostgresStore::open`].
    pub fn open_read_only(url: &str, settings: &PostgresSettings) -> StoreResult<Self> {
        Self::open_as(url, settings, false, true)
    }

    /// Brings a database's schema to this program's version. Answers the versions before and after.
    ///
    /// # Errors
    ///
    /// As [`PostgresStore::open`].
    pub fn migrate(url: &str, settings: &PostgresSettings) -> StoreResult<(u32, u32)> {
        let address = Arc::new(Address::parse(url, settings)?.for_writing());
        let number = |version: i32| u32::try_from(version).unwrap_or_default();
        let versions = runtime()?.block_on(async {
            let mut client = connect(&address).await?;
            let before = migrate::version(&client).await.map_err(|error| in_schema(&address, error))?;
            Ok((before, migrate::migrate(&mut client).await.map_err(|error| in_schema(&address, error))?))
        });
        let (before, after) = versions?;
        check_schema(&address, after)?;
        // Begins the history, for those who come to read before a host does.
        drop(Self::open_as(url, &PostgresSettings { listen: false, ..settings.clone() }, false, false)?);
        Ok((number(before), number(after)))
    }

    /// Begins a new history of a database that was set back by means that cannot be noticed. Hosts may be running on it.
    ///
    /// # Errors
    ///
    /// As [`PostgresStore::open`].
    pub fn begin_history(url: &str, settings: &PostgresSettings) -> StoreResult<History> {
        let store = Self::open_as(url, &PostgresSettings { listen: false, ..settings.clone() }, false, false)?;
        loop {
            let old = store.history()?;
            if let Some(new) = store.wait(store.shared.begin_history(Some(old)))? {
                return Ok(new);
            }
        }
    }

    fn open_as(url: &str, settings: &PostgresSettings, migrate: bool, read_only: bool) -> StoreResult<Self> {
        let address = Address::parse(url, settings)?;
        let address = Arc::new(if read_only { address } else { address.for_writing() });
        let runtime = runtime()?;
        let (news, changed) = News::new(settings.listen && !read_only);
        let histories = runtime.block_on(async {
            let mut client = connect(&address).await?;
            let found = if migrate { migrate::migrate(&mut client).await } else { migrate::version(&client).await };
            check_schema(&address, found.map_err(|error| in_schema(&address, error))?)?;
            check_promises(&client, &address).await?;
            Histories::of(&client).await.map_err(|error| in_schema(&address, error))
        })?;
        let shared = Arc::new(Shared {
            pool: address.pool(settings)?,
            address: Arc::clone(&address),
            timeout: settings.timeout(),
            questions: Questions::new(&histories.elsewhere),
            commits: Commits::new(settings.timeout_ms),
            histories,
            news,
            read_only,
            prepared: AtomicBool::new(settings.prepare),
            committed: AtomicU64::new(0),
        });
        runtime.block_on(shared.settle_history())?;
        if let Some(changed) = changed {
            runtime.spawn(follow::tell(Arc::downgrade(&shared), changed));
        }
        if settings.listen {
            runtime.spawn(follow::listen(Arc::downgrade(&shared)));
        }
        runtime.spawn(follow::poll(Arc::downgrade(&shared)));
        Ok(Self { shared, runtime: Some(runtime) })
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("it is there until the store is dropped").block_on(future)
    }

    fn read<T>(
        &self,
        statement: &Statement,
        params: Params<'_>,
        decode: impl Fn(&Row) -> Result<T, Trouble>,
    ) -> StoreResult<T> {
        self.wait(self.shared.read(statement, params, decode))
    }

    fn versioned<T>(
        &self,
        statement: &Statement,
        params: Params<'_>,
        decode: impl Fn(&Row) -> Result<T, Trouble>,
    ) -> StoreResult<Versioned<T>> {
        self.read(statement, params, |row| read::versioned(row, &decode))
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        // Waits for nothing, so that a store can be dropped anywhere.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn runtime() -> StoreResult<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(1, usize::from).min(4))
        .thread_name("convgroups-postgres")
        .enable_all()
        .build()
        .map_err(|error| StoreError::new(StoreErrorKind::Unusable, format!("could not start threads: {error}")))
}

/// A connection outside of the pool.
async fn connect(address: &Address) -> StoreResult<Client> {
    let connected = address.connect(None).await;
    let (client, _) = connected.map_err(|trouble| {
        let message = format!("{}: {trouble}", address.name());
        StoreError::new(StoreErrorKind::Unusable, message).caused_by(trouble)
    })?;
    Ok(client)
}

fn in_schema(address: &Address, error: tokio_postgres::Error) -> StoreError {
    let what = statement::describe(&error);
    let message = format!("{}: could not read or migrate the schema convgroups: {what}", address.name());
    StoreError::new(StoreErrorKind::Unusable, message).caused_by(error)
}

fn check_schema(address: &Address, found: i32) -> StoreResult<()> {
    let (name, known) = (address.name(), migrate::CURRENT);
    let message = match found.cmp(&known) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Greater => {
            format!("{name} has a schema of version {found}; this program knows {known}: use a newer program")
        }
        std::cmp::Ordering::Less => {
            format!("{name} has a schema of version {found}; this program needs {known}: run `convgroups migrate`")
        }
    };
    Err(StoreError::new(StoreErrorKind::Unusable, message))
}

/// What a database must be able to do for the store to keep its word.
async fn check_promises(client: &Client, address: &Address) -> StoreResult<()> {
    let settings = "SELECT current_setting('server_encoding'), current_setting('synchronous_commit', true),
                    current_setting('fsync', true)";
    let row = client.query_typed_one(settings, &[]).await.map_err(|error| in_schema(address, error))?;
    let value = |index: usize| row.try_get::<_, Option<String>>(index).ok().flatten();
    if let Some(encoding) = value(0).filter(|encoding| encoding != "UTF8") {
        let message =
            format!("{} keeps text as {encoding}; a database with the encoding UTF8 is needed", address.name());
        return Err(StoreError::new(StoreErrorKind::Unusable, message));
    }
    for (name, value) in [("synchronous_commit", value(1)), ("fsync", value(2))] {
        if value.as_deref() == Some("off") {
            tracing::warn!(database = address.name(), "{name} is off: a crash of the database can lose changes");
        }
    }
    Ok(())
}

impl Shared {
    /// Asks, and asks again while that may help and there is time.
    async fn read<T>(
        &self,
        statement: &Statement,
        params: Params<'_>,
        decode: impl Fn(&Row) -> Result<T, Trouble>,
    ) -> StoreResult<T> {
        self.read_until(Instant::now() + self.timeout, statement, params, decode).await
    }

    async fn read_until<T>(
        &self,
        deadline: Instant,
        statement: &Statement,
        params: Params<'_>,
        decode: impl Fn(&Row) -> Result<T, Trouble>,
    ) -> StoreResult<T> {
        let mut pause = Pause::default();
        loop {
            let asked = self.once(deadline, async |lease| lease.ask(statement, params).await).await;
            match asked.and_then(|row| decode(&row)) {
                Ok(value) => return Ok(value),
                Err(trouble) if trouble.is_transient() && pause.until(deadline).await => {
                    tracing::debug!(%trouble, "reading again");
                }
                Err(trouble) => return Err(self.failed(trouble)),
            }
        }
    }

    /// Uses a connection once. One that failed, or did not answer in time, does not go back.
    async fn once<T>(
        &self,
        deadline: Instant,
        work: impl AsyncFnOnce(&Lease) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let connection = match tokio::time::timeout_at(deadline.into(), self.pool.get()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(PoolError::Backend(error))) => return Err(Trouble::Connect(error)),
            // Of making a connection: for one that is free nothing but the deadline limits the wait.
            Ok(Err(PoolError::Timeout(_))) => return Err(Trouble::Silent),
            Ok(Err(_)) | Err(_) => return Err(Trouble::Pool),
        };
        let lease = Lease::new(connection, self.prepared.load(Ordering::Relaxed));
        let result = match tokio::time::timeout_at(deadline.into(), work(&lease)).await {
            Ok(result) => result,
            Err(_) => {
                // It may be waiting for a lock, and would go on to.
                tokio::spawn(Arc::clone(&self.address).cancel(lease.cancel_token()));
                Err(Trouble::Slow)
            }
        };
        if let Err(trouble) = &result {
            lease.discard();
            if trouble.is_about_preparation() && self.prepared.swap(false, Ordering::Relaxed) {
                tracing::warn!(
                    %trouble,
                    "something between here and the database does not keep track of prepared statements; they are sent \
                     whole from now on, which costs the database more (postgres.prepare = false spares the attempt)"
                );
            }
        }
        result
    }

    /// Commits. As long as it is not known what became of an attempt, the same commit is tried again: the version lets one
    /// of them through at most, and the token in the log tells whether one did.
    async fn commit(&self, prepared: &Prepared<'_>) -> StoreResult<CommitOutcome> {
        let now = Instant::now();
        let deadline = prepared.commit.deadline.unwrap_or(now + self.timeout);
        let mut pause = Pause::default();
        let mut open = false;
        loop {
            let last_word = Cell::new(false);
            let run = async |lease: &Lease| self.commits.run(lease, prepared, &last_word).await;
            let trouble = match self.once(deadline, run).await {
                Ok(true) => return Ok(CommitOutcome::Committed(prepared.version)),
                Ok(false) if open => return self.resolve(prepared, deadline).await,
                Ok(false) => return Ok(CommitOutcome::Conflict),
                Err(trouble) => trouble,
            };
            open |= last_word.get() && trouble.leaves_open();
            if trouble.needs_rerun() && !open {
                return Ok(CommitOutcome::Conflict);
            }
            if trouble.is_transient() && pause.until(deadline).await {
                tracing::debug!(%trouble, "committing again");
                continue;
            }
            let kind = match () {
                () if open => StoreErrorKind::OutcomeUnknown,
                () if trouble.is_violation() => StoreErrorKind::Corrupt,
                () => kind_of(&trouble),
            };
            return Err(self.failed_as(kind, trouble));
        }
    }

    /// What became of a commit whose answer was lost, now that the user is no longer at its base version: nothing of it can
    /// come any more.
    async fn resolve(&self, prepared: &Prepared<'_>, deadline: Instant) -> StoreResult<CommitOutcome> {
        let (user, version) = (prepared.commit.user.as_str(), prepared.version.0.cast_signed());
        let (token, oldest) = self
            .read_until(deadline, &self.questions.commit, &[&user, &version], read::logged)
            .await
            .map_err(|error| StoreError::new(StoreErrorKind::OutcomeUnknown, error.message))?;
        match token {
            Some(token) if token == prepared.token => Ok(CommitOutcome::Committed(prepared.version)),
            Some(_) => Ok(CommitOutcome::Conflict),
            None if oldest.is_some_and(|oldest| oldest <= prepared.commit.base.next()) => Ok(CommitOutcome::Conflict),
            None => {
                let name = self.address.name();
                let message = format!("{name}: the answer to a commit was lost, and the log no longer reaches there");
                Err(StoreError::new(StoreErrorKind::OutcomeUnknown, message))
            }
        }
    }

    /// Writes a row and removes it in the same transaction, which the database flushes: a database that only takes reads, or
    /// whose disk is full, shows it. Nobody sees the row, and probes of several hosts do not wait for each other.
    async fn probe(&self) -> StoreResult<()> {
        let deadline = Instant::now() + self.timeout.min(PROBE_PATIENCE);
        // No user has this id.
        let (user, version) = ("", fastrand::i64(1..));
        let probe = format!(
            "INSERT INTO convgroups.log (user_id, version, token, origin, events) VALUES ('{user}', {version}, '', '', '');
             DELETE FROM convgroups.log WHERE user_id = '{user}' AND version = {version}"
        );
        let mut pause = Pause::default();
        loop {
            match self.once(deadline, async |lease| lease.execute(&probe).await).await {
                Ok(()) => return Ok(()),
                // A connection that was lost in the meantime, or leads to a server that has become a standby.
                Err(trouble) if trouble.is_transient() && pause.until(deadline).await => {}
                Err(trouble) => return Err(self.failed(trouble)),
            }
        }
    }

    /// The failure of something that changes nothing.
    fn failed(&self, trouble: Trouble) -> StoreError {
        let kind = kind_of(&trouble);
        self.failed_as(kind, trouble)
    }

    fn failed_as(&self, kind: StoreErrorKind, trouble: Trouble) -> StoreError {
        StoreError::new(kind, format!("{}: {trouble}", self.address.name())).caused_by(trouble)
    }
}

/// What a trouble says of the store, where nothing was changed.
fn kind_of(trouble: &Trouble) -> StoreErrorKind {
    if matches!(trouble, Trouble::Unreadable(_)) { StoreErrorKind::Corrupt } else { StoreErrorKind::Unavailable }
}

/// Pauses that grow.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pause {
    /// Waits a little, by chance; answers false when there is no time left.
    async fn until(&mut self, deadline: Instant) -> bool {
        let pause = self.0.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.0 = (self.0 * 2).min(MAX_PAUSE);
        if Instant::now() + pause >= deadline {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }
}

/// A number as the database has it. What is beyond its numbers is beyond everything that it has.
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Store for PostgresStore {
    fn groups(&self, user: &UserId) -> StoreResult<Versioned<GroupList>> {
        self.versioned(&self.shared.questions.groups, &[&user.as_str()], read::groups)
    }

    fn contains(&self, user: &UserId, group_name: &str, ids: &[&str]) -> StoreResult<Versioned<Option<Vec<bool>>>> {
        let params: Params<'_> = &[&user.as_str(), &group_name, &ids];
        self.versioned(&self.shared.questions.contains, params, |row| read::contains(row, ids))
    }

    fn contains_and_size(
        &self,
        user: &UserId,
        group_name: &str,
        ids: &[&str],
    ) -> StoreResult<Versioned<Option<HeldAndSize>>> {
        let params: Params<'_> = &[&user.as_str(), &group_name, &ids];
        self.versioned(&self.shared.questions.contains_and_size, params, |row| read::contains_and_size(row, ids))
    }

    fn page(
        &self,
        user: &UserId,
        group_name: Option<&str>,
        after: u64,
        limit: u32,
    ) -> StoreResult<Versioned<Option<Vec<Member>>>> {
        let (user, after, limit) = (user.as_str(), number(after), i64::from(limit.min(MAX_PAGE)));
        let questions = &self.shared.questions;
        match group_name {
            Some(group_name) => self.versioned(&questions.page, &[&user, &group_name, &after, &limit], read::page),
            None => self.versioned(&questions.page_of_all, &[&user, &after, &limit], read::page),
        }
    }

    fn memberships(&self, user: &UserId, ids: &[&str], limit: usize) -> StoreResult<Versioned<Option<Memberships>>> {
        // One more than the limit tells that there are too many.
        let most = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let params: Params<'_> = &[&user.as_str(), &ids, &most];
        self.versioned(&self.shared.questions.memberships, params, |row| read::memberships(row, ids.len(), limit))
    }

    fn data(&self, user: &UserId, ids: &[&str]) -> StoreResult<Versioned<Vec<ConversationData>>> {
        let params: Params<'_> = &[&user.as_str(), &ids];
        self.versioned(&self.shared.questions.data, params, |row| read::data(row, ids))
    }

    fn data_and_count(&self, user: &UserId, ids: &[&str]) -> StoreResult<Versioned<(Vec<ConversationData>, u32)>> {
        let params: Params<'_> = &[&user.as_str(), &ids];
        let decode = |row: &Row| Ok((read::data(row, ids)?, read::count(row, 5)?));
        self.versioned(&self.shared.questions.data_and_count, params, decode)
    }

    fn page_of_data(&self, user: &UserId, after: u64, limit: u32) -> StoreResult<Versioned<Vec<Member>>> {
        let (user, after, limit) = (user.as_str(), number(after), i64::from(limit.min(MAX_PAGE)));
        let page = |row: &Row| Ok(read::page(row)?.unwrap_or_default());
        self.versioned(&self.shared.questions.page_of_data, &[&user, &after, &limit], page)
    }

    fn state(&self, user: &UserId) -> StoreResult<Versioned<UserState>> {
        self.versioned(&self.shared.questions.state, &[&user.as_str()], read::state)
    }

    fn commit(&self, commit: Commit) -> StoreResult<CommitOutcome> {
        if self.shared.read_only {
            let message = format!("{} was opened to be read only", self.shared.address.name());
            return Err(StoreError::new(StoreErrorKind::Unusable, message));
        }
        let Some(version) = commit.version() else { return Ok(CommitOutcome::Conflict) };
        let Encoded { origin, events } = record::encode(&commit.origin, &commit.changes)?;
        let prepared =
            Prepared { version, token: fastrand::u128(..).to_be_bytes().to_vec(), origin, events, commit: &commit };
        let result = self.wait(self.shared.commit(&prepared));
        self.shared.committed.fetch_add(1, Ordering::Relaxed);
        match &result {
            Ok(CommitOutcome::Conflict) => {}
            Err(error) if error.kind != StoreErrorKind::OutcomeUnknown => {}
            // Readers find out themselves whether there is something new.
            Ok(CommitOutcome::Committed(_)) | Err(_) => self.shared.news.committed(&commit.user),
        }
        result
    }

    fn changes_after(&self, user: &UserId, after: EventId, limit: u32) -> StoreResult<(History, Changes)> {
        let (id, from, limit) = (user.as_str(), number(after.version.0), i64::from(limit.min(MAX_BATCH)));
        let params: Params<'_> = &[&id, &from, &limit];
        let shared = &self.shared;
        let mut settled = shared.read_only;
        loop {
            let changes = self.read(&shared.questions.changes, params, |row| read::changes(row, after))?;
            let (history, elsewhere, changes) = changes;
            if !elsewhere || !shared.histories.comparable.load(Ordering::Relaxed) {
                // Should a new history begin before the state is read, the next read has it again.
                return Ok((history, changes.map_or_else(|| self.state(user).map(Changes::Full), Ok)?));
            }
            if settled {
                // Nobody has begun a new history yet, and this host cannot: what it says is of none that there will be.
                return Ok((History::random(), Changes::Full(self.state(user)?)));
            }
            self.wait(shared.settle_history())?;
            settled = true;
        }
    }

    fn history(&self) -> StoreResult<History> {
        self.wait(self.shared.settle_history())?.ok_or_else(|| {
            let message = format!("{}: the table convgroups.history is empty", self.shared.address.name());
            StoreError::new(StoreErrorKind::Corrupt, message)
        })
    }

    fn verify(&self, found: &mut dyn FnMut(String)) -> StoreResult<Verified> {
        self.wait(async {
            let address = &self.shared.address;
            let mut client = connect(address).await?;
            verify::verify(&mut client, found).await.map_err(|trouble| self.shared.failed(trouble))
        })
    }

    fn users(&self, after: Option<&UserId>, limit: u32) -> StoreResult<Vec<UserId>> {
        // Every id comes after the empty text.
        let (after, limit) = (after.map_or("", UserId::as_str), i64::from(limit.min(MAX_BATCH)));
        self.read(&self.shared.questions.users, &[&after, &limit], read::users)
    }

    fn watch(&self, user: &UserId) -> Option<Watch> {
        Some(self.shared.news.watchers.watch(user.clone()))
    }

    fn counts(&self) -> StoreCounts {
        let pool = self.shared.pool.status();
        StoreCounts {
            commits: self.shared.committed.load(Ordering::Relaxed),
            // The database flushes, and does not tell.
            flushes: 0,
            connections: pool.size as u64,
            connections_in_use: pool.size.saturating_sub(pool.available) as u64,
            connections_awaited: pool.waiting as u64,
        }
    }

    fn health(&self) -> StoreResult<()> {
        if self.shared.read_only {
            return self.read(&self.shared.questions.health, &[], |row| statement::column::<bool>(row, 1)).map(drop);
        }
        self.wait(self.shared.probe())
    }
}
