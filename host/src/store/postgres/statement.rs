//! Statements, and asking the database one.
//!
//! Statements are prepared once for each connection. A pooler that hands each transaction another of the database's
//! connections, and does not keep track of what is prepared where, breaks that: a statement is not there, or, worse, is one
//! that another program has prepared under the same name. So each statement has a tag made from its text, which it answers
//! with, and without which it changes nothing. Where the answer is another's, and where a statement is missing, statements
//! are sent whole from then on.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use deadpool_postgres::Object;
use tokio_postgres::error::{DbError, Severity, SqlState};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{CancelToken, Error, Row};

/// Parameters of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A statement that answers one row, whose first column is its tag.
#[derive(Debug)]
pub(super) struct Statement {
    text: String,
    types: Vec<Type>,
    tag: i64,
}

impl Statement {
    /// Makes a statement of a text in which `TAG` stands for the tag, with parameters of these types.
    pub(super) fn new(text: &str, types: &[Type]) -> Self {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(text);
        // Not negative: a sign would be an operator in some places.
        let tag = (hash >> 1).cast_signed();
        Self { text: text.replace("TAG", &format!("{tag}::bigint")), types: types.to_vec(), tag }
    }

    /// The tag, for statements that want it as a parameter.
    pub(super) fn tag(&self) -> i64 {
        self.tag
    }
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// No connection was to be had in time.
    #[error("no connection to it was free in time")]
    Pool,
    /// No connection could be made.
    #[error("could not connect: {}", describe(.0))]
    Connect(#[source] Error),
    /// It took the connection, if that, and said nothing.
    #[error("could not connect: it did not answer in time")]
    Silent,
    /// It did not answer in time.
    #[error("it did not answer in time")]
    Slow,
    /// It answered with an error, or the connection broke.
    #[error("{}", describe(.0))]
    Failed(#[source] Error),
    /// The pooler between has mixed up what was prepared.
    #[error(
        "it ran another statement than it was asked to, as poolers do that do not keep track of prepared statements"
    )]
    MixedUp,
    /// What was to be changed is not there, though the version says that nobody has changed anything.
    #[error("a change does not fit what is there, though nobody has changed it since it was read")]
    Misfit,
    /// The answer cannot be read.
    #[error("what it has cannot be read: {0}")]
    Unreadable(String),
}

/// The error with its reason; the driver's own text has only one of both.
pub(super) fn describe(error: &Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(db), _) => format!("{} (SQLSTATE {}{})", db.message(), db.code().code(), hint(db.code())),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

/// What to do about it, where the database does not say.
fn hint(code: &SqlState) -> &'static str {
    match *code {
        SqlState::READ_ONLY_SQL_TRANSACTION => {
            ": the server is a standby, or read-only by default_transaction_read_only, which some providers set when a disk \
             is full"
        }
        SqlState::DISK_FULL => ": free space on the database's disk",
        _ => "",
    }
}

impl Trouble {
    /// Whether trying again may help.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Pool | Self::Silent | Self::Slow | Self::MixedUp => true,
            Self::Unreadable(_) | Self::Misfit => false,
            Self::Connect(error) | Self::Failed(error) => match error.code() {
                Some(code) => {
                    self.needs_rerun()
                        || self.is_about_preparation()
                        || tells_of_loss(code)
                        // A plan that was made before the schema changed.
                        || code == &SqlState::FEATURE_NOT_SUPPORTED
                        || code.code().starts_with("57P")
                        || [
                            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                            SqlState::TOO_MANY_CONNECTIONS,
                            SqlState::READ_ONLY_SQL_TRANSACTION,
                            SqlState::LOCK_NOT_AVAILABLE,
                        ]
                        .contains(code)
                }
                // A connection that is not, or no longer.
                None => !is_permanent(error),
            },
        }
    }

    /// Whether the database undid the transaction because of others that ran beside it.
    pub(super) fn needs_rerun(&self) -> bool {
        let code = match self {
            Self::Failed(error) => error.code(),
            _ => None,
        };
        code == Some(&SqlState::T_R_SERIALIZATION_FAILURE) || code == Some(&SqlState::T_R_DEADLOCK_DETECTED)
    }

    /// Whether a constraint was violated.
    pub(super) fn is_violation(&self) -> bool {
        match self {
            Self::Misfit => true,
            Self::Failed(error) => error.code().is_some_and(|code| code.code().starts_with("23")),
            _ => false,
        }
    }

    /// Whether a prepared statement was not there, was there already, or has other parameters.
    pub(super) fn is_about_preparation(&self) -> bool {
        let confused =
            [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT, SqlState::PROTOCOL_VIOLATION];
        match self {
            Self::MixedUp => true,
            // What ends the connection is no word about a statement: poolers report all their own troubles so.
            Self::Failed(error) => {
                error.as_db_error().is_some_and(|error| is_plain(error) && confused.contains(error.code()))
            }
            _ => false,
        }
    }

    /// Whether what was asked for may have been done, or may yet be.
    pub(super) fn leaves_open(&self) -> bool {
        match self {
            Self::Pool | Self::Connect(_) | Self::Silent | Self::MixedUp | Self::Misfit => false,
            Self::Slow | Self::Unreadable(_) => true,
            // An error of the statement undid it; one that ends the connection may have come after the commit.
            Self::Failed(error) => {
                error.as_db_error().is_none_or(|error| !is_plain(error) || tells_of_loss(error.code()))
            }
        }
    }
}

/// Whether an error is of the statement alone, so that the connection goes on.
fn is_plain(error: &DbError) -> bool {
    error.parsed_severity().map_or(error.severity() == "ERROR", |severity| severity == Severity::Error)
}

/// Whether a code tells that the connection to the database was lost behind a pooler, or that a database of several machines
/// does not know what became of a commit: of severity ERROR too, which elsewhere means that all was undone.
fn tells_of_loss(code: &SqlState) -> bool {
    code.code().starts_with("08") || code == &SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
}

/// Whether an error without a code of the database's will be the same next time: a wrong password file, a certificate that
/// is not good.
fn is_permanent(error: &Error) -> bool {
    if error.is_closed() {
        return false;
    }
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<rustls::Error>() {
            return true;
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            // How rustls' errors come through a stream.
            return matches!(error.get_ref(), Some(inner) if inner.is::<rustls::Error>())
                || error.kind() == std::io::ErrorKind::InvalidData;
        }
        source = error.source();
    }
    false
}

/// A connection of the pool, for a while.
pub(super) struct Lease {
    connection: Object,
    prepared: bool,
}

impl Lease {
    pub(super) fn new(connection: Object, prepared: bool) -> Self {
        Self { connection, prepared }
    }

    /// Asks a statement.
    pub(super) async fn ask(&self, statement: &Statement, params: Params<'_>) -> Result<Row, Trouble> {
        let row = if self.prepared {
            let prepared = self.connection.prepare_typed_cached(&statement.text, &statement.types);
            let prepared = prepared.await.map_err(Trouble::Failed)?;
            self.connection.query_one(&prepared, params).await
        } else {
            let params: Vec<_> = params.iter().copied().zip(statement.types.iter().cloned()).collect();
            self.connection.query_typed_one(&statement.text, &params).await
        };
        let row = row.map_err(Trouble::Failed)?;
        match row.try_get::<_, i64>(0) {
            Ok(tag) if tag == statement.tag => Ok(row),
            _ => Err(Trouble::MixedUp),
        }
    }

    /// Prepares a statement ahead, so that asking it later is one message.
    pub(super) async fn prepare(&self, statement: &Statement) -> Result<(), Trouble> {
        if self.prepared {
            let prepared = self.connection.prepare_typed_cached(&statement.text, &statement.types);
            prepared.await.map_err(Trouble::Failed)?;
        }
        Ok(())
    }

    /// Sends statements without parameters and answers.
    pub(super) async fn execute(&self, text: &str) -> Result<(), Trouble> {
        self.connection.batch_execute(text).await.map_err(Trouble::Failed)
    }

    /// To stop what it has been asked.
    pub(super) fn cancel_token(&self) -> CancelToken {
        self.connection.cancel_token()
    }

    /// Ends the connection, in whatever state it is.
    pub(super) fn discard(self) {
        drop(Object::take(self.connection));
    }
}

/// Reads a column.
pub(super) fn column<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, Trouble> {
    row.try_get(index).map_err(|error| Trouble::Unreadable(describe(&error)))
}
