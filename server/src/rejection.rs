//! Why a request was not answered as it wished: one type for both APIs, which render it each in its own way.

use axum::http::StatusCode;

use super::usersig::UserSigError;
use convgroups_host::api::{BadRequest, code as host_code};
use convgroups_host::call::{CallError, Failure, HostFault};

/// Codes of the server itself, with Tencent Cloud Chat's numbers (REST error codes, document 1047/34348).
pub(super) mod code {
    /// The request's path or parameters cannot be understood.
    pub(crate) const MALFORMED_URL: i32 = 60002;
    /// The identifier is missing or is none.
    pub(crate) const IDENTIFIER: i32 = 60004;
    /// The signature is missing.
    pub(crate) const USERSIG: i32 = 60005;
    /// The SDKAppID is not the one that is served.
    pub(crate) const INVALID_APP: i32 = 60006;
    /// One caller calls too often.
    pub(crate) const USER_FREQUENCY: i32 = 60007;
    /// The request's body did not come in time.
    pub(crate) const SLOW_REQUEST: i32 = 60008;
    /// There is no such command or method.
    pub(crate) const NO_SUCH_COMMAND: i32 = 60009;
    /// The identifier is no admin.
    pub(crate) const NOT_ADMIN: i32 = 60010;
    /// The app's calls are too many.
    pub(crate) const APP_FREQUENCY: i32 = 60011;
    /// The SDKAppID is missing.
    pub(crate) const APP_MISSING: i32 = 60012;
    /// Too many calls at once.
    pub(crate) const OVERLOADED: i32 = 60018;
}

/// How a call ended, for metrics and the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    Ok,
    Refused,
    BadRequest,
    Unauthenticated,
    Limited,
    Overloaded,
    TimedOut,
    Conflict,
    PluginFailed,
    StoreFailed,
    HostFailed,
}

impl Outcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::BadRequest => "bad_request",
            Self::Unauthenticated => "unauthenticated",
            Self::Limited => "limited",
            Self::Overloaded => "overloaded",
            Self::TimedOut => "timed_out",
            Self::Conflict => "conflict",
            Self::PluginFailed => "plugin_failed",
            Self::StoreFailed => "store_failed",
            Self::HostFailed => "host_failed",
        }
    }

    /// Whose failure it was.
    pub(super) fn blame(self) -> &'static str {
        match self {
            Self::Ok => "nobody",
            Self::Refused | Self::BadRequest | Self::Unauthenticated | Self::Limited => "caller",
            Self::PluginFailed => "plugin",
            Self::Overloaded | Self::TimedOut | Self::Conflict | Self::StoreFailed | Self::HostFailed => "host",
        }
    }
}

/// A request that was not answered as it wished.
#[derive(Debug)]
pub(super) struct Rejection {
    /// The status on `/v1`; on `/v4` it is always 200.
    pub(super) status: StatusCode,
    pub(super) code: i32,
    pub(super) desc: String,
    pub(super) outcome: Outcome,
    /// When to try again, in seconds.
    pub(super) retry_after: Option<u64>,
}

impl Rejection {
    fn new(status: StatusCode, code: i32, outcome: Outcome, desc: impl Into<String>) -> Self {
        Self { status, code, desc: desc.into(), outcome, retry_after: None }
    }

    pub(super) fn bad_request(code: i32, desc: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, Outcome::BadRequest, desc)
    }

    pub(super) fn unauthenticated(code: i32, desc: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, Outcome::Unauthenticated, desc)
    }

    pub(super) fn no_such_method(desc: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code::NO_SUCH_COMMAND, Outcome::BadRequest, desc)
    }

    pub(super) fn wrong_verb(desc: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, code::NO_SUCH_COMMAND, Outcome::BadRequest, desc)
    }

    pub(super) fn too_large(max: usize) -> Self {
        let desc = format!("the request's body is larger than {max} bytes, the most allowed");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, host_code::INVALID_PARAMETER, Outcome::BadRequest, desc)
    }

    pub(super) fn slow_body() -> Self {
        let desc = "the request's body did not come in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, code::SLOW_REQUEST, Outcome::BadRequest, desc)
    }

    pub(super) fn limited(code: i32, retry_after: u64, desc: impl Into<String>) -> Self {
        let rejection = Self::new(StatusCode::TOO_MANY_REQUESTS, code, Outcome::Limited, desc);
        Self { retry_after: Some(retry_after), ..rejection }
    }

    pub(super) fn overloaded(desc: impl Into<String>) -> Self {
        let rejection = Self::new(StatusCode::SERVICE_UNAVAILABLE, code::OVERLOADED, Outcome::Overloaded, desc);
        Self { retry_after: Some(1), ..rejection }
    }
}

impl From<UserSigError> for Rejection {
    fn from(error: UserSigError) -> Self {
        Self::unauthenticated(error.code(), error.to_string())
    }
}

impl From<BadRequest> for Rejection {
    fn from(bad: BadRequest) -> Self {
        Self::bad_request(bad.code, bad.desc)
    }
}

impl From<CallError> for Rejection {
    fn from(error: CallError) -> Self {
        let (status, outcome) = match &error.failure {
            // The plugin's answer, as good as any other.
            Failure::Refused(_) => (StatusCode::OK, Outcome::Refused),
            Failure::Plugin(_) => (StatusCode::INTERNAL_SERVER_ERROR, Outcome::PluginFailed),
            Failure::Host(HostFault::Overloaded | HostFault::UserBusy) => {
                (StatusCode::SERVICE_UNAVAILABLE, Outcome::Overloaded)
            }
            Failure::Host(HostFault::Busy { .. }) => (StatusCode::SERVICE_UNAVAILABLE, Outcome::Conflict),
            Failure::Host(HostFault::TimedOut(_)) => (StatusCode::GATEWAY_TIMEOUT, Outcome::TimedOut),
            Failure::Host(HostFault::Store(_)) => (StatusCode::INTERNAL_SERVER_ERROR, Outcome::StoreFailed),
            Failure::Host(_) => (StatusCode::INTERNAL_SERVER_ERROR, Outcome::HostFailed),
        };
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        Self { status, code: error.code(), desc: error.desc(), outcome, retry_after }
    }
}
