//! What the sandbox costs a server: requests a second and latencies of deletions over HTTP, against the same server with
//! the rules linked natively.
//!
//! Each connection is a user of its own, who takes conversations out of a group and puts them back, in turn. Both servers
//! run in this process, beside the clients, and are measured in rounds that take turns; medians of the rounds are printed.
//! `cargo bench -- --short` takes few and short rounds, to see that all of it runs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use convgroups_host::server::usersig::Keys;
use convgroups_host::server::{KeySource, Server};
use convgroups_host::{Host, MemoryStore, Settings, SqliteStore};
use convgroups_tests::native;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const APP: u64 = 1_400_000_000;
const KEY: &str = "a key for benchmarks only";

/// How long the rounds are, and how many.
struct Effort {
    rounds: usize,
    round: Duration,
}

/// What one round of one server gave.
struct Measured {
    /// Requests a second, deletions and additions together.
    rate: f64,
    /// Times of the deletions, ascending.
    times: Vec<Duration>,
}

fn main() -> Result<(), Failure> {
    let short = std::env::args().any(|argument| argument == "--short");
    let effort = if short {
        Effort { rounds: 1, round: Duration::from_millis(100) }
    } else {
        Effort { rounds: 5, round: Duration::from_secs(1) }
    };
    let runtime = tokio::runtime::Runtime::new()?;
    println!("deletions over HTTP; times in microseconds; reach: sandboxed / native at least 0.90");
    println!(
        "{:<7} {:>4} {:>6}   {:>9} {:>8} {:>8}   {:>9} {:>8} {:>8}   sandboxed / native",
        "store", "ids", "conns", "native/s", "p50", "p99", "sandbox/s", "p50", "p99"
    );
    let mut gains = Vec::new();
    for durable in [false, true] {
        let directory = tempfile::tempdir()?;
        let start = |natively: bool| -> Result<SocketAddr, Failure> {
            let mut settings = settings();
            settings.server.listen = "127.0.0.1:0".to_owned();
            let mut host = Host::builder().settings(settings.clone());
            host = if durable {
                host.store(SqliteStore::open(directory.path().join(format!("{natively}.db")))?)
            } else {
                host.store(MemoryStore::new())
            };
            if natively {
                host = host.natively(Arc::new(native::run));
            }
            let _entered = runtime.enter();
            let server = Server::bind(host.build()?, &settings, KeySource::Fixed(Keys::parse(KEY)?))?;
            let address = server.address();
            runtime.spawn(server.run(std::future::pending()));
            Ok(address)
        };
        let servers = [start(true)?, start(false)?];
        for ids in [1, 100] {
            for connections in [1, 8, 64] {
                let ratio = compare(durable, ids, connections, servers, &effort)?;
                gains.push(ratio);
            }
        }
    }
    gains.sort_by(f64::total_cmp);
    println!("median of the ratios: {:.2}", gains[gains.len() / 2]);
    Ok(())
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.auth.sdk_app_id = APP;
    settings.server.calls_per_second = 0;
    settings.server.calls_per_second_per_user = 0;
    settings
}

fn compare(
    durable: bool,
    ids: usize,
    connections: usize,
    servers: [SocketAddr; 2],
    effort: &Effort,
) -> Result<f64, Failure> {
    let mut measured: [Vec<Measured>; 2] = [Vec::new(), Vec::new()];
    let mut clients: [Vec<Client>; 2] = [Vec::new(), Vec::new()];
    for (clients, server) in clients.iter_mut().zip(servers) {
        for user in 0..connections {
            clients.push(Client::new(server, &format!("user-{ids}-{connections}-{user}"), ids)?);
        }
    }
    // One round more than is counted, to warm up.
    for round in 0..=effort.rounds {
        for (clients, measured) in clients.iter_mut().zip(&mut measured) {
            let result = run(clients, effort.round)?;
            if round > 0 {
                measured.push(result);
            }
        }
    }
    let store = if durable { "sqlite" } else { "memory" };
    let [native, sandboxed] = measured.map(|mut rounds| {
        rounds.sort_by(|one, other| one.rate.total_cmp(&other.rate));
        rounds.swap_remove(rounds.len() / 2)
    });
    let at = |times: &[Duration], part: usize| times[(times.len() - 1) * part / 100].as_micros();
    let ratio = sandboxed.rate / native.rate;
    println!(
        "{store:<7} {ids:>4} {connections:>6}   {:>9.0} {:>8} {:>8}   {:>9.0} {:>8} {:>8}   {ratio:.2}",
        native.rate,
        at(&native.times, 50),
        at(&native.times, 99),
        sandboxed.rate,
        at(&sandboxed.times, 50),
        at(&sandboxed.times, 99),
    );
    Ok(ratio)
}

/// All clients at once, each on its own thread.
fn run(clients: &mut [Client], time: Duration) -> Result<Measured, Failure> {
    let started = Instant::now();
    let results: Vec<Result<Vec<Duration>, Failure>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            clients.iter_mut().map(|client| scope.spawn(move || client.work(started, time))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a client panicked".into()))).collect()
    });
    let elapsed = started.elapsed();
    let mut times = Vec::new();
    for result in results {
        times.extend(result?);
    }
    times.sort_unstable();
    // For each deletion there was an addition.
    Ok(Measured { rate: 2.0 * times.len() as f64 / elapsed.as_secs_f64(), times })
}

/// A connection of one user.
struct Client {
    stream: BufReader<TcpStream>,
    delete: Vec<u8>,
    add: Vec<u8>,
    body: Vec<u8>,
}

impl Client {
    fn new(server: SocketAddr, user: &str, ids: usize) -> Result<Self, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let signature = Keys::parse(KEY)?.sign(user, APP, now, 3600);
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        // Beside 900 others, as in a group that is used.
        let list =
            |range: std::ops::Range<usize>| -> Vec<String> { range.map(|id| format!("c2c_user{id:06}")).collect() };
        let request = |method: &str, ids: Vec<String>| {
            let body = serde_json::json!({ "groupName": "Work", "conversationIDList": ids }).to_string();
            format!(
                "POST /v1/{method} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {signature}\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        };
        let mut client = Self {
            stream: BufReader::new(stream),
            delete: request("deleteConversationsFromGroup", list(0..ids)),
            add: request("addConversationsToGroup", list(0..ids)),
            body: Vec::new(),
        };
        client.call(&request("createConversationGroup", list(0..100)))?;
        for part in 1..10 {
            client.call(&request("addConversationsToGroup", list(part * 100..(part + 1) * 100)))?;
        }
        Ok(client)
    }

    fn work(&mut self, started: Instant, time: Duration) -> Result<Vec<Duration>, Failure> {
        let mut times = Vec::new();
        let (delete, add) = (std::mem::take(&mut self.delete), std::mem::take(&mut self.add));
        while started.elapsed() < time {
            let sent = Instant::now();
            self.call(&delete)?;
            times.push(sent.elapsed());
            self.call(&add)?;
        }
        (self.delete, self.add) = (delete, add);
        Ok(times)
    }

    /// Sends a request and reads its answer, which must be a success.
    fn call(&mut self, request: &[u8]) -> Result<(), Failure> {
        self.stream.get_mut().write_all(request)?;
        let mut length = 0;
        let mut line = String::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body)?;
        if !self.body.starts_with(br#"{"code":0,"#) {
            return Err(String::from_utf8_lossy(&self.body).into());
        }
        Ok(())
    }
}
