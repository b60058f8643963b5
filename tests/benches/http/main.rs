//! The server: requests a second and latencies of deletions over HTTP; on SQLite against what one would write without this
//! project. And what the sandbox costs a served call: a host behind as little HTTP as there can be, with the sandbox and with the
//! rules linked natively. `--synapse=ADDRESS` compares the server with a Synapse there instead.
//!
//! Each connection is a user of its own, who takes conversations out of a group and puts them back, in turn. The servers
//! run in this process, beside the clients, and are measured in rounds that take turns; medians of the rounds are printed.
//! `cargo bench -- --short` takes few and short rounds, to see that all of it runs.

mod bare;
mod naive;
mod synapse;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use convgroups_host::store::Store;
use convgroups_host::{Host, MemoryStore, SqliteStore};
use convgroups_server::usersig::Keys;
use convgroups_server::{KeySource, Server, Settings};
use tokio::runtime::Runtime;

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
    /// Calls a second, deletions and additions together. With Synapse, ten requests count as one call.
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
    let runtime = Runtime::new()?;
    println!("deletions over HTTP; times in microseconds; reach: sandboxed / native at least 0.90");
    println!("server: this project's; sandboxed, native: axum and a host, no signatures, limits, log and metrics");
    println!("plain: axum and rusqlite, a transaction with a flush for each call, no sandbox, no signatures, no log");
    println!(
        "{:<7} {:>4} {:>6} {:<9} {:>10} {:>9} {:>9}   server to it",
        "store", "ids", "conns", "", "calls/s", "p50", "p99"
    );
    let synapse = std::env::args().find_map(|argument| argument.strip_prefix("--synapse=").map(str::parse));
    if let Some(address) = synapse.transpose()? {
        let directory = tempfile::tempdir()?;
        let server = server(&runtime, SqliteStore::open(directory.path().join("groups.db"))?)?;
        let synapse = Subject { name: "Synapse", address, connect: synapse::client };
        // It closes connections that have waited for a minute, which is what it takes to make rooms for more users.
        for connections in [1, 8, 16] {
            compare("sqlite", 10, connections, &[server, synapse], &effort)?;
        }
        return Ok(());
    }
    let mut gains = Vec::new();
    for store in ["memory", "sqlite"] {
        let directory = tempfile::tempdir()?;
        let file = |name: &str| directory.path().join(name);
        let subjects = if store == "memory" {
            vec![
                server(&runtime, MemoryStore::new())?,
                bare(&runtime, MemoryStore::new(), false)?,
                bare(&runtime, MemoryStore::new(), true)?,
            ]
        } else {
            let address = runtime.block_on(naive::serve(&file("plain.db")))?;
            vec![
                server(&runtime, SqliteStore::open(file("server.db"))?)?,
                bare(&runtime, SqliteStore::open(file("sandboxed.db"))?, false)?,
                bare(&runtime, SqliteStore::open(file("native.db"))?, true)?,
                Subject { name: "plain", address, connect: Client::new },
            ]
        };
        for ids in [1, 10, 100] {
            for connections in [1, 8, 64] {
                let measured = compare(store, ids, connections, &subjects, &effort)?;
                gains.push(ratio(&measured[1], &measured[2]));
            }
        }
    }
    println!("median of sandboxed to native: {:.2}", median(gains.into_iter()));
    Ok(())
}

/// A server, and how to get a connection that does the job.
#[derive(Clone, Copy)]
struct Subject {
    name: &'static str,
    address: SocketAddr,
    connect: fn(SocketAddr, &str, usize) -> Result<Client, Failure>,
}

/// This project's server, until the runtime ends.
fn server(runtime: &Runtime, store: impl Store) -> Result<Subject, Failure> {
    let mut settings = settings();
    settings.server.listen = "127.0.0.1:0".to_owned();
    let host = Host::builder().store(store).build()?;
    let _entered = runtime.enter();
    let server = Server::bind(host, &settings, KeySource::Fixed(Keys::parse(KEY)?))?;
    let address = server.address();
    runtime.spawn(server.run(std::future::pending()));
    Ok(Subject { name: "server", address, connect: Client::new })
}

/// As little as there can be around a host, until the runtime ends.
fn bare(runtime: &Runtime, store: impl Store, natively: bool) -> Result<Subject, Failure> {
    let host = Host::builder().store(store).build()?;
    let address = runtime.block_on(bare::serve(host, natively))?;
    Ok(Subject { name: if natively { "native" } else { "sandboxed" }, address, connect: Client::new })
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.auth.sdk_app_id = APP;
    settings.server.calls_per_second = 0;
    settings.server.calls_per_second_per_user = 0;
    settings
}

/// Measures servers in turn: for each, its rounds.
fn compare(
    store: &str,
    ids: usize,
    connections: usize,
    subjects: &[Subject],
    effort: &Effort,
) -> Result<Vec<Vec<Measured>>, Failure> {
    let connect = |subject: &Subject| -> Result<Vec<Client>, Failure> {
        let user = |number| format!("user-{ids}-{connections}-{number}");
        (0..connections).map(|number| (subject.connect)(subject.address, &user(number), ids)).collect()
    };
    let mut clients: Vec<Vec<Client>> = subjects.iter().map(connect).collect::<Result<_, _>>()?;
    let mut measured: Vec<Vec<Measured>> = subjects.iter().map(|_| Vec::new()).collect();
    // One round more than is counted, to warm up.
    for round in 0..=effort.rounds {
        for (clients, measured) in clients.iter_mut().zip(&mut measured) {
            let result = run(clients, effort.round)?;
            if round > 0 {
                measured.push(result);
            }
        }
    }
    for (place, (subject, rounds)) in subjects.iter().zip(&measured).enumerate() {
        let at = |part: usize| median(rounds.iter().map(|round| round.at(part)));
        println!(
            "{store:<7} {ids:>4} {connections:>6} {:<9} {:>10.0} {:>9.0} {:>9.0}   {}",
            subject.name,
            median(rounds.iter().map(|round| round.rate)),
            at(50),
            at(99),
            if place == 0 { String::new() } else { format!("{:.2}", ratio(&measured[0], rounds)) },
        );
    }
    Ok(measured)
}

/// How many times the calls of the second the first does, as the median of the rounds, one by one: rounds that took turns share
/// the machine's moods.
fn ratio(first: &[Measured], second: &[Measured]) -> f64 {
    median(first.iter().zip(second).map(|(first, second)| first.rate / second.rate))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Measured {
    /// The time below which this many percent of the deletions are, in microseconds.
    fn at(&self, percent: usize) -> f64 {
        self.times[(self.times.len() - 1) * percent / 100].as_secs_f64() * 1e6
    }
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
    delete: Vec<Vec<u8>>,
    add: Vec<Vec<u8>>,
    body: Vec<u8>,
    /// How the body of a success begins.
    success: &'static str,
}

impl Client {
    fn connect(server: SocketAddr, success: &'static str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), delete: Vec::new(), add: Vec::new(), body: Vec::new(), success })
    }

    fn new(server: SocketAddr, user: &str, ids: usize) -> Result<Self, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let signature = Keys::parse(KEY)?.sign(user, APP, now, 3600);
        // Beside 900 others, as in a group that is used.
        let list =
            |range: std::ops::Range<usize>| -> Vec<String> { range.map(|id| format!("c2c_user{id:06}")).collect() };
        let request = |method: &str, ids: Vec<String>| {
            let body = serde_json::json!({ "groupName": "Work", "conversationIDList": ids }).to_string();
            format!(
                "POST /v1/{method} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {signature}\r\n{}: {user}\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                naive::USER,
                body.len()
            )
            .into_bytes()
        };
        let mut client = Self::connect(server, r#"{"code":0,"#)?;
        client.call(&request("createConversationGroup", list(0..100)))?;
        for part in 1..10 {
            client.call(&request("addConversationsToGroup", list(part * 100..(part + 1) * 100)))?;
        }
        let delete = request("deleteConversationsFromGroup", list(0..ids));
        client.takes_out_and_puts_back(vec![delete], vec![request("addConversationsToGroup", list(0..ids))]);
        Ok(client)
    }

    /// From now on.
    fn takes_out_and_puts_back(&mut self, delete: Vec<Vec<u8>>, add: Vec<Vec<u8>>) {
        (self.delete, self.add) = (delete, add);
    }

    /// The body of the last answer.
    fn body(&self) -> &[u8] {
        &self.body
    }

    fn work(&mut self, started: Instant, time: Duration) -> Result<Vec<Duration>, Failure> {
        let mut times = Vec::new();
        let (delete, add) = (std::mem::take(&mut self.delete), std::mem::take(&mut self.add));
        while started.elapsed() < time {
            let sent = Instant::now();
            delete.iter().try_for_each(|request| self.call(request))?;
            times.push(sent.elapsed());
            add.iter().try_for_each(|request| self.call(request))?;
        }
        self.takes_out_and_puts_back(delete, add);
        Ok(times)
    }

    /// Sends a request and reads its answer, which must be a success.
    fn call(&mut self, request: &[u8]) -> Result<(), Failure> {
        self.stream.get_mut().write_all(request)?;
        let mut length = Some(0);
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.trim().to_owned();
        while !line.trim().is_empty() {
            line.clear();
            self.stream.read_line(&mut line)?;
            match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = Some(value.trim().parse()?);
                }
                Some((name, _)) if name.eq_ignore_ascii_case("transfer-encoding") => length = None,
                _ => {}
            }
        }
        self.body.clear();
        match length {
            Some(length) => self.read(length)?,
            None => self.read_chunks()?,
        }
        if !status.starts_with("HTTP/1.1 200") || !self.body.starts_with(self.success.as_bytes()) {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&self.body)).into());
        }
        Ok(())
    }

    /// Reads so much more of a body.
    fn read(&mut self, length: usize) -> Result<(), Failure> {
        let before = self.body.len();
        self.body.resize(before + length, 0);
        Ok(self.stream.read_exact(&mut self.body[before..])?)
    }

    /// Reads a body that comes in chunks (RFC 9112, 7.1), without trailers.
    fn read_chunks(&mut self) -> Result<(), Failure> {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim(), 16)?;
            self.read(length)?;
            line.clear();
            self.stream.read_line(&mut line)?;
            if length == 0 {
                return Ok(());
            }
        }
    }
}
