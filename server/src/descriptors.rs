//! The limit of open files, which also limits connections.

use std::io;
use std::time::Duration;

use governor::{Quota, RateLimiter};
use prometheus_client::metrics::gauge::Gauge;

/// Open files besides connections and those of calls: the store, the log, keys and certificates.
const OTHERS: u64 = 64;
/// The shortest time between two warnings about failing accepts.
const PAUSE: Duration = Duration::from_secs(10);

/// Raises this process's soft limit of open files to the hard limit. The server does not do this by itself, because the limit is
/// the program's.
pub fn raise_limit_of_open_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};

        let mut limit = getrlimit(Resource::Nofile);
        if limit.current != limit.maximum {
            limit.current = limit.maximum;
            if let Err(error) = setrlimit(Resource::Nofile, limit) {
                tracing::debug!(%error, "the limit of open files could not be raised");
            }
        }
    }
}

/// The soft limit of open files; `None` if there is none.
fn limit() -> Option<u64> {
    #[cfg(unix)]
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let limit = None;
    limit
}

/// Warns if the settings need more files than this process may open.
pub(super) fn check(max_connections: u32, max_concurrent: u32) {
    let max_connections = u64::from(max_connections);
    // A call has up to two files of SQLite open.
    let others = OTHERS + 2 * u64::from(max_concurrent);
    if let Some(limit) = limit()
        && limit < max_connections.saturating_add(others)
    {
        let room = limit.saturating_sub(others);
        tracing::warn!(
            max_connections,
            open_files = limit,
            "server.max_connections is {max_connections}, but this process may open {limit} files, of which about {others} are \
             needed for other things: more than {room} connections may fail; raise the limit (LimitNOFILE= in systemd, \
             `ulimit -n`) to {}, or lower server.max_connections",
            max_connections.saturating_add(others)
        );
    }
}

/// Logs failing accepts: the first one, then one every ten seconds.
pub(super) fn on_accept_failure(max_connections: u32, open: Gauge) -> impl Fn(&io::Error) {
    let pause = Quota::with_period(PAUSE).map(RateLimiter::direct);
    move |error| {
        if pause.as_ref().is_none_or(|pause| pause.check().is_ok()) {
            let (connections, open_files) = (open.get(), limit().unwrap_or(u64::MAX));
            tracing::warn!(
                %error,
                connections,
                max_connections,
                open_files,
                "connections cannot be accepted: {connections} are open, server.max_connections is {max_connections}, and \
                 this process may open {open_files} files"
            );
        }
    }
}
