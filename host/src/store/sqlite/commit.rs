//! The thread that commits: takes what waits, and makes it durable with one flush.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, ffi, params};

use super::file::{self, FileMark, Writable};
use super::lock::OpenFiles;
use super::read::group_id;
use super::{describe, failed, history, marks};
use crate::model::{Change, ConversationData, Positions, Version};
use crate::store::record::Encoded;
use crate::store::{Commit, CommitOutcome, StoreCounts, StoreError, StoreErrorKind, StoreResult, Watchers};

/// The most commits that share a flush. More would make the first of them wait for little gain.
pub(super) const MAX_BATCH: usize = 256;

/// What the thread is asked for.
pub(super) enum Job {
    Commit {
        commit: Commit,
        logged: Option<Encoded>,
        reply: SyncSender<StoreResult<CommitOutcome>>,
    },
    /// Whether a change reaches the disk.
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
    /// Only these are opened again after a failure, and only as long as they are at their paths is anything acknowledged.
    files: Arc<OpenFiles>,
    progress: Arc<Progress>,
    /// Nothing after a failure, until the file can be opened again.
    writable: Option<Writable>,
    max_batch: usize,
    /// Whether the log must stay as it is until the file is opened by another process.
    keeps_log: bool,
}

impl Committer {
    pub(super) fn new(
        path: PathBuf,
        files: Arc<OpenFiles>,
        writable: Writable,
        max_batch: usize,
        progress: Arc<Progress>,
    ) -> Self {
        Self { path, files, progress, writable: Some(writable), max_batch, keeps_log: false }
    }

    /// Works until nobody can send jobs any more.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            // No waiting for more: those that come during this flush share the next.
            let batch: Vec<Job> = std::iter::once(first).chain(jobs.try_iter().take(self.max_batch - 1)).collect();
            self.work(batch);
        }
        // The files at the path may be another store's by now.
        let Some(mut writable) = self.writable.filter(|_| !self.keeps_log && self.files.check().is_ok()) else {
            return;
        };
        if let FileMark::Noted = writable.file_mark
            && let Err(error) = history::mark_anew(&mut writable, &self.path)
        {
            let error = describe(&error);
            tracing::warn!(error, "{} could not be marked: the next start begins a new history", self.path.display());
        }
        // Lets SQLite take over the log and delete it.
        if let Err(error) = file::take_over_log_on_close(&writable.connection) {
            tracing::warn!(error = describe(&error), "the log of {} is left", self.path.display());
        }
    }

    fn work(&mut self, batch: Vec<Job>) {
        let (mut commits, mut probes) = (Vec::with_capacity(batch.len()), Vec::new());
        for job in batch {
            match job {
                Job::Commit { commit, logged, reply } => commits.push((Prepared { commit, logged }, reply)),
                Job::Probe { reply } => probes.push(reply),
            }
        }
        if !commits.is_empty() {
            for (reply, result) in self.commit(commits) {
                // The caller may have gone; then nobody wants to know.
                let _ = reply.send(result);
            }
        }
        if probes.is_empty() {
            return self.take_over_log();
        }
        let result = self.probe();
        // Before the reply, so that it stands for everything that a commit brings about.
        self.take_over_log();
        for reply in probes {
            let _ = reply.send(result.clone());
        }
    }

    /// Takes a long log over into the file, unless a flush of the file has failed before: then nobody knows which pages
    /// of it have reached the disk, though SQLite would not write them again. The log still has them all.
    fn take_over_log(&mut self) {
        let Some(writable) = self.writable.as_mut().filter(|_| !self.keeps_log) else { return };
        let error = match file::take_over_long_log(&writable.connection) {
            Ok(pages) => {
                writable.mark_due = pages.all_moved();
                return;
            }
            Err(error) => error,
        };
        let flush_failed = error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_FSYNC);
        let (path, error) = (self.path.display(), describe(&error));
        if !flush_failed {
            tracing::warn!(%error, "the log could not be taken over into {path}; trying again");
            return;
        }
        tracing::error!(%error, "could not flush {path}; its log is kept and grows until this host is started again");
        self.keeps_log = true;
    }

    /// Changes something of no meaning, and flushes it.
    fn probe(&mut self) -> StoreResult<()> {
        let (path, files) = (self.path.clone(), Arc::clone(&self.files));
        files.check()?;
        let writable = self.writable()?;
        let result = begin(writable, &path)
            .and_then(|transaction| {
                marks::probe(&transaction)?;
                transaction.commit()
            })
            .map_err(|error| failed("write to", &path, error));
        match result {
            Ok(()) => {
                writable.committed(&path);
                files.check()
            }
            Err(error) => {
                // As after a batch: what a flush that failed has left is not built on.
                self.writable = None;
                Err(error)
            }
        }
    }

    fn commit(&mut self, commits: Vec<(Prepared, SyncSender<StoreResult<CommitOutcome>>)>) -> Vec<CommitReply> {
        let mut results: Vec<Option<StoreResult<CommitOutcome>>> = commits.iter().map(|_| None).collect();
        let mut disk_failed = false;
        loop {
            let left: Vec<usize> = (0..commits.len()).filter(|&at| results[at].is_none()).collect();
            if left.is_empty() {
                break;
            }
            let (path, files) = (self.path.clone(), Arc::clone(&self.files));
            let attempt = self.writable().map_err(|error| Broken::Batch { error, reopen: false });
            let committed = match attempt.and_then(|writable| commit_all(writable, &files, &commits, &left, &path)) {
                // Twice in one batch it is the disk, and not a commit: opening the store for each would write its WAL as often.
                Err(Broken::One { error, reopen: true, .. }) if disk_failed => {
                    Err(Broken::Batch { error, reopen: true })
                }
                committed => committed,
            };
            match committed {
                Ok(outcomes) => {
                    self.progress.flushes.fetch_add(1, Ordering::Relaxed);
                    self.progress.commits.fetch_add(left.len() as u64, Ordering::Relaxed);
                    for (at, outcome) in left.into_iter().zip(outcomes) {
                        if let Ok(CommitOutcome::Committed(_)) = outcome {
                            self.progress.watchers.notify(&commits[at].0.commit.user);
                        }
                        results[at] = Some(outcome);
                    }
                }
                Err(Broken::One { at, error, reopen }) => {
                    tracing::error!(%error, "a commit failed; committing those beside it without it");
                    if reopen {
                        disk_failed = true;
                        self.writable = None;
                    }
                    results[at] = Some(Err(error));
                }
                Err(Broken::Batch { error, reopen }) => {
                    tracing::error!(%error, commits = left.len(), "a batch of commits failed");
                    if reopen {
                        // Whatever state the connection is in, it ends here.
                        self.writable = None;
                    }
                    for at in left {
                        results[at] = Some(Err(error.clone()));
                    }
                }
            }
        }
        commits.into_iter().zip(results).filter_map(|((_, reply), result)| Some((reply, result?))).collect()
    }

    fn writable(&mut self) -> StoreResult<&mut Writable> {
        match &mut self.writable {
            Some(writable) => Ok(writable),
            closed => {
                // Missing files would be created, and another store's would be taken for this one's.
                self.files.check()?;
                let writable = file::open_writer(&self.path, false)?;
                self.files.check()?;
                Ok(closed.insert(writable))
            }
        }
    }
}

struct Prepared {
    commit: Commit,
    /// Nothing where the log begins anew after the commit.
    logged: Option<Encoded>,
}

/// What a failure of SQLite, or of the file, means for a batch.
enum Broken {
    /// This commit failed while it was applied. Nothing is committed, and the others can be without it.
    One {
        at: usize,
        error: StoreError,
        /// Whether the connection can no longer be used.
        reopen: bool,
    },
    /// The batch failed.
    Batch { error: StoreError, reopen: bool },
}

/// Begins a transaction that writes. If it may be the first of a WAL, it has a new mark; so it has if it is the first of a host.
/// When it is committed, [`Writable::committed`] is to be called.
pub(super) fn begin<'a>(writable: &'a mut Writable, path: &Path) -> rusqlite::Result<Transaction<'a>> {
    let Writable { connection, mark_due, file_mark } = writable;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if *mark_due {
        marks::renew(&transaction)?;
    }
    if !matches!(file_mark, FileMark::Noted) {
        *file_mark = FileMark::Given(history::mark(&transaction, path)?);
    }
    Ok(transaction)
}

/// Applies those commits and flushes once. Each has its own outcome.
fn commit_all<T>(
    writable: &mut Writable,
    files: &OpenFiles,
    commits: &[(Prepared, T)],
    left: &[usize],
    path: &Path,
) -> Result<Vec<StoreResult<CommitOutcome>>, Broken> {
    files.check().map_err(|error| Broken::Batch { error, reopen: false })?;
    let outcomes = match apply_all(writable, commits, left, path) {
        Err(Broken::One { at, error, reopen }) => {
            // Undone, unless the connection is broken.
            let reopen = reopen || !writable.connection.is_autocommit();
            return Err(Broken::One { at, error, reopen });
        }
        result => result?,
    };
    writable.committed(path);
    // Only now is it known where the flush went: to a file that was moved away, nobody will find it.
    let unknown = |error| StoreError { kind: StoreErrorKind::OutcomeUnknown, ..error };
    files.check().map_err(|error| Broken::Batch { error: unknown(error), reopen: false })?;
    Ok(outcomes)
}

fn apply_all<T>(
    writable: &mut Writable,
    commits: &[(Prepared, T)],
    left: &[usize],
    path: &Path,
) -> Result<Vec<StoreResult<CommitOutcome>>, Broken> {
    let mut transaction = begin(writable, path)
        .map_err(|error| Broken::Batch { error: failed("write to", path, error), reopen: true })?;
    let mut outcomes = Vec::with_capacity(left.len());
    for &at in left {
        let broken = |error: rusqlite::Error| {
            let reopen = error.sqlite_error_code() == Some(rusqlite::ErrorCode::SystemIoFailure);
            Broken::One { at, error: failed("write to", path, error), reopen }
        };
        let savepoint = transaction.savepoint().map_err(broken)?;
        match apply(&savepoint, &commits[at].0) {
            Ok(outcome) => {
                savepoint.commit().map_err(broken)?;
                outcomes.push(Ok(outcome));
            }
            Err(Misfit::Change(what)) => {
                // Takes back what was done of this one.
                savepoint.finish().map_err(broken)?;
                let message = format!("{}: {what}, though nobody has changed it since", path.display());
                outcomes.push(Err(StoreError::new(StoreErrorKind::Corrupt, message)));
            }
            Err(Misfit::Sqlite(error)) => return Err(broken(error)),
        }
    }
    transaction.commit().map_err(|error| {
        // The flush may have got part of the way, and what a restart finds is not known from here.
        let message = format!("could not flush {}: {}", path.display(), describe(&error));
        let error = StoreError::new(StoreErrorKind::OutcomeUnknown, message).caused_by(error);
        Broken::Batch { error, reopen: true }
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
    let Some(Encoded { origin, events }) = logged else {
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

/// Counts this many groups as created; answers the id of the last.
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
