//! Why an export or an import ended.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::UserId;
use crate::store::StoreError;

/// Why an export or an import ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A line of the file cannot be imported, or is not what the store has.
    #[error("line {line}: {reason}")]
    Line {
        /// Its number; the first is 1.
        line: u64,
        /// Why.
        reason: String,
    },
    /// What a line has is in the store already, as it is after an import that was interrupted.
    #[error("line {line}: user {user} has {what} already")]
    AlreadyThere {
        /// The line's number; the first is 1.
        line: u64,
        /// Whose it is.
        user: UserId,
        /// What is there.
        what: &'static str,
    },
    /// A line has what an earlier line has.
    #[error("line {line}: user {user} has {what} already")]
    Repeated {
        /// The line's number; the first is 1.
        line: u64,
        /// Whose it is.
        user: UserId,
        /// What is there twice.
        what: &'static str,
    },
    /// A line cannot be read.
    #[error("line {line}: {error}")]
    Read {
        /// Its number; the first is 1.
        line: u64,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// What a user has cannot be written.
    #[error("line {line}: could not import what user {user} has: {error}")]
    Commit {
        /// The number of the user's first line.
        line: u64,
        /// Who.
        user: UserId,
        /// Why.
        #[source]
        error: StoreError,
    },
    /// A file cannot be read or written.
    #[error("could not {action} {}: {error}", .path.display())]
    File {
        /// What was tried: a verb, and what belongs to it.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The output of an export cannot be written.
    #[error("could not write the output: {0}")]
    Output(#[source] io::Error),
    /// The file of an export must not be written.
    #[error("could not write {}: {reason}", .path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// An export to the file was interrupted, and is to be resumed or removed.
    #[error("could not write {}: {} is there, from an export that was interrupted", .path.display(), .partial.display())]
    Interrupted {
        /// The file.
        path: PathBuf,
        /// What of it is there.
        partial: PathBuf,
    },
    /// What is there of an export cannot be resumed.
    #[error("cannot go on with {}: {reason}; remove it", .path.display())]
    NotResumable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A group is too large for a line of a file.
    #[error("a group has a line of more than {max} bytes, which no import would read")]
    GroupTooLarge {
        /// The limit.
        max: usize,
    },
    /// What the store has is not what the file has.
    #[error("what the store has makes the SHA-256 {store}, not {file}")]
    Differs {
        /// The digest of what the store has.
        store: String,
        /// The digest of what the file has.
        file: String,
    },
    /// A thread could not be started, or has ended.
    #[error("could not work on several users at a time: {0}")]
    Threads(#[source] io::Error),
}

impl TransferError {
    /// Of a line of the file.
    pub(super) fn line(line: u64, reason: impl Into<String>) -> Self {
        Self::Line { line, reason: reason.into() }
    }

    /// Of a file.
    pub(super) fn file(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| Self::File { action, path: path.clone(), error }
    }
}
