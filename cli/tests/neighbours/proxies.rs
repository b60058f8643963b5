//! nginx and HAProxy in front of the server: as they come, and as docs/production.md says.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use convgroups_tests::server::{ADMIN, EventStream, Reply, client, client_trusting, request, rest_of, rest_path, sign};
use rustls::RootCertStore;
use serde_json::json;
use tempfile::TempDir;

use super::{Neighbour, PATIENCE, Served, call, documented, eventually, free_port, program, replaced, succeeds};

/// nginx with Debian's settings, and one address where `location` is what it does with requests.
pub(super) fn nginx(location: &str) -> Option<Neighbour> {
    let port = free_port();
    nginx_with(&format!("server {{ listen 127.0.0.1:{port}; location / {{ {location} }} }}"), port, directory())
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// nginx with Debian's settings and this site.
fn nginx_with(site: &str, port: u16, directory: TempDir) -> Option<Neighbour> {
    let program = program("nginx")?;
    let settings = std::fs::read_to_string("/etc/nginx/nginx.conf").expect("Debian's settings are there");
    let here = directory.path().display().to_string();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|part| format!("{part}_temp_path {here}/{part};\n"))
        .collect();
    let settings = replaced(
        &settings,
        &[
            ("/etc/nginx/sites-enabled/*", &format!("{here}/site")),
            ("/run/nginx.pid", &format!("{here}/pid")),
            ("/var/log/nginx", &here),
        ],
    );
    std::fs::write(directory.path().join("site"), temporary + site).expect("settings can be written");
    std::fs::write(directory.path().join("nginx.conf"), settings).expect("settings can be written");
    // Its workers are of another user.
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("own");
    let (file, log) = (format!("{here}/nginx.conf"), format!("{here}/error.log"));
    let arguments = ["-c", &file, "-e", &log, "-g", "daemon off;"];
    succeeds(Command::new(&program).args(arguments).arg("-t"));
    Some(Neighbour::start(&program, &arguments, port, directory))
}

/// HAProxy with Debian's defaults, and one address that leads to the server.
fn haproxy(server: &str) -> Option<Neighbour> {
    let port = free_port();
    haproxy_with(&format!("listen chat\n    bind 127.0.0.1:{port}\n    server one {server}\n"), port, directory())
}

/// HAProxy with Debian's defaults and these sections.
fn haproxy_with(sections: &str, port: u16, directory: TempDir) -> Option<Neighbour> {
    let program = program("haproxy")?;
    let settings = std::fs::read_to_string("/etc/haproxy/haproxy.cfg").expect("Debian's settings are there");
    // What comes before is for a daemon: its user, its log and its socket.
    let (_, defaults) = settings.split_once("\ndefaults\n").expect("they have defaults");
    let file = directory.path().join("haproxy.cfg");
    std::fs::write(&file, format!("defaults\n{defaults}\n{sections}")).expect("settings can be written");
    let file = file.display().to_string();
    let said = succeeds(Command::new(&program).args(["-c", "-f", &file]));
    assert!(!said.contains("ALERT"), "{said}");
    Some(Neighbour::start(&program, &["-db", "-f", &file], port, directory))
}

/// Both proxies with nothing but the server's address, as far as they are installed, and the status that each gives where no
/// server is.
fn proxies(server: &Served) -> impl Iterator<Item = (Neighbour, u16)> {
    let nginx = nginx(&format!("proxy_pass http://{};", server.address)).map(|nginx| (nginx, 502));
    nginx.into_iter().chain(haproxy(&server.address).map(|haproxy| (haproxy, 503)))
}

/// An event stream by way of any address.
fn events(base: &str, user: &str) -> EventStream {
    let request = client().get(format!("{base}/v1/events?after=0")).bearer_auth(sign(user));
    let response = request.send().expect("a response");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["cache-control"], "no-cache, no-transform");
    EventStream::from(response)
}

/// Makes three changes, and reads the event of each before the next: nothing but the event itself can push it through.
fn three_of_three_events_arrive(stream: &mut EventStream, change: impl Fn(u64)) {
    for number in 1..=3 {
        change(number);
        let sent = stream.expect();
        assert_eq!((sent.event.as_str(), sent.id.is_some()), ("change", true));
        assert_eq!(sent.data["version"], number);
    }
}

fn create(number: u64) -> serde_json::Value {
    json!({ "groupName": format!("group {number}"), "conversationIDList": ["c2c_bob"] })
}

#[test]
fn each_event_arrives_through_a_proxy_before_the_next_one_happens() {
    let server = Served::start();
    for (number, (proxy, _)) in proxies(&server).enumerate() {
        let (base, user) = (proxy.url(""), format!("reader {number}"));
        let mut stream = events(&base, &user);
        three_of_three_events_arrive(&mut stream, |number| {
            assert_eq!(call(&base, &user, "createConversationGroup", &create(number)).outcome(), (200, 0));
        });
    }
}

#[test]
fn calls_have_the_same_responses_through_a_proxy() {
    let server = Served::start();
    let direct = format!("http://{}", server.address);
    let list = json!({ "From_Account": "alice", "StartIndex": 0 });
    for (number, (proxy, _)) in proxies(&server).enumerate() {
        let (base, user) = (proxy.url(""), format!("caller {number}"));
        assert_eq!(call(&base, &user, "createConversationGroup", &create(1)).outcome(), (200, 0));
        let large = json!({ "groupName": "x".repeat(200 << 10), "conversationIDList": ["c2c_bob"] });
        let beyond = json!({ "groupName": "x".repeat(300 << 10), "conversationIDList": ["c2c_bob"] });
        for (method, params) in [
            ("getConversationGroupList", json!({})),
            ("createConversationGroup", create(1)),
            ("createConversationGroup", large),
            ("createConversationGroup", beyond),
            ("createConversationGroup", json!({ "unknown": 1 })),
            ("noSuchMethod", json!({})),
        ] {
            let (expected, reply) = (call(&direct, &user, method, &params), call(&base, &user, method, &params));
            assert_eq!((reply.outcome(), reply.reason()), (expected.outcome(), expected.reason()), "{method}");
            assert_eq!(reply.header("content-type"), expected.header("content-type"), "{method}");
            assert!(!reply.request_id().is_empty());
        }
        let unsigned = Reply::to(client().post(format!("{base}/v1/getConversationGroupList")).body("{}"));
        assert_eq!(unsigned.outcome(), (401, 60005));
        let path = rest_path("get_contact_group", ADMIN, &sign(ADMIN));
        let reply = Reply::to(client().post(format!("{base}{path}")).body(list.to_string()));
        assert_eq!((reply.outcome(), reply.json()["ActionStatus"].clone()), ((200, 0), json!("OK")));

        // Many at once, more than once on each connection.
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let base = &base;
                scope.spawn(move || {
                    let (client, user) = (client(), format!("caller {number} {thread}"));
                    for call in 0..20 {
                        let request =
                            client.post(format!("{base}/v1/createConversationGroup")).bearer_auth(sign(&user));
                        assert_eq!(Reply::to(request.json(&create(call))).outcome(), (200, 0));
                    }
                });
            }
        });
    }
}

#[test]
fn the_console_and_its_files_load_through_a_proxy() {
    let server = Served::start();
    let direct = format!("http://{}", server.address);
    for (proxy, _) in proxies(&server) {
        // The client follows the redirection, which must lead back to the proxy.
        let page = client().get(proxy.url("/console")).send().expect("a response");
        assert_eq!(page.url().as_str(), proxy.url("/console/"));
        let page = Reply::from(page);
        assert!(page.body.starts_with("<!doctype html>"), "{page:?}");
        let links = page
            .body
            .split('"')
            .filter(|part| part.ends_with(".js") || part.ends_with(".css") || part.ends_with(".svg"));
        let links: Vec<String> =
            links.map(|link| format!("/console/{}", link.trim_start_matches("/console/"))).collect();
        assert_eq!(links.len(), 3, "{links:?}");
        for path in links.iter().map(String::as_str).chain(["/console/"]) {
            let expected = Reply::to(client().get(format!("{direct}{path}")));
            let reply = Reply::to(client().get(proxy.url(path)));
            assert_eq!((reply.status, &reply.body), (200, &expected.body), "{path}");
            for header in ["content-type", "content-security-policy", "x-content-type-options", "referrer-policy"] {
                assert_eq!(reply.header(header), expected.header(header), "{path}: {header}");
            }
            assert_eq!(reply.header("set-cookie"), None, "{path}");
        }
    }
}

#[test]
fn streams_end_with_the_reason_through_a_proxy_when_the_server_stops() {
    for proxy in 0..2 {
        let mut server = Served::start();
        let Some((proxy, gone)) = proxies(&server).nth(proxy) else { continue };
        let base = proxy.url("");
        let mut stream = events(&base, "alice");
        assert_eq!(call(&base, "alice", "createConversationGroup", &create(1)).outcome(), (200, 0));
        assert_eq!(stream.expect().event, "change");
        server.ask_to_stop();
        assert_eq!(stream.end(), "shutdown");
        server.stopped();
        // A response that says so, not a connection that breaks or hangs.
        let request = client().post(format!("{base}/v1/getConversationGroupList")).bearer_auth(sign("alice"));
        assert_eq!(Reply::to(request.body("{}")).status, gone);
    }
}

#[test]
fn a_client_that_speaks_http_1_0_gets_unchunked_responses() {
    let mut server = Served::start();
    let old = |request: String| request.replacen("HTTP/1.1", "HTTP/1.0", 1).replacen("Host: test\r\n", "", 1);
    let connect = || {
        let stream = TcpStream::connect(&server.address).expect("it accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream
    };
    let list = |headers: &str| old(request("POST", "/v1/getConversationGroupList", "alice", headers, "{}"));
    // What nginx sends, and what a client sends that keeps its connection.
    for (headers, requests) in [("Connection: close\r\n", 1), ("", 1), ("Connection: keep-alive\r\n", 3)] {
        let mut stream = connect();
        for _ in 0..requests {
            stream.write_all(list(headers).as_bytes()).expect("writes");
            let answer = convgroups_tests::server::answer_on(&mut stream);
            assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
            assert!(!answer.to_ascii_lowercase().contains("transfer-encoding"), "{answer}");
        }
        if requests == 1 {
            assert_eq!(rest_of(&mut stream), "", "the connection is closed after the response");
        }
    }
    let mut stream = connect();
    stream.write_all(old(request("GET", "/v1/events", "alice", "", "")).as_bytes()).expect("writes");
    let mut begun = String::new();
    while !begun.ends_with("\n\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the stream goes on");
        begun.push(char::from(byte[0]));
    }
    assert!(begun.starts_with("HTTP/1.0 200") && begun.contains("event: full"), "{begun}");
    let head = begun.to_ascii_lowercase();
    assert!(!head.contains("transfer-encoding"), "{begun}");
    assert!(head.contains("x-accel-buffering: no\r\n") && head.contains("no-transform"), "{begun}");
    server.ask_to_stop();
    assert!(rest_of(&mut stream).contains(r#"{"reason":"shutdown"}"#));
    server.stopped();
}

/// A certificate for this machine, as the proxies want it: two files for nginx, both in one for HAProxy.
fn certificate(directory: &Path) -> RootCertStore {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(["localhost".to_owned(), "chat.example.com".to_owned()]).expect("names");
    let certificate = params.self_signed(&key).expect("a certificate");
    std::fs::write(directory.join("fullchain.pem"), certificate.pem()).expect("writes");
    std::fs::write(directory.join("privkey.pem"), key.serialize_pem()).expect("writes");
    std::fs::write(directory.join("both.pem"), certificate.pem() + &key.serialize_pem()).expect("writes");
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).expect("an authority");
    roots
}

/// Both proxies as docs/production.md sets them up, as far as they are installed, with who to trust for each.
fn documented_proxies(server: &Served) -> impl Iterator<Item = (Neighbour, RootCertStore)> {
    let here = directory();
    let roots = certificate(here.path());
    let (port, path) = (free_port(), here.path().display().to_string());
    let site = replaced(
        &documented("nginx", "proxy_pass"),
        &[
            ("listen 443 ", &format!("listen 127.0.0.1:{port} ")),
            ("/etc/ssl/chat", &path),
            ("127.0.0.1:8080", &server.address),
        ],
    );
    let nginx = nginx_with(&site, port, here).map(|nginx| (nginx, roots));

    let here = directory();
    let roots = certificate(here.path());
    let (port, path) = (free_port(), here.path().display().to_string());
    let sections = replaced(
        &documented("haproxy", "frontend"),
        &[
            ("bind :443 ", &format!("bind 127.0.0.1:{port} ")),
            ("/etc/haproxy/certs/chat.pem", &format!("{path}/both.pem")),
            ("127.0.0.1:8080", &server.address),
        ],
    );
    let haproxy = haproxy_with(&sections, port, here).map(|haproxy| (haproxy, roots));
    nginx.into_iter().chain(haproxy)
}

#[test]
fn calls_events_and_the_console_work_through_a_proxy_that_speaks_tls_as_documented() {
    let server = Served::start();
    for (number, (proxy, roots)) in documented_proxies(&server).enumerate() {
        let (client, user) = (client_trusting(roots), format!("reader {number}"));
        let base = format!("https://localhost:{}", proxy.port);
        let events = client.get(format!("{base}/v1/events?after=0")).bearer_auth(sign(&user));
        let response = events.send().expect("a response");
        assert_eq!((response.status().as_u16(), format!("{:?}", response.version())), (200, "HTTP/2.0".to_owned()));
        let mut stream = EventStream::from(response);
        three_of_three_events_arrive(&mut stream, |number| {
            let request = client.post(format!("{base}/v1/createConversationGroup")).bearer_auth(sign(&user));
            assert_eq!(Reply::to(request.json(&create(number))).outcome(), (200, 0));
        });
        let page = client.get(format!("{base}/console")).send().expect("a response");
        assert_eq!((page.status().as_u16(), page.url().as_str()), (200, format!("{base}/console/").as_str()));
        for path in ["/metrics", "/readyz", "/healthz"] {
            let reply = Reply::to(client.get(format!("{base}{path}")));
            assert_eq!(reply.status, 404, "{path} is not for the outside: {}", reply.body);
        }
        // As large as the server takes them.
        let large = json!({ "groupName": "x".repeat(250 << 10), "conversationIDList": ["c2c_bob"] });
        let request = client.post(format!("{base}/v1/createConversationGroup")).bearer_auth(sign(&user));
        assert_eq!(Reply::to(request.json(&large)).code(), 51011);
    }
}

#[test]
fn the_forwarded_address_is_in_the_server_log_behind_a_trusted_proxy() {
    let server = Served::start_with("trusted_proxies = [\"127.0.0.1\"]");
    for (number, (proxy, _)) in documented_proxies(&server).enumerate() {
        // From another address than the proxy's, and with a header that claims a third one.
        let user = format!("far away {number}");
        succeeds(
            Command::new("curl")
                .args(["-s", "-k", "--fail", "--interface", "127.0.0.2", "-d", "{}"])
                .args(["-H", "X-Forwarded-For: 203.0.113.9", "-H", &format!("Authorization: Bearer {}", sign(&user))])
                .arg(format!("https://127.0.0.1:{}/v1/getConversationGroupList", proxy.port)),
        );
        let mut line = String::new();
        eventually("the call is in the log", || {
            let log = server.log();
            log.lines().find(|line| line.contains(&user)).unwrap_or_default().clone_into(&mut line);
            !line.is_empty()
        });
        let span = serde_json::from_str::<serde_json::Value>(&line).expect("JSON")["span"].clone();
        let (address, proxy, scheme) = (&span["address"], &span["proxy"], &span["scheme"]);
        assert_eq!((address, proxy, scheme), (&json!("127.0.0.2"), &json!("127.0.0.1"), &json!("https")), "{line}");
    }
}
