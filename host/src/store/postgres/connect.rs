//! Where the database is and how to get there: the URL, TLS, the password, the pool.

use std::future::Future;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Connect, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use futures_util::future::poll_fn;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{AsyncMessage, CancelToken, Client, Config, Connection, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::statement::Trouble;
use crate::store::PostgresSettings;
use crate::store::address::check_postgres;
use crate::store::{StoreError, StoreErrorKind, StoreResult};

/// How long a connection may be silent before the system looks whether the other side is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// A database, and how to connect to it.
pub(super) struct Address {
    config: Config,
    /// Nothing when TLS is not to be spoken.
    tls: Option<MakeRustlsConnect>,
    /// Read anew for each connection, so that a new password needs no restart.
    password_file: Option<PathBuf>,
    /// How long connecting may take in all: what the driver limits is only how long the network takes to each host.
    patience: Duration,
}

impl Address {
    /// Reads a URL.
    pub(super) fn parse(url: &str, settings: &PostgresSettings) -> StoreResult<Self> {
        // The driver names what it does not understand, which could be a part of a password.
        check_postgres(url)?;
        let (url, mode) = take_ssl_mode(url);
        let mut config: Config = url.parse().map_err(|error: Error| {
            // Names the parameter, never its value.
            let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            unusable(format!("the store's URL cannot be read: {reason}"))
        })?;
        if config.get_hosts().is_empty() {
            return Err(unusable("the store's URL names no host; expected postgres://USER@HOST/DATABASE".to_owned()));
        }
        let secure = match mode.as_deref() {
            Some("disable") => false,
            Some("require" | "verify-full") => true,
            // What stays on this machine need not be hidden from the network. An address counts, whatever name stands beside it.
            None => {
                let mut addresses = config.get_hostaddrs().iter();
                !(config.get_hosts().iter().all(is_local) && addresses.all(IpAddr::is_loopback))
            }
            Some(other) => {
                let hint = "use verify-full (TLS, to a server with a certificate for its name) or disable";
                return Err(unusable(format!("the store's URL has sslmode={other}: {hint}")));
            }
        };
        config.ssl_mode(if secure { SslMode::Require } else { SslMode::Disable });
        if config.get_application_name().is_none() {
            config.application_name("convgroups");
        }
        config.connect_timeout(settings.connect_timeout());
        let hosts = u32::try_from(config.get_hosts().len()).unwrap_or(u32::MAX);
        let patience = settings.connect_timeout().saturating_mul(hosts);
        // What was sent and nobody has confirmed for so long was sent to a machine that is gone.
        config.tcp_user_timeout(settings.timeout());
        config.keepalives_idle(KEEPALIVE_IDLE);
        let tls = if secure { Some(MakeRustlsConnect::new(client_tls(&settings.ca_file)?)) } else { None };
        let password_file = Some(settings.password_file.clone()).filter(|file| !file.as_os_str().is_empty());
        if let Some(file) = &password_file {
            config.password(read_password(file).map_err(|error| {
                unusable(format!("could not read {} (postgres.password_file): {error}", file.display()))
                    .caused_by(error)
            })?);
        }
        Ok(Self { config, tls, password_file, patience })
    }

    /// Where the URL names several hosts, the one among them that can be written to, unless it says otherwise.
    pub(super) fn for_writing(mut self) -> Self {
        let any = self.config.get_target_session_attrs() == TargetSessionAttrs::Any;
        if any && self.config.get_hosts().len() > 1 {
            self.config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        self
    }

    /// What to call the database in messages: nothing secret.
    pub(super) fn name(&self) -> String {
        let ports = self.config.get_ports();
        let port = |place: usize| ports.get(place).or(ports.first()).copied().unwrap_or(5432);
        let hosts = self.config.get_hosts().iter().enumerate().map(|(place, host)| match host {
            Host::Tcp(host) => format!("{host}:{}", port(place)),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        });
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or("of the user's name");
        format!("the database {database} at {}", hosts.collect::<Vec<_>>().join(", "))
    }

    /// A pool of connections, none of which is made yet.
    pub(super) fn pool(self: &Arc<Self>, settings: &PostgresSettings) -> StoreResult<Pool> {
        // Whether a connection still works shows when it is used; asking before each use would cost a round trip.
        let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(self.config.clone(), Connector(Arc::clone(self)), manager_config);
        Pool::builder(manager)
            .max_size(settings.max_connections as usize)
            .runtime(Runtime::Tokio1)
            .create_timeout(Some(self.patience))
            .build()
            .map_err(|error| unusable(format!("could not make a pool of connections: {error}")).caused_by(error))
    }

    /// Makes a connection outside of the pool, with the task that serves it. Notifications go to `notified`.
    pub(super) async fn connect(
        &self,
        notified: Option<UnboundedSender<String>>,
    ) -> Result<(Client, JoinHandle<()>), Trouble> {
        let connected = tokio::time::timeout(self.patience, self.connect_at_last(notified)).await;
        connected.map_err(|_| Trouble::Silent)?.map_err(Trouble::Connect)
    }

    /// Asks the database to stop what a connection has asked it.
    pub(super) async fn cancel(self: Arc<Self>, token: CancelToken) {
        let cancelled = async {
            match self.tls.clone() {
                Some(tls) => token.cancel_query(tls).await,
                None => token.cancel_query(NoTls).await,
            }
        };
        match tokio::time::timeout(self.patience, cancelled).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "could not stop a statement"),
            Err(_) => tracing::debug!("could not stop a statement in time"),
        }
    }

    /// Makes a connection, however long it takes.
    async fn connect_at_last(
        &self,
        notified: Option<UnboundedSender<String>>,
    ) -> Result<(Client, JoinHandle<()>), Error> {
        let mut config = self.config.clone();
        if let Some(file) = &self.password_file {
            match read_password(file) {
                Ok(password) => drop(config.password(password)),
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "could not read the password; using the one before");
                }
            }
        }
        match self.tls.clone() {
            Some(tls) => {
                let (client, connection) = config.connect(tls).await?;
                Ok((client, tokio::spawn(serve(connection, notified))))
            }
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                Ok((client, tokio::spawn(serve(connection, notified))))
            }
        }
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.name())
    }
}

/// How the pool makes connections.
struct Connector(Arc<Address>);

impl Connect for Connector {
    fn connect(
        &self,
        _: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + '_>> {
        Box::pin(self.0.connect_at_last(None))
    }
}

/// Moves a connection's messages until it ends. Queries that wait for a response then fail with the reason.
async fn serve<S, T>(mut connection: Connection<S, T>, notified: Option<UnboundedSender<String>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        match message {
            Ok(AsyncMessage::Notification(notification)) => {
                // Who listened may have gone, and its connection is about to end.
                let _ = notified.as_ref().map(|notified| notified.send(notification.payload().to_owned()));
            }
            Ok(AsyncMessage::Notice(notice)) => tracing::debug!(%notice, "the database says"),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "a connection to the database has ended");
                return;
            }
        }
    }
}

/// The URL without `sslmode`, which has values here that the driver does not know; and its value.
fn take_ssl_mode(url: &str) -> (String, Option<String>) {
    let Some((address, query)) = url.split_once('?') else { return (url.to_owned(), None) };
    let mut mode = None;
    let rest: Vec<&str> = query
        .split('&')
        .filter(|pair| match pair.split_once('=') {
            Some(("sslmode", value)) => {
                mode = Some(value.to_owned());
                false
            }
            _ => true,
        })
        .collect();
    let question_mark = if rest.is_empty() { "" } else { "?" };
    (format!("{address}{question_mark}{}", rest.join("&")), mode)
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

/// A file's content without the line's end.
fn read_password(file: &Path) -> std::io::Result<String> {
    let content = std::fs::read_to_string(file)?;
    Ok(content.trim_end_matches(['\r', '\n']).to_owned())
}

/// Trusts the authorities of a PEM file, or where none is named those of the system.
fn client_tls(ca_file: &Path) -> StoreResult<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    if ca_file.as_os_str().is_empty() {
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let hint = "name the file of the authority that signed the database's certificate (postgres.ca_file)";
            return Err(unusable(format!("the system has no certificates of authorities; {hint}")));
        }
    } else {
        let unreadable = |reason: &dyn std::fmt::Display| {
            unusable(format!("could not read certificates from {} (postgres.ca_file): {reason}", ca_file.display()))
        };
        for certificate in CertificateDer::pem_file_iter(ca_file).map_err(|error| unreadable(&error))? {
            let certificate = certificate.map_err(|error| unreadable(&error))?;
            roots.add(certificate).map_err(|error| unreadable(&error))?;
        }
        if roots.is_empty() {
            return Err(unreadable(&"there are none in it"));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(format!("TLS cannot be set up: {error}")).caused_by(error))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn unusable(message: String) -> StoreError {
    StoreError::new(StoreErrorKind::Unusable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_elsewhere_are_spoken_to_by_tls_unless_the_url_says_no() {
        for (url, secure) in [
            ("postgres://u@db.example.com/chat", true),
            ("postgresql://u:p@10.0.0.1:5433/chat?connect_timeout=3", true),
            ("postgres://u@db.example.com/chat?sslmode=disable&application_name=x", false),
            ("postgres://u@localhost/chat", false),
            ("postgres://u@127.0.0.1,[::1]/chat", false),
            ("postgres://u@127.0.0.1,db.example.com/chat", true),
            ("postgres://u@localhost/chat?hostaddr=127.0.0.1", false),
            ("postgres://u@localhost/chat?hostaddr=10.0.0.1", true),
            ("postgres://u@127.0.0.1/chat?sslmode=require", true),
            ("postgres://u@127.0.0.1/chat?application_name=x&sslmode=verify-full", true),
            ("postgres://u@%2Fvar%2Frun%2Fpostgresql/chat", false),
        ] {
            let address = Address::parse(url, &PostgresSettings::default()).expect(url);
            assert_eq!(address.tls.is_some(), secure, "{url}");
            assert_eq!(address.config.get_ssl_mode() == SslMode::Require, secure, "{url}");
        }
    }

    #[test]
    fn urls_that_cannot_be_used_are_refused_without_telling_what_is_secret_in_them() {
        for (url, reason) in [
            ("postgres://u:secret@h/d?sslmode=prefer", "sslmode=prefer: use verify-full"),
            ("postgres://u:secret@h/d?sslmode=verify-ca", "sslmode=verify-ca"),
            ("postgres://u:secret@h/d?nonsense=secret", "unknown parameter \"nonsense\""),
            ("postgres://u:secret@h/d?sslcert=secret", "unknown option `sslcert`"),
            ("postgres://u:secret@h:port/d", "the host or its port cannot be read"),
            ("postgres:///d", "names no host"),
        ] {
            let error = Address::parse(url, &PostgresSettings::default()).expect_err(url);
            assert_eq!(error.kind, StoreErrorKind::Unusable);
            assert!(error.message.contains(reason), "{url}: {error}");
            assert!(!error.message.contains("secret"), "{url}: {error}");
        }
    }

    #[test]
    fn of_several_hosts_the_one_that_can_be_written_to_is_taken() {
        for (url, attributes) in [
            ("postgres://u@db/chat", TargetSessionAttrs::Any),
            ("postgres://u@db-1,db-2/chat", TargetSessionAttrs::ReadWrite),
            ("postgres://u@db-1,db-2/chat?target_session_attrs=read-only", TargetSessionAttrs::ReadOnly),
        ] {
            let url = format!("{url}{}sslmode=disable", if url.contains('?') { '&' } else { '?' });
            let address = Address::parse(&url, &PostgresSettings::default()).expect("it can be read").for_writing();
            assert_eq!(address.config.get_target_session_attrs(), attributes, "{url}");
        }
    }

    #[test]
    fn messages_call_a_database_by_what_is_not_secret() {
        for (url, name) in [
            ("postgres://u:secret@localhost/chat", "the database chat at localhost:5432"),
            ("postgres://u:secret@localhost:1,127.0.0.1:2/chat", "the database chat at localhost:1, 127.0.0.1:2"),
            ("postgres://u@%2Fvar%2Frun/", "the database u at /var/run"),
        ] {
            assert_eq!(Address::parse(url, &PostgresSettings::default()).expect(url).name(), name);
        }
    }
}
