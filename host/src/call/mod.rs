//! One call from request to durable result: admission, transaction, sandbox, commit, and a retry after a conflict.

mod admission;
mod error;
mod json;
mod session;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use admission::CallCounts;
use admission::{Admission, InFlight};
pub use error::{CallError, Failure, HostFault, Waiting};
pub use session::{CallContext, Interrupted, Session, Spent, new_request_id};

use crate::api::{AnyResult, OperationError, code};
use crate::events::{Event, EventReader};
use crate::model::{EventId, Origin, UserId, Version};
use crate::plugin::{self, Examiner, Plugin, PluginError, PluginInfo, PluginSource};
use crate::sandbox::{CompileCache, Ended, Operation, Sandbox, SandboxError, UnusableCache};
use crate::settings::{CallSettings, InvalidSetting, Limits, Settings, Wasi};
use crate::store::{Bounds, Commit, CommitOutcome, Skip, Store, Transaction};

/// Runs calls of one plugin against one store. Cheap to clone; all clones are one host.
#[derive(Clone, Debug)]
pub struct Host {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sandbox: Sandbox,
    plugin: Plugin,
    store: Arc<dyn Store>,
    limits: Arc<Limits>,
    bounds: Bounds,
    calls: CallSettings,
    max_request_bytes: usize,
    keep: u32,
    admission: Admission,
}

/// An answer whose changes, if there were any, are durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed<T = AnyResult> {
    /// The operation's result.
    pub result: T,
    /// The version that the call's changes led to; nothing when it changed nothing.
    pub version: Option<Version>,
    /// The id of the call, which log lines and events carry too.
    pub request_id: String,
    /// How often the call was run; more than once after conflicts with other hosts.
    pub attempts: u32,
    /// Memory that the plugin used, in bytes.
    pub memory_bytes: usize,
    /// Where the time went, all runs together.
    pub spent: Spent,
}

/// A [`CallContext`] with nothing left open.
#[derive(Clone, Debug)]
struct Context {
    request_id: String,
    deadline: Instant,
    max_of_user: Option<u32>,
}

/// Why a host cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A setting is out of its range.
    #[error(transparent)]
    Setting(#[from] InvalidSetting),
    /// The plugin cannot be loaded.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// No store was named.
    #[error("no store is named: choose one with HostBuilder::store, such as a SqliteStore, or a MemoryStore for tests")]
    NoStore,
    /// No plugin was named, and none is built in.
    #[error("no plugin is named, and none is built in (feature bundled-plugin)")]
    NoPlugin,
    /// A plugin is named that is not built in, and not how its file is to be examined.
    #[error(
        "a plugin that is not built in was named, and not how to examine it: choose Examiner::Program, a child process with \
         limits, or Examiner::InProcess for plugins that are trusted (HostBuilder::plugin_examiner)"
    )]
    NoExaminer,
    /// The directory for compiled plugins cannot be used.
    #[error(transparent)]
    Cache(#[from] UnusableCache),
    /// The sandbox cannot be set up on this machine with these settings.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

/// Puts a [`Host`] together.
#[derive(Debug)]
pub struct HostBuilder {
    settings: Settings,
    store: Option<Arc<dyn Store>>,
    plugin: Option<PluginSource>,
    examiner: Option<Examiner>,
}

impl HostBuilder {
    /// Sets the settings. Without this, all have their defaults.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The store to use; an `Arc` of one to share it. There is no default: a [`MemoryStore`](crate::MemoryStore) forgets
    /// everything when the process ends.
    #[must_use]
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// The plugin to use; without this, the one that is built in. Any other needs a
    /// [`plugin_examiner`](HostBuilder::plugin_examiner).
    #[must_use]
    pub fn plugin(mut self, plugin: PluginSource) -> Self {
        self.plugin = Some(plugin);
        self
    }

    /// Where a plugin that is not built in is decoded, checked and compiled: in a child process, or in this one. There is no
    /// default, because the one needs a program and the other is a risk.
    #[must_use]
    pub fn plugin_examiner(mut self, examiner: Examiner) -> Self {
        self.examiner = Some(examiner);
        self
    }

    /// Loads the plugin and sets up its sandbox. The plugin is compiled here, or comes out of the cache; calls never wait for a
    /// compiler.
    ///
    /// # Errors
    ///
    /// When no store was chosen, a setting is out of its range, the plugin cannot be loaded, or the machine cannot give what the
    /// settings ask.
    pub fn build(self) -> Result<Host, BuildError> {
        let Self { settings, store, plugin, examiner } = self;
        let store = store.ok_or(BuildError::NoStore)?;
        let sandbox = new_sandbox(&settings)?;
        let plugin = plugin.or_else(default_plugin).ok_or(BuildError::NoPlugin)?;
        let examiner = examiner.or(plugin.is_trusted().then_some(Examiner::InProcess)).ok_or(BuildError::NoExaminer)?;
        let plugin = plugin::load(&sandbox, &plugin, &examiner)?;
        let bounds = settings.sandbox.bounds();
        // What is asked for comes back in the answer, beside reasons and codes.
        let max_request_bytes = settings.sandbox.max_crossing_bytes / 4;
        let admission = Admission::new(settings.calls.max_concurrent, settings.calls.max_waiting);
        Ok(Host {
            shared: Arc::new(Shared {
                sandbox,
                plugin,
                store,
                limits: Arc::new(settings.limits),
                bounds,
                calls: settings.calls,
                max_request_bytes,
                keep: settings.events.keep_per_user,
                admission,
            }),
        })
    }
}

fn default_plugin() -> Option<PluginSource> {
    #[cfg(feature = "bundled-plugin")]
    return Some(PluginSource::Bundled);
    #[cfg(not(feature = "bundled-plugin"))]
    None
}

fn new_sandbox(settings: &Settings) -> Result<Sandbox, BuildError> {
    settings.check()?;
    if settings.wasi == Wasi::Inert && !cfg!(feature = "wasi") {
        let reason = "\"inert\" needs the feature wasi of this library".to_owned();
        return Err(InvalidSetting { key: "wasi", reason }.into());
    }
    let cache = settings.cache_dir.as_deref().map(CompileCache::open).transpose()?.flatten();
    Ok(Sandbox::new(settings.sandbox.clone(), settings.wasi, settings.calls.max_concurrent, cache)?)
}

/// Tells what can be told of a plugin, whether it can be loaded or not.
///
/// # Errors
///
/// When the plugin cannot be read at all, or the sandbox cannot be set up.
pub fn inspect_plugin(
    settings: &Settings,
    source: &PluginSource,
    examiner: &Examiner,
) -> Result<PluginInfo, BuildError> {
    Ok(plugin::inspect(&new_sandbox(settings)?, source, examiner)?)
}

impl Host {
    /// Starts with the default settings and the built-in plugin. A store must be chosen.
    #[must_use]
    pub fn builder() -> HostBuilder {
        HostBuilder { settings: Settings::default(), store: None, plugin: None, examiner: None }
    }

    /// Runs an operation for a user and returns when its changes are durable. Blocks the calling thread, whose stack must
    /// have room for `sandbox.max_stack_bytes` beside its own.
    ///
    /// # Errors
    ///
    /// A rule refused the operation, the plugin failed, or the host did; [`CallError`] tells which. Nothing was changed,
    /// unless the store says that it does not know.
    pub fn call<O: Operation>(&self, user: &UserId, operation: &O) -> Result<Completed<O::Output>, CallError> {
        self.call_with(user, operation, CallContext::default())
    }

    /// As [`Host::call`], with an id and a deadline of the caller's choice.
    ///
    /// # Errors
    ///
    /// As [`Host::call`].
    pub fn call_with<O: Operation>(
        &self,
        user: &UserId,
        operation: &O,
        context: CallContext,
    ) -> Result<Completed<O::Output>, CallError> {
        self.transact(user, operation.method().name(), context, |session| session.call(operation))
    }

    /// Runs several operations for a user, in one transaction: all are kept, or none. `name` is what the log calls them.
    ///
    /// After a conflict with another host all of it runs again, from the start.
    ///
    /// # Errors
    ///
    /// As [`Host::call`]; the first operation that fails ends all.
    pub fn transact<T>(
        &self,
        user: &UserId,
        name: &str,
        context: CallContext,
        operations: impl FnMut(&mut Session<'_>) -> Result<T, Interrupted>,
    ) -> Result<Completed<T>, CallError> {
        self.run(user, name, context, |shared, context| shared.run(user, name, context, operations))
    }

    /// Runs work on this thread, as a call of this user.
    fn run<T>(
        &self,
        user: &UserId,
        name: &str,
        context: CallContext,
        work: impl FnOnce(&Shared, &Context) -> Result<T, Failure>,
    ) -> Result<T, CallError> {
        let context = self.shared.resolve(context);
        let result = self.shared.wait(user, &context).and_then(|_in_flight| work(&self.shared, &context));
        self.shared.finish(user, name, context, result)
    }

    /// As [`Host::call`], without blocking the thread while the call waits; it then runs on one of tokio's threads for blocking
    /// work. If the future is dropped, a waiting call leaves its queue, and a running call finishes.
    ///
    /// # Errors
    ///
    /// As [`Host::call`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with a timer.
    #[cfg(feature = "tokio")]
    pub async fn call_async<O: Operation + Send + 'static>(
        &self,
        user: &UserId,
        operation: O,
        context: CallContext,
    ) -> Result<Completed<O::Output>, CallError> {
        let name = operation.method().name();
        self.transact_async(user, name, context, move |session| session.call(&operation)).await
    }

    /// As [`Host::transact`], without blocking the thread, see [`Host::call_async`].
    ///
    /// # Errors
    ///
    /// As [`Host::call`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with a timer.
    #[cfg(feature = "tokio")]
    pub async fn transact_async<T: Send + 'static>(
        &self,
        user: &UserId,
        name: &'static str,
        context: CallContext,
        operations: impl FnMut(&mut Session<'_>) -> Result<T, Interrupted> + Send + 'static,
    ) -> Result<Completed<T>, CallError> {
        let work = {
            let user = user.clone();
            move |shared: &Shared, context: &Context| shared.run(&user, name, context, operations)
        };
        self.run_async(user, name, context, work).await
    }

    /// Runs work on a thread for blocking work, as a call of this user.
    #[cfg(feature = "tokio")]
    async fn run_async<T: Send + 'static>(
        &self,
        user: &UserId,
        name: &str,
        context: CallContext,
        work: impl FnOnce(&Shared, &Context) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, CallError> {
        let context = self.shared.resolve(context);
        let result = match self.shared.wait_async(user, &context).await {
            Err(failure) => Err(failure),
            Ok(in_flight) => {
                let (shared, span, context) = (Arc::clone(&self.shared), tracing::Span::current(), context.clone());
                let running = tokio::task::spawn_blocking(move || {
                    let result = span.in_scope(|| work(&shared, &context));
                    drop(in_flight);
                    result
                });
                running.await.unwrap_or(Err(Failure::Host(HostFault::Aborted)))
            }
        };
        self.shared.finish(user, name, context, result)
    }

    /// Reads a user's changes from after an event on. See [`EventReader::new`] for events of which only the version is known.
    #[must_use]
    pub fn events(&self, user: UserId, after: impl Into<EventId>) -> EventReader {
        EventReader::new(Arc::clone(&self.shared.store), user, after)
    }

    /// Reads at most `limit` events with a reader, as a call of its user: it waits in the per-user queue and for a permit,
    /// because it may read everything the user has. `encode` runs before the user's next call, because it costs as much.
    ///
    /// # Errors
    ///
    /// When there are too many calls, its deadline comes first, or the store fails.
    pub fn read_events<T>(
        &self,
        reader: &mut EventReader,
        limit: u32,
        context: CallContext,
        encode: impl FnOnce(&EventReader, Vec<Event>) -> T,
    ) -> Result<T, CallError> {
        let user = reader.user().clone();
        self.run(&user, EVENTS, context, |_, _| read(reader, limit, encode))
    }

    /// As [`Host::read_events`], without blocking the thread, see [`Host::call_async`].
    ///
    /// # Errors
    ///
    /// As [`Host::read_events`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with a timer.
    #[cfg(feature = "tokio")]
    pub async fn read_events_async<T: Send + 'static>(
        &self,
        reader: Arc<parking_lot::Mutex<EventReader>>,
        limit: u32,
        context: CallContext,
        encode: impl FnOnce(&EventReader, Vec<Event>) -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let user = reader.lock().user().clone();
        let work = move |_: &Shared, _: &Context| read(&mut reader.lock(), limit, encode);
        self.run_async(&user, EVENTS, context, work).await
    }

    /// The calls that run and wait now.
    #[must_use]
    pub fn call_counts(&self) -> CallCounts {
        self.shared.admission.counts()
    }

    /// Waits until no call runs or waits.
    pub async fn idle(&self) {
        self.shared.admission.idle().await;
    }

    /// How many calls run at a time; more wait.
    #[must_use]
    pub fn max_concurrent(&self) -> u32 {
        self.shared.calls.max_concurrent
    }

    /// The limits of the feature that are in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// The store behind this host.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// The loaded plugin.
    #[must_use]
    pub fn plugin(&self) -> &PluginInfo {
        &self.shared.plugin.info
    }

    /// Whether the plugin came compiled out of the cache on disk.
    #[must_use]
    pub fn plugin_was_cached(&self) -> bool {
        self.shared.sandbox.cache_hits() > 0
    }
}

/// What one run of a call led to.
enum Attempt<T> {
    Done(T, Option<Version>, usize),
    Conflict,
}

impl Shared {
    /// Fills in what a caller left open.
    fn resolve(&self, context: CallContext) -> Context {
        let CallContext { request_id, deadline, max_of_user } = context;
        let deadline = deadline.unwrap_or_else(|| Instant::now() + self.calls.timeout());
        Context { request_id, deadline, max_of_user }
    }

    /// Waits in the user's queue, then for a permit.
    fn wait(&self, user: &UserId, context: &Context) -> Result<InFlight, Failure> {
        let admitted = self.admission.admit(user, context.max_of_user)?;
        Ok(admitted.wait(context.deadline).map_err(HostFault::TimedOut)?)
    }

    #[cfg(feature = "tokio")]
    async fn wait_async(&self, user: &UserId, context: &Context) -> Result<InFlight, Failure> {
        let admitted = self.admission.admit(user, context.max_of_user)?;
        Ok(admitted.wait_async(context.deadline).await.map_err(HostFault::TimedOut)?)
    }

    /// Logs a failure and gives it the ID of its call.
    fn finish<T>(
        &self,
        user: &UserId,
        name: &str,
        context: Context,
        result: Result<T, Failure>,
    ) -> Result<T, CallError> {
        result.map_err(|failure| {
            self.log(user, name, &context.request_id, &failure);
            CallError { request_id: context.request_id, failure }
        })
    }

    /// Runs a call that has its permit, until it is committed or has failed.
    fn run<T>(
        &self,
        user: &UserId,
        name: &str,
        context: &Context,
        mut operations: impl FnMut(&mut Session<'_>) -> Result<T, Interrupted>,
    ) -> Result<Completed<T>, Failure> {
        let Context { request_id, deadline, .. } = context;
        let _span = tracing::error_span!("call", request_id, %user, method = name).entered();
        let mut spent = Spent::default();
        for attempt in 1..=self.calls.max_attempts {
            match self.attempt(user, request_id, *deadline, &mut spent, &mut operations)? {
                Attempt::Done(answer, version, memory_bytes) => {
                    let request_id = request_id.clone();
                    return Ok(Completed {
                        result: answer,
                        version,
                        request_id,
                        attempts: attempt,
                        memory_bytes,
                        spent,
                    });
                }
                Attempt::Conflict => back_off(attempt, *deadline),
            }
        }
        Err(HostFault::Busy { attempts: self.calls.max_attempts }.into())
    }

    /// One run from a fresh transaction and fresh sandboxes to a commit.
    fn attempt<T>(
        &self,
        user: &UserId,
        request_id: &str,
        deadline: Instant,
        spent: &mut Spent,
        operations: &mut impl FnMut(&mut Session<'_>) -> Result<T, Interrupted>,
    ) -> Result<Attempt<T>, Failure> {
        if Instant::now() >= deadline {
            return Err(HostFault::TimedOut(Waiting::Attempt).into());
        }
        let transaction = Transaction::new(Arc::clone(&self.store), user.clone(), self.bounds);
        let mut session = Session::new(self, transaction);
        let answered = operations(&mut session);
        spent.sandbox += session.spent.sandbox;
        spent.guest += session.spent.guest;
        let (methods, memory_bytes) = (std::mem::take(&mut session.methods), session.memory_bytes);
        let (answer, transaction) = match (answered, session.into_transaction()) {
            (Ok(answer), Ok(transaction)) => (answer, transaction),
            (_, Err(Ended::Refused(refusal))) => return Err(Failure::Refused(refusal)),
            (_, Err(Ended::Plugin(fault))) => return Err(Failure::Plugin(fault)),
            (_, Err(Ended::Conflict)) => return Ok(Attempt::Conflict),
            (_, Err(Ended::Store(error))) => return Err(HostFault::Store(error).into()),
            (_, Err(Ended::SlowStore)) => return Err(HostFault::TimedOut(Waiting::Store).into()),
            (Err(_), Ok(_)) => {
                let desc = "the operations were interrupted by what another session ended with".to_owned();
                return Err(Failure::Refused(OperationError { code: code::INTERNAL, desc }));
            }
        };
        spent.reading += transaction.reading();
        let Some(staged) = transaction.into_staged() else {
            return Ok(Attempt::Done(answer, None, memory_bytes));
        };
        let started = Instant::now();
        if started >= deadline {
            return Err(HostFault::TimedOut(Waiting::Plugin).into());
        }
        let method = methods.iter().map(|method| method.name()).collect::<Vec<_>>().join("+");
        let commit = Commit {
            user: user.clone(),
            base: staged.base,
            changes: staged.changes,
            origin: Origin { method, request_id: request_id.to_owned() },
            keep: self.keep,
            skip: Skip::default(),
            deadline: Some(deadline),
        };
        let _span = tracing::debug_span!("commit").entered();
        let outcome = self.store.commit(commit).map_err(HostFault::Store)?;
        spent.commit += started.elapsed();
        match outcome {
            CommitOutcome::Conflict => Ok(Attempt::Conflict),
            CommitOutcome::Committed(version) => Ok(Attempt::Done(answer, Some(version), memory_bytes)),
        }
    }

    /// Tells the operator what failed. Refusals are the caller's business and are not logged as faults.
    fn log(&self, user: &UserId, method: &str, request_id: &str, failure: &Failure) {
        let user = user.as_str();
        match failure {
            Failure::Refused(refusal) => {
                tracing::debug!(request_id, user, method, code = refusal.code, "refused");
            }
            Failure::Plugin(fault) => tracing::error!(
                request_id,
                user,
                method,
                plugin = %self.plugin.info.digest,
                kind = fault.kind.as_str(),
                detail = %fault.detail,
                // One frame after another on the same line: a line break would look like the next entry.
                backtrace = %fault.backtrace.as_deref().unwrap_or("unknown").replace('\n', " < "),
                output = %fault.output,
                "the plugin failed"
            ),
            Failure::Host(HostFault::UserBusy) => tracing::debug!(request_id, user, method, "rejected"),
            Failure::Host(fault @ HostFault::Overloaded) => {
                tracing::warn!(request_id, user, method, fault = %fault, "rejected");
            }
            Failure::Host(fault) => tracing::error!(request_id, user, method, fault = %fault, "the host failed"),
        }
    }
}

/// What log lines and metrics call the reading of events.
const EVENTS: &str = "events";

fn read<T>(
    reader: &mut EventReader,
    limit: u32,
    encode: impl FnOnce(&EventReader, Vec<Event>) -> T,
) -> Result<T, Failure> {
    let events = reader.read_some(limit).map_err(HostFault::Store)?;
    Ok(encode(reader, events))
}

/// Waits a little, by chance, so that hosts in conflict do not meet again in step.
fn back_off(attempt: u32, deadline: Instant) {
    let most = Duration::from_millis(2) * attempt.min(16);
    let pause = most.mul_f64(fastrand::f64());
    std::thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
}
