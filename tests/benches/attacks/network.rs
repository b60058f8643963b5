//! Clients that attack a server over HTTP. The server is a process of its own, with default settings, and serves a user who calls
//! 40 times a second.
//!
//! The attacks are HTTP/2 connections whose windows stay closed; a user with the largest possible state who opens and cancels
//! event streams; and an unauthenticated caller who requests `/openapi.json`.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::Request;
use convgroups_host::model::{Change, Origin};
use convgroups_host::store::{Commit, Skip, Store};
use convgroups_host::{Host, MemoryStore, UserId, Version};
use convgroups_server::{KeySource, Server, Settings};
use convgroups_tests::server::{APP, keys, request, sign};
use tokio::runtime::Runtime;

use crate::Wrong;
use crate::process::Memory;
use crate::served::Times;

/// The word that makes this program the server.
pub(crate) const SERVE: &str = "--serve-for-attacks";
const ATTACKER: &str = "mallory";

/// Serves until its standard input ends.
pub(crate) fn serve() -> Result<(), Wrong> {
    let store = MemoryStore::new();
    // Some 6 MB of groups.
    for group in 0..20 {
        let conversation_list = (0..1000).map(|number| format!("c2c_{group:0>246}_{number:04}")).collect();
        let commit = Commit {
            user: UserId::new(ATTACKER)?,
            base: Version(group),
            changes: vec![Change::GroupCreated { group_name: format!("group {group}"), conversation_list }],
            origin: Origin { method: "import".to_owned(), request_id: String::new() },
            keep: 1,
            skip: Skip::default(),
            deadline: None,
        };
        store.commit(commit)?;
    }
    let mut settings = Settings::default();
    settings.auth.sdk_app_id = APP;
    "127.0.0.1:0".clone_into(&mut settings.server.listen);
    let host = Host::builder().store(store).build()?;
    let server = Server::bind(host, &settings, KeySource::Fixed(keys()))?;
    println!("{}", server.address());
    let stop = tokio::task::spawn_blocking;
    Runtime::new()?.block_on(async {
        let input = stop(|| std::io::stdin().lines().count());
        server.run(async { drop(input.await) }).await
    })?;
    Ok(())
}

/// A server in a process of its own.
struct Attacked {
    process: Child,
    input: Option<ChildStdin>,
    address: SocketAddr,
}

impl Attacked {
    fn start() -> Result<Self, Wrong> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process = command.arg(SERVE).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().ok_or("it is piped")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let input = process.stdin.take();
        Ok(Self { process, input, address: line.trim().parse()? })
    }

    fn stop(mut self) -> Result<Duration, Wrong> {
        let started = Instant::now();
        drop(self.input.take());
        self.process.wait()?;
        Ok(started.elapsed())
    }
}

/// All attacks that are chosen, each on a server of its own.
pub(crate) fn attacks(time: Duration, chosen: impl Fn(&str) -> bool) -> Result<(), Wrong> {
    println!(
        "\n| client that attacks a server | responses | memory | processor time | p50 before | during | p99 before | during | time to stop |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    if chosen("closed_windows") {
        // So that the first streams have been reset at the end.
        attack("closed_windows: 200 connections, as many streams as each may have", time * 30, 1, closed_windows)?;
    }
    if chosen("snapshots") {
        attack("snapshots: one user opens and cancels event streams", time * 10, 4, snapshots)?;
    }
    if chosen("description") {
        attack("description: 8 connections ask for /openapi.json", time * 10, 8, description)?;
    }
    Ok(())
}

/// Counts responses until it is over.
type Attack = fn(SocketAddr, &Arc<AtomicBool>, &Arc<AtomicU64>) -> Result<(), Wrong>;

fn attack(name: &str, time: Duration, attackers: usize, attack: Attack) -> Result<(), Wrong> {
    let attacked = Attacked::start()?;
    let address = attacked.address;
    let before = calls(address, Duration::from_secs(2))?;
    let memory = Memory::watch_of(attacked.process.id())?;
    let (is_over, responses) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let attacks: Vec<_> = (0..attackers)
        .map(|_| {
            let (is_over, responses) = (Arc::clone(&is_over), Arc::clone(&responses));
            std::thread::spawn(move || attack(address, &is_over, &responses).map_err(|error| error.to_string()))
        })
        .collect();
    let spent = memory.processor_time()?;
    let started = Instant::now();
    let during = calls(address, time)?;
    let spent = (memory.processor_time()? - spent).as_secs_f64() / started.elapsed().as_secs_f64();
    let most = memory.most_mib()?;
    is_over.store(true, Ordering::Relaxed);
    let counted = responses.load(Ordering::Relaxed);
    // The attackers keep their streams open while the server stops.
    let stopped = attacked.stop()?;
    for attack in attacks {
        // Their connections break when the server stops.
        let _ = attack.join().map_err(|_| "an attacker panicked")?;
    }
    println!(
        "| {name} | {counted} | {most:.0} | {:.0}% | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} s |",
        spent * 100.0,
        before.at(50),
        during.at(50),
        before.at(99),
        during.at(99),
        stopped.as_secs_f64(),
    );
    Ok(())
}

/// A user's calls, some 40 in a second.
fn calls(address: SocketAddr, time: Duration) -> Result<Times, Wrong> {
    let client = convgroups_tests::server::client();
    let (url, signature) = (format!("http://{address}/v1/getConversationGroupList"), sign("bob"));
    let (started, mut times) = (Instant::now(), Times::default());
    while started.elapsed() < time {
        let response = times.of(|| client.post(&url).bearer_auth(&signature).send()?.text())?;
        if !response.starts_with(r#"{"code":0"#) {
            return Err(response.into());
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    Ok(times)
}

fn closed_windows(address: SocketAddr, is_over: &Arc<AtomicBool>, responses: &Arc<AtomicU64>) -> Result<(), Wrong> {
    Runtime::new()?.block_on(async {
        for _ in 0..200 {
            let stream = tokio::net::TcpStream::connect(address).await?;
            let shaken = h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(stream).await?;
            let (requests, mut connection) = shaken;
            let mut pings = connection.ping_pong().ok_or("it is taken once")?;
            tokio::spawn(connection);
            tokio::spawn(async move {
                while pings.ping(h2::Ping::opaque()).await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            });
            for _ in 0..100 {
                let (requests, responses) = (requests.clone(), Arc::clone(responses));
                tokio::spawn(async move {
                    // Again when it was reset, until the connection breaks.
                    while let Ok(mut requests) = requests.clone().ready().await {
                        let Ok(asked) = Request::get("http://test/metrics").body(()) else { return };
                        let Ok((response, _)) = requests.send_request(asked, true) else { return };
                        let Ok(response) = response.await else { continue };
                        responses.fetch_add(1, Ordering::Relaxed);
                        let _reset = response.into_body().data().await;
                    }
                });
            }
        }
        // Until the server has gone, which must not wait for these.
        while !is_over.load(Ordering::Relaxed) || tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok(())
    })
}

fn snapshots(address: SocketAddr, is_over: &Arc<AtomicBool>, responses: &Arc<AtomicU64>) -> Result<(), Wrong> {
    let client = convgroups_tests::server::client();
    let signature = sign(ATTACKER);
    while !is_over.load(Ordering::Relaxed) {
        // A client that does not wait for the response.
        let mut cancelled = std::net::TcpStream::connect(address)?;
        cancelled.write_all(request("GET", "/v1/events", ATTACKER, "", "").as_bytes())?;
        std::thread::sleep(Duration::from_millis(5));
        drop(cancelled);
        let opened = client.get(format!("http://{address}/v1/events")).bearer_auth(&signature).send()?;
        if opened.status() == 200 {
            responses.fetch_add(1, Ordering::Relaxed);
        } else {
            // As fast as the rates of calls let it through.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

fn description(address: SocketAddr, is_over: &Arc<AtomicBool>, responses: &Arc<AtomicU64>) -> Result<(), Wrong> {
    let mut stream = std::net::TcpStream::connect(address)?;
    while !is_over.load(Ordering::Relaxed) {
        stream.write_all(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")?;
        convgroups_tests::server::try_answer_on(&mut BufReader::new(&mut stream))?;
        responses.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
