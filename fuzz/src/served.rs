//! A server without connections.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::http::header::HOST;
use axum::http::{HeaderValue, Request};
use axum::response::Response;
use convgroups_host::settings::EventSettings;
use convgroups_host::{Host, PluginSource};
use convgroups_server::settings::{AuthSettings, ServerSettings};
use convgroups_server::usersig::Keys;
use convgroups_server::{KeySource, Server, Settings};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

use crate::{KEY, host, patient_settings};

/// The app that is served.
pub const APP: u64 = 1_400_000_000;
/// Who may use `/v4`.
pub const ADMIN: &str = "administrator";
/// How many changes of a user the log keeps.
pub const KEPT: u32 = 5;

/// A server, and what it answers from.
#[derive(Debug)]
pub struct Served {
    /// The host behind it.
    pub host: Host,
    /// What its answers are waited for on.
    pub runtime: Runtime,
    keys: Keys,
    router: Router,
    // Has the port, at which nobody is answered.
    _server: Server,
}

impl Served {
    /// One that lets everybody call as often as they like.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let settings = Settings {
            auth: AuthSettings { sdk_app_id: APP, admins: vec![ADMIN.to_owned()], ..AuthSettings::default() },
            server: ServerSettings {
                listen: "127.0.0.1:0".to_owned(),
                calls_per_second: 0,
                calls_per_second_per_user: 0,
                max_event_streams: 1_000_000,
                max_event_streams_per_user: 1_000_000,
                ..ServerSettings::default()
            },
        };
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime can be made");
        let keys = Keys::parse(KEY).expect("a key");
        let settings_of_host =
            convgroups_host::Settings { events: EventSettings { keep_per_user: KEPT }, ..patient_settings() };
        let host = host(settings_of_host, PluginSource::Bundled);
        let server = Server::bind(host.clone(), &settings, KeySource::Fixed(keys.clone())).expect("it can be served");
        let router = convgroups_server::fuzzing::router(&server);
        Self { host, runtime, keys, router, _server: server }
    }

    /// A signature that outlives the target.
    ///
    /// # Panics
    ///
    /// When the clock is before 1970.
    #[must_use]
    pub fn sign(&self, identifier: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970").as_secs();
        self.keys.sign(identifier, APP, now, 86_400)
    }

    /// What is answered, as far as its headers.
    pub async fn answer(&self, mut request: Request<Body>) -> Response {
        // HTTP/1.1 has one in every request.
        request.headers_mut().insert(HOST, HeaderValue::from_static("test"));
        let Ok(response) = self.router.clone().oneshot(request).await;
        response
    }
}

impl Default for Served {
    fn default() -> Self {
        Self::new()
    }
}
