//! The database that the hosts share: what is in it, and what it uses of the machine.

use std::io::Write;
use std::time::{Duration, Instant};

use convgroups_host::PostgresStore;
use convgroups_host::settings::PostgresSettings;
use postgres_for_tests::Server;

use crate::Failure;

/// Groups of each user.
pub(crate) const GROUPS: u32 = 5;
/// Conversations in each group.
pub(crate) const IDS: u32 = 50;
/// Changes in each user's log. As many are kept, so that each call adds one and removes one.
pub(crate) const KEPT: u32 = 20;

/// A server of its own, filled.
pub(crate) struct Database {
    // Before the server, which takes it along.
    database: postgres_for_tests::Database,
    _server: Server,
    postmaster: Option<u32>,
}

impl Database {
    /// Nothing where PostgreSQL is not installed.
    pub(crate) fn start(users: u32) -> Result<Option<Self>, Failure> {
        // A checkpoint in the middle would make some rounds slower than others.
        let settings = ["max_connections=300", "shared_buffers=512MB", "max_wal_size=8GB", "checkpoint_timeout=1h"];
        let Some(server) = Server::start_with(&settings) else { return Ok(None) };
        let database = server.create_database();
        PostgresStore::migrate(database.url(), &PostgresSettings::default())?;
        database.execute(&[
            &format!(
                "INSERT INTO convgroups.users SELECT 'user-' || u, {KEPT}, {GROUPS} FROM generate_series(0, {users} - 1) AS u"
            ),
            &format!(
                "INSERT INTO convgroups.groups SELECT user_id, g, 'Group ' || g
                 FROM convgroups.users, generate_series(1, {GROUPS}) AS g"
            ),
            &format!(
                "INSERT INTO convgroups.members SELECT user_id, number, 'c2c_user_' || i, (number - 1) * {IDS} + i
                 FROM convgroups.groups, generate_series(0, {IDS} - 1) AS i"
            ),
            &format!(
                "INSERT INTO convgroups.log SELECT user_id, v, '\\x00112233445566778899aabbccddeeff',
                 '{{\"method\":\"deleteConversationsFromGroup\",\"requestID\":\"00000000000000000000000000000000\"}}',
                 '[' || repeat('\"c2c_user_00\",', 20) || '\"\"]'
                 FROM convgroups.users, generate_series(1, {KEPT}) AS v"
            ),
            "VACUUM ANALYZE",
            "CHECKPOINT",
        ]);
        let backend = database.query("SELECT pg_backend_pid() || ' ' || pg_read_file('postmaster.pid', 0, 20)");
        let postmaster = backend.first().and_then(|pids| pids.split_whitespace().nth(1)?.parse().ok());
        Ok(Some(Self { database, _server: server, postmaster }))
    }

    pub(crate) fn url(&self) -> &str {
        self.database.url()
    }

    /// The processor time of all its processes so far, in microseconds.
    pub(crate) fn cpu(&self) -> Option<u64> {
        let postmaster = self.postmaster?;
        let own = Times::of(postmaster)?;
        let processes = std::fs::read_dir("/proc").ok()?.flatten();
        let processes = processes.filter_map(|entry| Times::of(entry.file_name().to_str()?.parse().ok()?));
        let children: u64 = processes.filter(|times| times.parent == postmaster).map(|times| times.own).sum();
        Some(own.own + own.ended_children + children)
    }

    /// Bytes of write-ahead log ever written.
    pub(crate) fn log_position(&self) -> Result<f64, Failure> {
        let position = self.database.query("SELECT pg_current_wal_insert_lsn() - '0/0'");
        Ok(position.first().ok_or("the database has no log")?.parse()?)
    }

    /// What a user takes of the disk.
    pub(crate) fn sizes(&self) -> Result<String, Failure> {
        let sizes = self.database.query(
            "SELECT relname || ': ' || count || ' rows of ' || pg_total_relation_size(oid) / greatest(count, 1) || ' bytes, '
                    || pg_indexes_size(oid) / greatest(count, 1) || ' of them in indexes'
             FROM (SELECT 'users' AS relname, count(*) FROM convgroups.users
                   UNION ALL SELECT 'groups', count(*) FROM convgroups.groups
                   UNION ALL SELECT 'members', count(*) FROM convgroups.members
                   UNION ALL SELECT 'log', count(*) FROM convgroups.log) AS counts
             JOIN pg_class USING (relname) WHERE relnamespace = 'convgroups'::regnamespace ORDER BY relname",
        );
        Ok(sizes.join("\n"))
    }
}

/// Processor times, in microseconds.
pub(crate) struct Times {
    parent: u32,
    pub(crate) own: u64,
    ended_children: u64,
}

impl Times {
    /// Of a process, from `/proc`; nothing on systems that have none.
    pub(crate) fn of(process: u32) -> Option<Self> {
        let line = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name, in brackets, may have spaces.
        let fields: Vec<&str> = line.rsplit_once(") ")?.1.split(' ').collect();
        let field = |number: usize| fields.get(number)?.parse::<u64>().ok();
        // Linux counts in hundredths of a second there, whatever the processor does.
        let micros = |first: usize| Some((field(first)? + field(first + 1)?) * 10_000);
        Some(Self { parent: fields.get(1)?.parse().ok()?, own: micros(11)?, ended_children: micros(13)? })
    }
}

/// What one write of 8 KiB with a flush takes where the database is, as a median.
pub(crate) fn flush_time() -> Result<Duration, Failure> {
    let mut file = tempfile::tempfile()?;
    let mut times = Vec::new();
    for _ in 0..100 {
        let started = Instant::now();
        file.write_all(&[1; 8192])?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}
