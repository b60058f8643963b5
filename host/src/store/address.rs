//! A store's address, as settings and the command line give it: which store it names, and which parts may be printed.
//!
//! An address can contain a password, and a malformed address can contain it anywhere. So an address is printed, with `***`
//! for each secret, only if it follows the grammar below. Of any other address only the scheme is printed.

use std::borrow::Cow;

use super::{StoreError, StoreErrorKind, StoreResult};

/// Replaces a secret.
const HIDDEN: &str = "***";
const POSTGRES_FORM: &str = "postgres://USER@HOST/DATABASE";
/// How to write the characters that end a part of a URL.
const ESCAPES: &str = "in a user name or a password write @ as %40, / as %2F, # as %23, ? as %3F, % as %25 and a blank as %20, or put the \
                       password into a file (postgres.password_file)";
/// The parameters of a connection that libpq or the driver knows. Whether they can be used is the driver's decision.
const PARAMETERS: [&str; 36] = [
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "fallback_application_name",
    "gssencmode",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "krbsrvname",
    "load_balance_hosts",
    "options",
    "passfile",
    "password",
    "port",
    "replication",
    "require_auth",
    "requirepeer",
    "service",
    "sslcert",
    "sslcrl",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslpassword",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
    "tty",
    "user",
];

/// Which store an address names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Location {
    Memory,
    #[cfg(feature = "sqlite")]
    Sqlite(std::path::PathBuf),
    #[cfg(feature = "postgres")]
    Postgres,
}

impl Location {
    pub(super) fn of(address: &str) -> StoreResult<Self> {
        match address.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            // SQLite would take the name for a database without a file, one for each connection.
            #[cfg(feature = "sqlite")]
            Some(("sqlite", path)) if !path.is_empty() && path != ":memory:" => {
                if has_parameters(path) {
                    let shown = without_password(address);
                    return Err(unusable(format!("{shown:?}: a store sqlite:PATH takes no parameters; remove ?…")));
                }
                Ok(Self::Sqlite(path.into()))
            }
            #[cfg(feature = "postgres")]
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
                check_postgres(address)?;
                Ok(Self::Postgres)
            }
            _ => Err(unusable(format!("{:?} {}", without_password(address), wrong_form(address)))),
        }
    }
}

/// A store's address as people may see it: `***` stands in the place of a password, and in the place of everything after the
/// scheme where the address cannot be read.
#[must_use]
pub fn without_password(address: &str) -> Cow<'_, str> {
    if let Some(path) = address.strip_prefix("sqlite:") {
        return match path.split_once('?') {
            Some((path, _)) if has_parameters(path_and_query(address)) => format!("sqlite:{path}?{HIDDEN}").into(),
            _ => address.into(),
        };
    }
    let Some((scheme, rest)) = split_scheme(address) else {
        return if is_word(address) { address.into() } else { HIDDEN.into() };
    };
    match Parts::read(rest) {
        Ok(parts) => format!("{scheme}{}", parts.redacted()).into(),
        Err(_) => format!("{scheme}{HIDDEN}").into(),
    }
}

/// Checks the form of a store's address, whether there is such a store or not.
///
/// # Errors
///
/// When it names no store; the message contains no password.
pub fn check_address(address: &str) -> StoreResult<()> {
    Location::of(address).map(drop)
}

/// Checks the form of an address of PostgreSQL, so that what the driver says about it cannot contain a part of a password.
#[cfg(feature = "postgres")]
pub(super) fn check_postgres(address: &str) -> StoreResult<()> {
    let refused = |reason: &str| {
        let shown = without_password(address);
        unusable(format!("the store's address {shown:?} cannot be read: {reason}"))
    };
    let rest = split_scheme(address).filter(|(scheme, _)| matches!(*scheme, "postgres://" | "postgresql://"));
    let (_, rest) = rest.ok_or_else(|| refused(&format!("expected {POSTGRES_FORM}")))?;
    Parts::read(rest).map(drop).map_err(|flaw| refused(&flaw.to_string()))
}

/// What is wrong with an address of another form, and what would be right.
fn wrong_form(address: &str) -> String {
    let lower = address.to_ascii_lowercase();
    let mut known = vec!["memory:"];
    if cfg!(feature = "postgres") {
        known.insert(0, POSTGRES_FORM);
    }
    if cfg!(feature = "sqlite") {
        known.insert(0, "sqlite:PATH");
    }
    let known = known.join(" or ");
    let form = if lower.starts_with("jdbc:") {
        "is a JDBC address, which names no store here"
    } else if lower.starts_with("postgres:") || lower.starts_with("postgresql:") {
        "names no store: the scheme is postgres://, in lower case"
    } else if !lower.contains("://") && lower.contains('=') {
        "is a list of key=value pairs, which names no store here"
    } else {
        "names no store"
    };
    format!("{form}; expected {known}")
}

/// Why an address cannot be read. Contains no part of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Flaw {
    /// A character in the wrong place, most likely an unescaped one of a password.
    Unescaped(&'static str),
    Parameter(String),
    HiddenParameter,
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unescaped(what) => write!(formatter, "{what}; {ESCAPES}"),
            Self::Parameter(name) => write!(formatter, "unknown parameter {name:?}"),
            Self::HiddenParameter => {
                write!(formatter, "a parameter is unknown, or there is an & in a password; write & as %26; {ESCAPES}")
            }
        }
    }
}

/// The parts of `[USER[:PASSWORD]@][HOST[:PORT],…][/DATABASE][?NAME=VALUE&…]`.
struct Parts<'a> {
    user: Option<&'a str>,
    /// With the colon before it.
    has_password: bool,
    hosts: &'a str,
    /// With the slash before it.
    path: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Parts<'a> {
    fn read(rest: &'a str) -> Result<Self, Flaw> {
        if rest.contains('#') {
            return Err(Flaw::Unescaped("there is a # in it"));
        }
        if rest.contains(|character: char| character.is_control() || character.is_whitespace()) {
            return Err(Flaw::Unescaped("there is a blank in it"));
        }
        if !escapes_are_whole(rest) {
            return Err(Flaw::Unescaped("a % has no two hexadecimal digits after it"));
        }
        let (before_query, query) = rest.split_once('?').map_or((rest, None), |(before, query)| (before, Some(query)));
        let slash = before_query.find('/').unwrap_or(before_query.len());
        let (authority, path) = before_query.split_at(slash);
        if path.contains('@') || query.is_some_and(|query| query.contains(['@', '?'])) {
            return Err(Flaw::Unescaped("there is an @ or a ? in the wrong place"));
        }
        let (credentials, hosts) = match authority.split_once('@') {
            Some((_, hosts)) if hosts.contains('@') => return Err(Flaw::Unescaped("there is more than one @ in it")),
            Some((credentials, hosts)) => (Some(credentials), hosts),
            None => (None, authority),
        };
        if !hosts.split(',').all(is_host) {
            return Err(Flaw::Unescaped("the host or its port cannot be read"));
        }
        let (user, has_password) = match credentials.map(|credentials| credentials.split_once(':')) {
            None => (None, false),
            Some(None) => (credentials, false),
            Some(Some((user, _))) => (Some(user), true),
        };
        let mut parameters: Vec<(&str, &str)> = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !PARAMETERS.contains(&name) || !pair.contains('=') {
                let behind_a_secret = parameters.iter().any(|(name, _)| is_secret(name));
                // Also where the name itself could be a spelling of one that is secret.
                let plain = !behind_a_secret && is_word(name) && pair.contains('=');
                return Err(if plain { Flaw::Parameter(name.to_owned()) } else { Flaw::HiddenParameter });
            }
            parameters.push((name, value));
        }
        Ok(Self { user, has_password, hosts, path, parameters })
    }

    fn redacted(&self) -> String {
        let Self { user, has_password, hosts, path, parameters } = self;
        let mut shown = String::new();
        if let Some(user) = user {
            shown += user;
            if *has_password {
                shown += ":";
                shown += HIDDEN;
            }
            shown += "@";
        }
        shown += hosts;
        shown += path;
        for (index, (name, value)) in parameters.iter().enumerate() {
            shown += if index == 0 { "?" } else { "&" };
            shown += name;
            shown += "=";
            shown += if is_secret(name) { HIDDEN } else { value };
        }
        shown
    }
}

/// `HOST`, `HOST:PORT`, an address of IPv6 in brackets, or nothing.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port))
                if name.chars().all(|character| character.is_ascii_hexdigit() || ":.%".contains(character)) =>
            {
                (name, port.strip_prefix(':').or(port.is_empty().then_some("0")))
            }
            _ => return false,
        },
        None => host.split_once(':').map_or((host, Some("0")), |(name, port)| (name, Some(port))),
    };
    let named = name.chars().all(|character| character.is_alphanumeric() || "-._%:".contains(character));
    named && port.is_some_and(|port| port.parse::<u16>().is_ok())
}

/// The scheme with `://`, where there is one, and what follows.
fn split_scheme(address: &str) -> Option<(&str, &str)> {
    let end = address.find("://")? + 3;
    let (scheme, rest) = address.split_at(end);
    let is_scheme = |character: char| character.is_ascii_alphanumeric() || "+-.:".contains(character);
    scheme.strip_suffix("://")?.chars().all(is_scheme).then_some((scheme, rest))
}

fn is_secret(parameter: &str) -> bool {
    matches!(parameter, "password" | "sslpassword")
}

/// A name without anything that could separate a password from something else; a colon only behind a scheme of a store.
fn is_word(text: &str) -> bool {
    let schemes = ["memory:", "postgres:", "postgresql:"];
    let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    rest.chars().all(|character| character.is_ascii_alphanumeric() || "._-/".contains(character))
}

/// Each `%` begins an escape.
fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let mut digits = after.chars();
        [digits.next(), digits.next()].iter().all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit()))
    })
}

fn path_and_query(address: &str) -> &str {
    address.split_once(':').map_or(address, |(_, rest)| rest)
}

/// Whether a path is followed by parameters, as some programs take them for SQLite.
fn has_parameters(path: &str) -> bool {
    path.split_once('?').is_some_and(|(_, query)| query.contains('='))
}

fn unusable(message: String) -> StoreError {
    StoreError::new(StoreErrorKind::Unusable, message)
}
