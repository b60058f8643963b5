//! `convgroups serve`: the HTTP server.

use std::time::Duration;

use crate::settings::Settings;
use convgroups_host::hex::hex;
use convgroups_host::store;
use convgroups_server::usersig::{DEFAULT_LIFETIME_SECONDS, Keys};
use convgroups_server::{
    KEYS_VARIABLE, KeySource, KeysError, Reloader, Server, ServerError, raise_limit_of_open_files,
};

use super::args::{Global, Serve};
use super::{Done, Failed, Outcome, config, host, outlet, say};

/// Who may use `/v4` with `--dev`; the account that Tencent gives every app.
const DEV_ADMIN: &str = "administrator";
const DEV_APP: u64 = 1_400_000_000;
const DEV_USER: &str = "alice";
/// How long the program waits for calls that still run when the server has stopped.
const LAST_WAIT: Duration = Duration::from_secs(5);

pub(crate) fn serve(global: &Global, command: &Serve) -> Outcome {
    let configured = config::load(global)?.settings;
    let mut settings = configured.clone();
    if let Some(listen) = &command.listen {
        settings.server.listen.clone_from(listen);
    }
    // The default hook would write to standard error directly, and wait for its reader.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(panic = panic.to_string().replace('\n', " "), "the program panicked");
    }));
    let keys = if command.dev { dev(&mut settings)? } else { keys(&settings)? };
    raise_limit_of_open_files();
    // Each call that runs has a thread; what else blocks is short.
    let threads = settings.calls.max_concurrent as usize + 64;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(threads)
        .build()
        .map_err(|error| Failed::Run(format!("could not start: {error}")))?;
    let signals = {
        // Before anything that takes time: until then these signals end the process.
        let _inside = runtime.enter();
        Signals::take().map_err(|error| Failed::Run(format!("could not listen for signals: {error}")))?
    };
    let host = host(&settings)?;
    let served = runtime.block_on(async {
        let server = Server::bind(host, &settings.of_server(), keys.clone())?;
        let scheme = if server.is_secure() { "https" } else { "http" };
        let address = format!("{scheme}://{}", server.address());
        if command.dev {
            say(&welcome(&address, &settings, &keys).unwrap_or_default());
        }
        // Until the server can stop, they keep their default action.
        let mut stop_signals = StopSignals::take().map_err(ServerError::Stopped)?;
        say(&format!("convgroups: listening on {address}"));
        let reload = Reload { configured, global: global.clone(), dev: command.dev, server: server.reloader() };
        let reloading = tokio::spawn(signals.reload_on_hangup(reload));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let stopping = async {
            stop_signals.next().await;
            drop(stop);
            stop_signals.next().await;
        };
        let serving = server.lost_log_lines(outlet::lost()).run(async { drop(stopped.await) });
        let served = tokio::select! {
            served = serving => served,
            () = stopping => stop_at_once(),
        };
        reloading.abort();
        served
    });
    // Dropping it would wait without limit for calls that hang in the store.
    runtime.shutdown_timeout(LAST_WAIT);
    served.map(|()| Done::Well).map_err(|error| match error {
        ServerError::Setting(_) | ServerError::Keys(_) | ServerError::Certificate(_) => Failed::usage(error),
        error => Failed::run(error),
    })
}

fn keys(settings: &Settings) -> Result<KeySource, Failed> {
    KeySource::find(&settings.auth).map_err(Failed::usage)?.ok_or_else(|| {
        Failed::Usage(format!(
            "there are no keys to check signatures with: set auth.keys_file to a file with one key on each line, or \
             the environment variable {KEYS_VARIABLE}; `convgroups serve --dev` makes one for a first look"
        ))
    })
}

/// Settings for a first look. A key that is there already is used.
fn dev(settings: &mut Settings) -> Result<KeySource, Failed> {
    first_look(settings);
    if let Some(keys) = KeySource::find(&settings.auth).map_err(Failed::usage)? {
        return Ok(keys);
    }
    let mut secret = [0_u8; 32];
    getrandom::fill(&mut secret).map_err(|error| Failed::Run(format!("could not make a key: {error}")))?;
    Keys::parse(&hex(&secret)).map(KeySource::Fixed).map_err(Failed::run)
}

fn first_look(settings: &mut Settings) {
    let auth = &mut settings.auth;
    if auth.sdk_app_id == 0 {
        auth.sdk_app_id = DEV_APP;
    }
    if auth.admins.is_empty() {
        auth.admins.push(DEV_ADMIN.to_owned());
    }
    auth.failures_per_minute_per_address = 0;
    settings.server.calls_per_second = 0;
    settings.server.calls_per_second_per_user = 0;
}

/// What a newcomer can paste.
fn welcome(address: &str, settings: &Settings, keys: &KeySource) -> Result<String, KeysError> {
    let keys = keys.load()?;
    let app = settings.auth.sdk_app_id;
    let sign = |identifier: &str| keys.sign(identifier, app, now(), DEFAULT_LIFETIME_SECONDS);
    let user = sign(DEV_USER);
    let admin = settings.auth.admins.first().map_or(DEV_ADMIN, String::as_str);
    let trust = if address.starts_with("https") { " -k" } else { "" };
    let body = r#"{"groupName":"Work","conversationIDList":["c2c_bob","group_42"]}"#;
    let rest = format!(r#"{{"From_Account":"{DEV_USER}","StartIndex":0}}"#);
    let store = if settings.store == "memory:" { "memory".into() } else { store::without_password(&settings.store) };
    Ok(format!(
        "For a first look, not for production: a key that was made just now, no limits on rates; groups are in {store}.\n\
         \n\
         As {DEV_USER}, make a group, take a conversation out of it, and watch what happens:\n\
         \n\
         SIG='{user}'\n\
         curl{trust} -H \"Authorization: Bearer $SIG\" {address}/v1/createConversationGroup -d '{body}'\n\
         curl{trust} -H \"Authorization: Bearer $SIG\" {address}/v1/deleteConversationsFromGroup \
         -d '{{\"groupName\":\"Work\",\"conversationIDList\":[\"c2c_bob\",\"c2c_eve\"]}}'\n\
         curl{trust} -N -H \"Authorization: Bearer $SIG\" '{address}/v1/events?after=0'\n\
         \n\
         As {admin}, for any user, as back ends do by Tencent's REST API:\n\
         \n\
         curl{trust} '{address}/v4/recentcontact/get_contact_group?sdkappid={app}&identifier={admin}&random=1&\
         contenttype=json&usersig={}' -d '{rest}'\n\
         \n\
         In a browser: {address}/console/ (sign in with the UserSig above)\n",
        sign(admin)
    ))
}

fn now() -> u64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    elapsed.map_or(0, |elapsed| elapsed.as_secs())
}

/// Ends the process without waiting for calls. Acknowledged changes are kept: a store survives SIGKILL.
fn stop_at_once() -> ! {
    say("convgroups: a second signal stopped the server at once; calls in flight get no response");
    outlet::flush();
    std::process::exit(1)
}

/// Takes over what can be changed while the server runs.
struct Reload {
    /// As the server was started, but for what was taken over since.
    configured: Settings,
    global: Global,
    dev: bool,
    server: Reloader,
}

impl Reload {
    /// Reads the settings again, and makes the server read keys and certificates.
    fn reload(&mut self) {
        tracing::info!("SIGHUP: settings, keys and certificates are read again");
        let settings = match self.read() {
            Ok(settings) => Some(settings),
            Err(Failed::Usage(error) | Failed::Run(error)) => {
                tracing::error!(error, "the settings cannot be used; those before stay in force");
                None
            }
            Err(Failed::OutputClosed) => None,
        };
        self.server.reload(settings.map(|settings| settings.of_server()));
    }

    /// Reads the settings; names those that have changed and need a restart.
    fn read(&mut self) -> Result<Settings, Failed> {
        let mut now = config::load(&self.global)?.settings;
        let mut in_force = self.configured.of_server();
        Reloader::apply(&now.of_server(), &mut in_force);
        self.configured.server = in_force.server;
        self.configured.auth = in_force.auth;
        let changed = config::differences(&self.configured, &now)?;
        if !changed.is_empty() {
            let changed = changed.join(", ");
            tracing::warn!(changed, "these settings have changed, and need a restart; those before stay in force");
        }
        if self.dev {
            first_look(&mut now);
        }
        Ok(now)
    }
}

/// Signals that would end the process, and do something else or nothing instead.
#[cfg(unix)]
struct Signals {
    hangup: tokio::signal::unix::Signal,
    /// Which programs that rotate logs send by habit.
    _ignored: [tokio::signal::unix::Signal; 2],
}

#[cfg(unix)]
impl Signals {
    fn take() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        let ignored = [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?];
        Ok(Self { hangup: signal(SignalKind::hangup())?, _ignored: ignored })
    }

    async fn reload_on_hangup(mut self, mut reload: Reload) {
        while self.hangup.recv().await.is_some() {
            reload.reload();
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn take() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn reload_on_hangup(self, _: Reload) {}
}

/// Signals that ask the program to stop.
#[cfg(unix)]
struct StopSignals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl StopSignals {
    fn take() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next one.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct StopSignals;

#[cfg(not(unix))]
impl StopSignals {
    fn take() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
