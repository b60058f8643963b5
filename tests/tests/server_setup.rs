//! Where a server listens and to whom it answers: plain HTTP, TLS, other origins.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use convgroups_server::{KeySource, ServerError};
use convgroups_tests::server::Settings;
use convgroups_tests::server::{
    KEY, Reply, Setup, TestServer, answer_on, client, client_trusting, eventually, put_secret, request, rest_of, sign,
    status_of,
};
use convgroups_tests::user;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;
use tempfile::TempDir;

const LIST: &str = "/v1/getConversationGroupList";

/// Why a server does not bind with these settings.
fn refusal(change: impl FnOnce(&mut Settings)) -> String {
    let error = Setup::default().with(change).bind().expect_err("it does not bind");
    assert!(matches!(error, ServerError::Setting(_)), "another reason: {error}");
    error.to_string()
}

#[test]
fn plain_http_is_spoken_to_other_machines_only_where_that_is_allowed() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        // There may be machines without IPv6.
        if std::net::TcpListener::bind(address).is_err() {
            continue;
        }
        let listen = |settings: &mut Settings| address.clone_into(&mut settings.server.listen);
        let reason = refusal(listen);
        assert!(reason.contains("allow_plain_http") && reason.contains("tls_certificate"), "{reason}");
        let allowed = Setup::default().with(listen).with(|settings| settings.server.allow_plain_http = true);
        assert!(!allowed.bind().expect("it binds").0.is_secure());
    }
    let localhost = Setup::default().with(|settings| "localhost:0".clone_into(&mut settings.server.listen));
    assert!(localhost.bind().expect("it binds").0.address().ip().is_loopback());
}

#[test]
fn settings_that_cannot_work_are_refused_before_anything_is_served() {
    let reason = refusal(|settings| settings.auth.sdk_app_id = 0);
    assert!(reason.contains("auth.sdk_app_id"), "{reason}");
    for (certificate, key) in [("cert.pem", ""), ("", "key.pem")] {
        let reason = refusal(|settings| {
            settings.server.tls_certificate = certificate.into();
            settings.server.tls_key = key.into();
        });
        assert!(reason.contains("goes together"), "{reason}");
    }
    let setup = Setup::default().with(|settings| {
        settings.server.tls_certificate = "/nowhere/cert.pem".into();
        settings.server.tls_key = "/nowhere/key.pem".into();
    });
    assert!(
        matches!(setup.bind(), Err(ServerError::Certificate(error)) if error.path == Path::new("/nowhere/cert.pem"))
    );
    let keys = Setup::default().keys(KeySource::File("/nowhere/keys".into())).bind();
    assert!(matches!(keys, Err(ServerError::Keys(error)) if error.to_string().contains("/nowhere/keys")));

    let first = TestServer::start();
    let taken = Setup::default().with(|settings| settings.server.listen = first.address().to_string()).bind();
    assert!(matches!(taken, Err(ServerError::Listen { .. })));
    for address in ["", "127.0.0.1", "127.0.0.1:99999", "no such host:1"] {
        let nowhere = Setup::default().with(|settings| address.clone_into(&mut settings.server.listen)).bind();
        assert!(matches!(nowhere, Err(ServerError::Listen { .. })), "{address}");
    }
}

#[test]
fn what_is_no_origin_is_not_allowed_as_one() {
    let wrong = [
        "*",
        "",
        "null",
        "https://",
        "https://*",
        "https://*.example.com",
        "https://chat.example.com/",
        "https://chat.example.com/path",
        "https://chat.example.com?x",
        "https://chat.example.com#x",
        "https://user@chat.example.com",
        "chat.example.com",
        "ftp://chat.example.com",
        "https://a, https://b",
        "https://a b",
        "https://a\nb",
        "HTTPS://chat.example.com",
        "https://Chat.example.com",
        "https://chat.example.com:",
        "https://chat.example.com:443",
        "http://chat.example.com:80",
        "https://chat.example.com:x",
        "https://chat.example.com:+8443",
        "https://chat.example.com:08443",
        "https://chat.example.com:65536",
        "https://a:b:1",
        "https://[::1",
        "https://[x]:8443",
        "https://bücher.example",
    ];
    for origin in wrong {
        let setup = Setup::default().with(|settings| settings.server.allowed_origins = vec![origin.to_owned()]);
        let Err(ServerError::Setting(error)) = setup.bind() else { panic!("{origin:?} is allowed") };
        assert_eq!(error.key, "server.allowed_origins");
        assert!(error.reason.contains(&format!("{origin:?}")), "{error}");
    }
    let right =
        ["https://chat.example.com", "http://localhost:3000", "https://[::1]:8443", "https://xn--bcher-kva.example"];
    let setup = Setup::default().with(|settings| settings.server.allowed_origins = right.map(str::to_owned).to_vec());
    setup.bind().expect("it binds");
}

#[test]
fn pages_from_allowed_origins_may_call_and_others_may_not() {
    let allowed = "https://chat.example.com";
    let setup = Setup::default().with(|settings| settings.server.allowed_origins = vec![allowed.to_owned()]);
    let server = setup.start();
    let preflight = |path: &str, origin: &str, method: &str| {
        let request = client()
            .request(reqwest::Method::OPTIONS, server.url(path))
            .header("origin", origin)
            .header("access-control-request-method", method)
            .header("access-control-request-headers", "authorization,content-type,last-event-id");
        Reply::to(request)
    };
    let lists = |reply: &Reply, header: &str, wanted: &[&str]| {
        let listed = reply.header(header).unwrap_or_default().to_ascii_lowercase();
        wanted.iter().all(|wanted| listed.split(',').any(|listed| listed.trim() == *wanted))
    };
    for (path, method) in [("/v1/createConversationGroup", "POST"), ("/v1/events", "GET")] {
        let reply = preflight(path, allowed, method);
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, Some(allowed)));
        assert!(lists(&reply, "access-control-allow-methods", &["get", "post"]), "{reply:?}");
        let headers = ["authorization", "content-type", "last-event-id"];
        assert!(lists(&reply, "access-control-allow-headers", &headers), "{reply:?}");
        assert!(reply.header("access-control-allow-credentials").is_none(), "no cookie is used");

        for origin in
            ["https://evil.example.com", "http://chat.example.com", "https://chat.example.com.evil.com", "null"]
        {
            let reply = preflight(path, origin, method);
            assert_eq!(reply.header("access-control-allow-origin"), None, "{origin}");
            let called = Reply::to(server.post(LIST).bearer_auth(sign("alice")).header("origin", origin));
            assert_eq!(called.header("access-control-allow-origin"), None, "{origin}");
        }
    }
    // Refusals can be read by the page too.
    for signature in [sign("alice"), "x".to_owned()] {
        let called = Reply::to(server.post(LIST).bearer_auth(signature).header("origin", allowed));
        assert_eq!(called.header("access-control-allow-origin"), Some(allowed));
        assert!(lists(&called, "access-control-expose-headers", &["x-request-id", "retry-after"]), "{called:?}");
        assert!(called.header("vary").is_some_and(|vary| vary.contains("origin")));
    }
    for path in ["/v4/recentcontact/get_contact_group", "/metrics", "/readyz"] {
        assert_eq!(preflight(path, allowed, "POST").header("access-control-allow-origin"), None, "{path}");
    }
    // Without the setting nobody may.
    let reply = Reply::to(TestServer::start().post(LIST).bearer_auth(sign("alice")).header("origin", allowed));
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, None));
}

/// A certificate and its key on disk, and what a client has to trust.
struct Certificate {
    directory: TempDir,
}

impl Certificate {
    fn new() -> (Self, CertificateDer<'static>) {
        let certificate = Self { directory: tempfile::tempdir().expect("a directory") };
        let root = certificate.renew();
        (certificate, root)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Another certificate of its own making.
    fn renew(&self) -> CertificateDer<'static> {
        let key = KeyPair::generate().expect("a key");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names).and_then(|params| params.self_signed(&key)).expect("signs");
        put_secret(&self.path("key.pem"), key.serialize_pem());
        put_secret(&self.path("cert.pem"), certificate.pem());
        certificate.der().clone()
    }

    fn setup(&self) -> Setup {
        Setup::default().with(|settings| {
            settings.server.tls_certificate = self.path("cert.pem");
            settings.server.tls_key = self.path("key.pem");
        })
    }
}

fn trusting(root: &CertificateDer<'static>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).expect("a certificate");
    roots
}

/// Speaks TLS, and trusts this one.
fn handshake(
    server: &TestServer,
    root: &CertificateDer<'static>,
    alpn: &[&str],
) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_root_certificates(trusting(root))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
    let mut stream = StreamOwned::new(connection, server.connect());
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(stream)
}

#[test]
fn tls_is_spoken_with_http_1_and_2() {
    let (certificate, root) = Certificate::new();
    // Also where plain HTTP would not be.
    let setup = certificate.setup().with(|settings| "0.0.0.0:0".clone_into(&mut settings.server.listen));
    assert!(setup.bind().expect("it binds").0.is_secure());

    let server = certificate.setup().start();
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&["http/1.1", "h2"], Some("h2")),
        (&[], None),
    ] {
        let stream = handshake(&server, &root, offered).expect("it shakes hands");
        assert_eq!(stream.conn.alpn_protocol(), chosen.map(str::as_bytes), "{offered:?}");
    }
    let mut stream = handshake(&server, &root, &["http/1.1"]).expect("it shakes hands");
    stream.write_all(request("POST", LIST, "alice", "", "").as_bytes()).expect("writes");
    assert_eq!(status_of(&answer_on(&mut stream)), Some(200));

    let client = client_trusting(trusting(&root));
    let url = server.url(LIST).replace("127.0.0.1", "localhost");
    let response = client.post(&url).bearer_auth(sign("alice")).send().expect("an answer");
    assert_eq!((response.status().as_u16(), response.version()), (200, reqwest::Version::HTTP_2));
    assert_eq!(Reply::from(response).json()["data"], json!([]));
    let create = json!({ "groupName": "Work", "conversationIDList": ["c2c_bob"] });
    let url = server.url("/v1/createConversationGroup");
    assert_eq!(Reply::to(client.post(url).bearer_auth(sign("alice")).json(&create)).outcome(), (200, 0));
    let response = client.get(server.url("/v1/events?after=0")).bearer_auth(sign("alice")).send().expect("a stream");
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    let mut text = String::new();
    let mut response = response;
    while !text.contains("onConversationGroupCreated") {
        let mut byte = [0];
        response.read_exact(&mut byte).expect("more comes");
        text.push(char::from(byte[0]));
    }
}

#[test]
fn who_does_not_speak_tls_is_closed() {
    let (certificate, root) = Certificate::new();
    let server = certificate.setup().with(|settings| settings.server.header_timeout_ms = 500).start();
    let mut silent = server.connect();
    let mut half = server.connect();
    // The beginning of a greeting that is announced to be longer.
    half.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00]).expect("writes");
    let mut plain = server.connect();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("writes");
    for stream in [&mut silent, &mut half, &mut plain] {
        assert_eq!(status_of(&rest_of(stream)), None);
    }
    // Hands are shaken, and then nothing is said.
    let mut quiet = None;
    eventually("hands are shaken", || {
        quiet = handshake(&server, &root, &["http/1.1"]).ok();
        quiet.is_some()
    });
    let mut quiet = quiet.expect("it shakes hands");
    let mut buffer = [0; 16];
    assert!(matches!(quiet.read(&mut buffer), Ok(0) | Err(_)));
}

#[test]
fn a_renewed_certificate_is_served_and_a_broken_one_is_not() {
    let (certificate, first) = Certificate::new();
    let server = certificate.setup().start();
    let mut kept = handshake(&server, &first, &["http/1.1"]).expect("it shakes hands");
    let second = certificate.renew();
    eventually("the new certificate is served", || handshake(&server, &second, &[]).is_ok());
    assert!(handshake(&server, &first, &[]).is_err());
    kept.write_all(request("POST", LIST, "alice", "", "").as_bytes()).expect("writes");
    assert_eq!(status_of(&answer_on(&mut kept)), Some(200), "open connections stay");

    let good = std::fs::read_to_string(certificate.path("cert.pem")).expect("reads");
    let other = KeyPair::generate().expect("a key").serialize_pem();
    put_secret(&certificate.path("cert.pem"), "-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n");
    put_secret(&certificate.path("key.pem"), &other);
    for _ in 0..20 {
        handshake(&server, &second, &[]).expect("the old one still holds");
    }
    std::fs::remove_file(certificate.path("key.pem")).expect("removes");
    put_secret(&certificate.path("cert.pem"), &good);
    let third = certificate.renew();
    eventually("the next good certificate is served", || {
        assert!(
            handshake(&server, &second, &[]).is_ok() || handshake(&server, &third, &[]).is_ok(),
            "one of them holds"
        );
        handshake(&server, &third, &[]).is_ok()
    });
    assert_eq!(server.host().store().state(&user("alice")).expect("reads").version.0, 0);
}

#[cfg(unix)]
#[test]
fn keys_that_other_users_can_read_or_write_are_refused() {
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    let (certificate, _) = Certificate::new();
    let keys = certificate.path("keys");
    put_secret(&keys, KEY);
    let is_of_root = std::fs::metadata(&keys).expect("it is there").uid() == 0;
    let cases = [
        (0o600, None),
        (0o400, None),
        (0o700, None),
        (0o640, Some("read by its group").filter(|_| !is_of_root)),
        (0o440, Some("read by its group").filter(|_| !is_of_root)),
        (0o644, Some("read by everybody")),
        (0o604, Some("read by everybody")),
        (0o660, Some("written to by its group")),
        (0o620, Some("written to by its group")),
        (0o666, Some("written to by everybody")),
        (0o602, Some("written to by everybody")),
    ];
    let paths = [&keys, &certificate.path("key.pem")];
    for (path, (mode, refused)) in paths.into_iter().flat_map(|path| cases.map(|case| (path, case))) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
        let bound = certificate.setup().keys(KeySource::File(keys.clone())).bind();
        match (bound, refused) {
            (Ok(_), None) => {}
            (Err(error @ (ServerError::Keys(_) | ServerError::Certificate(_))), Some(expected)) => {
                let reason = error.to_string();
                let name = path.to_str().expect("a name");
                assert!(reason.contains(expected) && reason.contains(name), "{mode:o}: {reason}");
                assert!(reason.contains(&format!("mode 0{mode:o}")) && reason.contains("chmod 600"), "{reason}");
            }
            (bound, _) => panic!("{} with {mode:o}: {:?}", path.display(), bound.err()),
        }
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).expect("it is ours");
    }
    // The certificate is not secret.
    std::fs::set_permissions(certificate.path("cert.pem"), Permissions::from_mode(0o666)).expect("it is ours");
    certificate.setup().bind().expect("it binds");
}

#[cfg(unix)]
#[test]
fn pipes_directories_and_endless_files_are_refused_as_keys() {
    let (certificate, _) = Certificate::new();
    let pipe = certificate.path("pipe");
    assert!(std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&pipe).status().expect("runs").success());
    let large = certificate.path("large");
    put_secret(&large, vec![b'x'; (1 << 20) + 1]);
    let utf16 = certificate.path("utf16");
    put_secret(&utf16, b"\xff\xfek\0e\0y\0");
    for (path, says) in [
        (pipe, "not a regular file"),
        ("/dev/zero".into(), "not a regular file"),
        (certificate.directory.path().to_owned(), "not a regular file"),
        (large, "larger than 1048576 bytes"),
        (utf16, "UTF-16"),
    ] {
        let keys = Setup::default().keys(KeySource::File(path.clone())).bind();
        let Err(ServerError::Keys(error)) = keys else { panic!("{} is taken", path.display()) };
        assert!(error.to_string().contains(says), "{error}");
        let tls = certificate.setup().with(|settings| settings.server.tls_key.clone_from(&path)).bind();
        let Err(ServerError::Certificate(error)) = tls else { panic!("{} is taken", path.display()) };
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn an_unreadable_certificate_is_retried_and_a_byte_order_mark_is_ignored() {
    let (certificate, first) = Certificate::new();
    let server = certificate.setup().start();
    handshake(&server, &first, &[]).expect("it shakes hands");
    // Neither time nor size of the key says when it can be read again.
    let elsewhere = certificate.path("elsewhere.pem");
    let key = certificate.path("key.pem");
    let second = certificate.renew();
    std::fs::rename(&key, &elsewhere).expect("renames");
    std::fs::create_dir(&key).expect("makes");
    std::thread::sleep(Duration::from_millis(2500));
    std::fs::remove_dir(&key).expect("removes");
    std::fs::rename(&elsewhere, &key).expect("renames");
    eventually("the new certificate is served", || handshake(&server, &second, &[]).is_ok());

    let third = certificate.renew();
    for name in ["cert.pem", "key.pem"] {
        let content = std::fs::read(certificate.path(name)).expect("reads");
        put_secret(&certificate.path(name), [b"\xef\xbb\xbf", content.as_slice()].concat());
    }
    eventually("the marked certificate is served", || handshake(&server, &third, &[]).is_ok());
}

#[test]
fn proxies_that_cannot_be_read_are_refused_before_anything_is_served() {
    for wrong in ["nginx", "10.0.0.0/40", "0.0.0.0/0"] {
        let reason = refusal(|settings| settings.server.trusted_proxies = vec![wrong.to_owned()]);
        assert!(reason.contains("server.trusted_proxies") && reason.contains(wrong), "{reason}");
    }
}
