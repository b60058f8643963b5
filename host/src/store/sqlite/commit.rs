//! The thread that commits: takes what waits, and makes it durable with one flush.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, ffi, params};

use super::read::group_id;
use super::{failed, file, history};
use crate::model::{Change, ConversationData, Positions, Version};
use crate::store::{Commit, CommitOutcome, StoreCounts, StoreError, StoreErrorKind, StoreResult, Watchers};

/// The most commits that share a flush. More would make the first of them wait for little gain.
pub(super) const MAX_BATCH: usize = 256;

/// What the thread is asked for.
pub(super) enum Job {
    Commit {
        commit: Commit,
        logged: Option<Logged>,
        reply: SyncSender<StoreResult<CommitOutcome>>,
    },
    /// Whether the file can be written.
    Probe {
        reply: SyncSender<StoreResult<()>>,
    },
}

type CommitReply = (SyncSender<StoreResult<CommitOutcome>>, StoreResult<CommitOutcome>);

/// What others may know of the committer's work.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) watchers: Arc<Watchers>,
    commits: AtomicU64,
    flushes: AtomicU64,
}

impl Progress {
    pub(super) fn counts(&self) -> StoreCounts {
        let (commits, flushes) = (self.commits.load(Ordering::Relaxed), self.flushes.load(Ordering::Relaxed));
        StoreCounts { commits, flushes, ..StoreCounts::default() }
    }
}

pub(super) struct Committer {
    path: PathBuf,
    progress: Arc<Progress>,
    /// Nothing after a failure, until the file can be opened again.
    connection: Option<Connection>,
    max_batch: usize,
    /// Whether the log must stay as it is until the file is opened by another process.
    keeps_log: bool,
}

impl Committer {
    pub(super) fn new(path: PathBuf, connection: Connection, max_batch: usize, progress: Arc<Progress>) -> Self {
        Self { path, progress, connection: Some(connection), max_batch, keeps_log: false }
    }

    /// Works until nobody can send jobs any more.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            // No waiting for more: those that come during this flush share the next.
            let batch: Vec<Job> = std::iter::once(first).chain(jobs.try_iter().take(self.max_batch - 1)).collect();
            self.work(batch);
        }
        // Should this fail, the next start begins a new history, and readers of events get the full state.
        if let Some(connection) = self.connection.as_mut().filter(|_| !self.keeps_log)
            && let Err(error) = history::mark_anew(connection, &self.path)
        {
            tracing::debug!(%error, "could not mark {}", self.path.display());
        }
    }

    fn work(&mut self, batch: Vec<Job>) {
        let mut commits = Vec::with_capacity(batch.len());
        for job in batch {
            match job {
                Job::Commit { commit, logged, reply } => commits.push((Prepared { commit, logged }, reply)),
                // Who asked may have gone; then nobody wants to know.
                Job::Probe { reply } => drop(reply.send(self.probe())),
            }
        }
        if commits.is_empty() {
            return;
        }
        for (reply, result) in self.commit(commits) {
            // As above.
            let _ = reply.send(result);
        }
        self.take_over_log();
    }

    /// Takes a long log over into the file, unless a flush of the file has failed before: then nobody knows which pages
    /// of it have reached the disk, though SQLite would not write them again. The log still has them all.
    fn take_over_log(&mut self) {
        let Some(connection) = self.connection.as_ref().filter(|_| !self.keeps_log) else { return };
        let Err(error) = file::take_over_long_log(connection) else { return };
        let flush_failed = error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_FSYNC);
        if !flush_failed {
            tracing::warn!(%error, "the log could not be taken over into {}; trying again", self.path.display());
            return;
        }
        let path = self.path.display();
        tracing::error!(%error, "could not flush {path}; its log is kept and grows until this host is started again");
        self.keeps_log = true;
        if let Err(error) = file::keep_log(connection) {
            tracing::error!(%error, "the log of {path} cannot be kept");
        }
    }

    fn probe(&mut self) -> StoreResult<()> {
        let path = self.path.clone();
        let probe = |connection: &mut Connection| {
            connection.transaction_with_behavior(TransactionBehavior::Immediate)?.rollback()
        };
        probe(self.connection()?).map_err(|error| failed("write to", &path, &error))
    }

    fn commit(&mut self, commits: Vec<(Prepared, SyncSender<StoreResult<CommitOutcome>>)>) -> Vec<CommitReply> {
        let path = self.path.clone();
        let result = self.connection().and_then(|connection| commit_all(connection, &commits, &path));
        match result {
            Ok(outcomes) => {
                self.progress.flushes.fetch_add(1, Ordering::Relaxed);
                self.progress.commits.fetch_add(commits.len() as u64, Ordering::Relaxed);
                for ((prepared, _), outcome) in commits.iter().zip(&outcomes) {
                    if let Ok(CommitOutcome::Committed(_)) = outcome {
                        self.progress.watchers.notify(&prepared.commit.user);
                    }
                }
                commits.into_iter().map(|(_, reply)| reply).zip(outcomes).collect()
            }
            Err(error) => {
                tracing::error!(%error, commits = commits.len(), "a batch of commits failed; opening the store again");
                // Whatever state the connection is in, it ends here.
                self.connection = None;
                commits.into_iter().map(|(_, reply)| (reply, Err(error.clone()))).collect()
            }
        }
    }

    fn connection(&mut self) -> StoreResult<&mut Connection> {
        match &mut self.connection {
            Some(connection) => Ok(connection),
            closed => {
                let connection = file::open_writer(&self.path)?;
                if self.keeps_log {
                    file::keep_log(&connection).map_err(|error| failed("open", &self.path, &error))?;
                }
                Ok(closed.insert(connection))
            }
        }
    }
}

struct Prepared {
    commit: Commit,
    /// Nothing where the log begins anew after the commit.
    logged: Option<Logged>,
}

/// What is logged of a commit, encoded.
pub(super) struct Logged {
    pub(super) origin: String,
    pub(super) events: String,
}

/// Applies all commits and flushes once. Each has its own outcome; an error is everybody's.
fn commit_all<T>(
    connection: &mut Connection,
    commits: &[(Prepared, T)],
    path: &std::path::Path,
) -> StoreResult<Vec<StoreResult<CommitOutcome>>> {
    let write_failed = |error: rusqlite::Error| failed("write to", path, &error);
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(write_failed)?;
    let mut outcomes = Vec::with_capacity(commits.len());
    for (prepared, _) in commits {
        let savepoint = transaction.savepoint().map_err(write_failed)?;
        match apply(&savepoint, prepared) {
            Ok(outcome) => {
                savepoint.commit().map_err(write_failed)?;
                outcomes.push(Ok(outcome));
            }
            Err(Misfit::Change(what)) => {
                // Takes back what was done of this one.
                savepoint.finish().map_err(write_failed)?;
                let message = format!("{}: {what}, though nobody has changed it since", path.display());
                outcomes.push(Err(StoreError::new(StoreErrorKind::Corrupt, message)));
            }
            Err(Misfit::Sqlite(error)) => return Err(write_failed(error)),
        }
    }
    transaction.commit().map_err(|error| {
        // The flush may have got part of the way, and what a restart finds is not known from here.
        let message = format!("could not flush {}: {error}", path.display());
        StoreError::new(StoreErrorKind::OutcomeUnknown, message)
    })?;
    Ok(outcomes)
}

/// Why one commit could not be applied.
enum Misfit {
    /// The file is not as the changes were worked out on.
    Change(&'static str),
    /// SQLite failed, which may not be this commit's doing.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Misfit {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::ConstraintViolation) => Self::Change("something that is new to a group is there"),
            _ => Self::Sqlite(error),
        }
    }
}

fn apply(connection: &Connection, prepared: &Prepared) -> Result<CommitOutcome, Misfit> {
    let Prepared { commit, logged } = prepared;
    let Some(version) = commit.version() else { return Ok(CommitOutcome::Conflict) };
    let Some(user) = raise_version(connection, commit, version)? else { return Ok(CommitOutcome::Conflict) };
    let mut positions = Positions::of(version);
    let mut left_out = commit.skip.group_ids.iter().copied();
    for change in &commit.changes {
        if let Change::GroupCreated { .. } = change {
            skip_group_ids(connection, user, left_out.next())?;
        }
        apply_change(connection, user, change, &mut positions)?;
    }
    skip_group_ids(connection, user, left_out.next())?;
    let Some(Logged { origin, events }) = logged else {
        connection.prepare_cached("DELETE FROM log WHERE user = ?1")?.execute([user])?;
        return Ok(CommitOutcome::Committed(version));
    };
    connection
        .prepare_cached("INSERT INTO log (user, version, origin, events) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![user, version.0, origin, events])?;
    if let Some(trimmed) = version.0.checked_sub(commit.keep.max(1).into()).filter(|&trimmed| trimmed > 0) {
        connection
            .prepare_cached("DELETE FROM log WHERE user = ?1 AND version <= ?2")?
            .execute(params![user, trimmed])?;
    }
    Ok(CommitOutcome::Committed(version))
}

/// The user's row, at a version from now on; nothing when the user is not at the base version.
fn raise_version(connection: &Connection, commit: &Commit, version: Version) -> rusqlite::Result<Option<i64>> {
    let user = commit.user.as_str();
    let row = |row: &rusqlite::Row<'_>| row.get(0);
    if commit.base == Version::default() {
        let mut insert = connection.prepare_cached(
            "INSERT INTO users (user_id, version) VALUES (?1, ?2) ON CONFLICT DO NOTHING RETURNING id",
        )?;
        return insert.query_row(params![user, version.0], row).optional();
    }
    let mut update =
        connection.prepare_cached("UPDATE users SET version = ?3 WHERE user_id = ?1 AND version = ?2 RETURNING id")?;
    update.query_row(params![user, commit.base.0, version.0], row).optional()
}

fn skip_group_ids(connection: &Connection, user: i64, count: Option<u32>) -> Result<(), Misfit> {
    match count {
        None | Some(0) => Ok(()),
        Some(count) => count_groups(connection, user, count).map(drop),
    }
}

/// Counts so many groups as created; answers the id of the last.
fn count_groups(connection: &Connection, user: i64, more: u32) -> Result<u32, Misfit> {
    let mut update = connection.prepare_cached(
        "UPDATE users SET groups_created = groups_created + ?2 WHERE id = ?1 RETURNING groups_created",
    )?;
    let created: i64 = update.query_row(params![user, more], |row| row.get(0))?;
    u32::try_from(created).map_err(|_| Misfit::Change("there is no id left for a group"))
}

fn apply_change(connection: &Connection, user: i64, change: &Change, positions: &mut Positions) -> Result<(), Misfit> {
    let find = |name: &str| group_id(connection, user, name)?.ok_or(Misfit::Change("a group is gone"));
    match change {
        Change::GroupCreated { group_name, conversation_list } => {
            let number = count_groups(connection, user, 1)?;
            connection
                .prepare_cached("INSERT INTO groups (user, number, name) VALUES (?1, ?2, ?3)")?
                .execute(params![user, number, group_name])?;
            add(connection, connection.last_insert_rowid(), conversation_list, positions)
        }
        Change::GroupDeleted { group_name } => {
            let group = find(group_name)?;
            connection.prepare_cached("DELETE FROM members WHERE group_id = ?1")?.execute([group])?;
            connection.prepare_cached("DELETE FROM groups WHERE id = ?1")?.execute([group])?;
            Ok(())
        }
        Change::GroupRenamed { old_name, new_name } => {
            let group = find(old_name)?;
            let mut rename = connection.prepare_cached("UPDATE groups SET name = ?2 WHERE id = ?1")?;
            rename.execute(params![group, new_name])?;
            Ok(())
        }
        Change::ConversationsAdded { group_name, conversation_list } => {
            add(connection, find(group_name)?, conversation_list, positions)
        }
        Change::ConversationsDeleted { group_name, conversation_list, .. } => {
            let group = find(group_name)?;
            let mut delete =
                connection.prepare_cached("DELETE FROM members WHERE group_id = ?1 AND conversation_id = ?2")?;
            for id in conversation_list {
                if delete.execute(params![group, id])? != 1 {
                    return Err(Misfit::Change("a conversation has left its group"));
                }
            }
            Ok(())
        }
        Change::ConversationsChanged { conversation_list } => {
            for data in conversation_list {
                set_data(connection, user, data, positions.take())?;
            }
            Ok(())
        }
    }
}

/// Gives a conversation marks and custom data, at a place of its own if it had none before.
fn set_data(connection: &Connection, user: i64, data: &ConversationData, position: u64) -> Result<(), Misfit> {
    let ConversationData { conversation_id, marks, custom_data } = data;
    if data.is_none() {
        let mut delete =
            connection.prepare_cached("DELETE FROM conversations WHERE user = ?1 AND conversation_id = ?2")?;
        if delete.execute(params![user, conversation_id])? != 1 {
            return Err(Misfit::Change("a conversation has lost its marks and custom data"));
        }
        return Ok(());
    }
    let mut upsert = connection.prepare_cached(
        "INSERT INTO conversations (user, conversation_id, marks, custom_data, position) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET marks = excluded.marks, custom_data = excluded.custom_data",
    )?;
    upsert.execute(params![user, conversation_id, marks.cast_signed(), custom_data, position])?;
    Ok(())
}

fn add(connection: &Connection, group: i64, ids: &[String], positions: &mut Positions) -> Result<(), Misfit> {
    let mut insert =
        connection.prepare_cached("INSERT INTO members (group_id, conversation_id, position) VALUES (?1, ?2, ?3)")?;
    for id in ids {
        insert.execute(params![group, id, positions.take()])?;
    }
    Ok(())
}
