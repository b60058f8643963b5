//! Why a call failed, and whose failure it was.

use std::fmt;

use crate::api::{OperationError, code};
use crate::sandbox::PluginFault;
use crate::store::StoreError;

/// A call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{failure}")]
#[non_exhaustive]
pub struct CallError {
    /// The id of the call, which log lines carry too.
    pub request_id: String,
    /// What failed.
    #[source]
    pub failure: Failure,
}

/// Whose failure it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The caller's: a rule refused the operation.
    #[error(transparent)]
    Refused(OperationError),
    /// The plugin's.
    #[error("the plugin failed: {0}")]
    Plugin(#[source] Box<PluginFault>),
    /// The host's.
    #[error(transparent)]
    Host(#[from] HostFault),
}

/// What the host failed at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostFault {
    /// More calls wait than may wait.
    #[error("too many calls are waiting, try again later")]
    Overloaded,
    /// The user has as many calls in flight as one user may have, see
    /// [`CallContext::max_of_user`](crate::call::CallContext::max_of_user).
    #[error("too many of your calls are in flight, try again later")]
    UserBusy,
    /// The call's deadline passed.
    #[error("the call took too long; it waited for {0}")]
    TimedOut(Waiting),
    /// The call ended without a result: it panicked, or the runtime that it ran on has stopped.
    #[error("the call ended without a result")]
    Aborted,
    /// Other hosts kept changing the same user's groups.
    #[error("the user's groups were changed by others {attempts} times while the call ran")]
    Busy {
        /// How often the call was run.
        attempts: u32,
    },
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
}

/// What a call was waiting for, or doing, when its deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Waiting {
    /// Earlier calls of the same user.
    PerUserQueue,
    /// A permit: as many calls as allowed were running.
    Permit,
    /// The plugin.
    Plugin,
    /// The store.
    Store,
    /// An attempt without a conflict with another host.
    Attempt,
}

impl fmt::Display for Waiting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::PerUserQueue => "earlier calls of the same user",
            Self::Permit => "a permit",
            Self::Plugin => "the plugin",
            Self::Store => "the store",
            Self::Attempt => "an attempt without a conflict",
        })
    }
}

impl CallError {
    /// The code to answer the caller with.
    #[must_use]
    pub fn code(&self) -> i32 {
        match &self.failure {
            Failure::Refused(refusal) => refusal.code,
            Failure::Host(HostFault::Overloaded | HostFault::UserBusy | HostFault::Busy { .. }) => code::OVERLOADED,
            Failure::Host(HostFault::TimedOut(_)) => code::TIMED_OUT,
            Failure::Plugin(_) | Failure::Host(HostFault::Store(_) | HostFault::Aborted) => code::INTERNAL,
        }
    }

    /// The reason to give to the caller. What went wrong inside is the operator's business: the caller gets the call's id
    /// to ask with.
    #[must_use]
    pub fn desc(&self) -> String {
        let id = &self.request_id;
        match &self.failure {
            Failure::Refused(refusal) => refusal.desc.clone(),
            Failure::Plugin(_) => format!("the plugin failed, and nothing was changed (request {id})"),
            Failure::Host(HostFault::Store(error)) if error.kind == crate::store::StoreErrorKind::OutcomeUnknown => {
                format!("the store failed, and whether the change was kept is not known (request {id})")
            }
            Failure::Host(HostFault::Store(_)) => format!("the store failed, and nothing was changed (request {id})"),
            // What it had done by then is not known.
            Failure::Host(HostFault::Aborted) => format!("the host failed (request {id})"),
            Failure::Host(fault) => format!("{fault}; nothing was changed (request {id})"),
        }
    }
}
