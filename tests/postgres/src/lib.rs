//! Real PostgreSQL for tests.
//!
//! Databases come from the server that `CONVGROUPS_TEST_POSTGRES_URL` names (by a user who may create databases), else from
//! a private server, started from installed binaries in a temporary folder and gone with the process that started it. Where
//! neither is to be had, a test that needs one says so and ends; with `TEST_REQUIRE_POSTGRES` set it fails instead.

mod pooler;

use std::fs::Permissions;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use pooler::Pooler;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// The variable that names a server to use.
pub const URL_VARIABLE: &str = "CONVGROUPS_TEST_POSTGRES_URL";
/// The variable that makes a skipped test a failure.
pub const REQUIRE_VARIABLE: &str = "TEST_REQUIRE_POSTGRES";

/// Far longer than a server takes to start or stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A database of its own, gone when this is dropped.
#[derive(Debug)]
pub struct Database {
    url: String,
    name: String,
    admin_url: String,
}

impl Database {
    /// Creates an empty one; nothing where there is no server.
    ///
    /// # Panics
    ///
    /// When the server cannot do it; or when there is none, and one is required.
    #[must_use]
    pub fn create() -> Option<Self> {
        Some(Self::create_on(admin_url()?))
    }

    /// Creates an empty one on the server that a URL of a database of it names.
    fn create_on(admin_url: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("convgroups_test_{}_{number}", std::process::id());
        execute(admin_url, &[&format!("DROP DATABASE IF EXISTS {name}"), &format!("CREATE DATABASE {name}")]);
        Self { url: with_database(admin_url, &name), name, admin_url: admin_url.to_owned() }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its URL by way of another port of this machine.
    ///
    /// # Panics
    ///
    /// When its own has none.
    #[must_use]
    pub fn url_through(&self, port: u16) -> String {
        let (before, name) = self.url.rsplit_once('/').expect("a database has a name");
        let (before, _) = before.rsplit_once(':').expect("the URL names a port");
        format!("{before}:{port}/{name}")
    }

    /// The port of its server.
    ///
    /// # Panics
    ///
    /// When the URL has none.
    #[must_use]
    pub fn port(&self) -> u16 {
        let (_, after) = self.url.rsplit_once(':').expect("the URL names a port");
        let port = after.split_once('/').and_then(|(port, _)| port.parse().ok());
        port.expect("a port is a number")
    }

    /// Runs statements.
    ///
    /// # Panics
    ///
    /// When one fails.
    pub fn execute(&self, statements: &[&str]) {
        execute(&self.url, statements);
    }

    /// The first column of what a query answers, as text.
    ///
    /// # Panics
    ///
    /// When it fails.
    #[must_use]
    pub fn query(&self, query: &str) -> Vec<String> {
        let rows = with_client(&self.url, async |client| client.simple_query(query).await.expect("the query works"));
        rows.iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
            .collect()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The private server goes as a whole; and one that a test has stopped is none.
        if std::env::var_os(URL_VARIABLE).is_some() {
            execute(&self.admin_url, &[&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)]);
        }
    }
}

/// The server that all tests of this process share.
fn admin_url() -> Option<&'static str> {
    static SERVER: OnceLock<Option<String>> = OnceLock::new();
    let url = SERVER.get_or_init(|| {
        if let Ok(url) = std::env::var(URL_VARIABLE) {
            return Some(url);
        }
        let server = Server::start()?;
        let url = server.url();
        // Its keeper ends it when this process is gone.
        std::mem::forget(server);
        Some(url)
    });
    url.as_deref()
}

/// A private server, in a temporary folder. It ends with the process that started it, whatever happens to that.
#[derive(Debug)]
pub struct Server {
    binaries: PathBuf,
    directory: TempDir,
    port: u16,
    options: Vec<String>,
    keeper: Option<Child>,
}

impl Server {
    /// Starts one that does not flush: a crash of the machine would lose data, one of the server does not. Nothing where no
    /// binaries are installed.
    ///
    /// # Panics
    ///
    /// When it does not start; or when there are no binaries, and a server is required.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with(&["fsync=off", "max_connections=300", "shared_buffers=64MB"])
    }

    /// Starts one with such settings.
    ///
    /// # Panics
    ///
    /// As [`Server::start`].
    #[must_use]
    pub fn start_with(options: &[&str]) -> Option<Self> {
        let Some(binaries) = binaries() else {
            let hint = format!("install PostgreSQL, or name a server by {URL_VARIABLE}");
            assert!(std::env::var_os(REQUIRE_VARIABLE).is_none(), "there is no PostgreSQL: {hint}");
            eprintln!("SKIPPED: a test needs PostgreSQL; {hint}");
            return None;
        };
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let owner = unprivileged();
        if let Some((user, group)) = owner {
            std::os::unix::fs::chown(directory.path(), Some(user), Some(group)).expect("root can give it away");
        }
        let data = directory.path().join("data");
        let mut init = as_user(&binaries.join("initdb"), owner);
        init.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(&data);
        let made = init.output().expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let mut server = Self { binaries, directory, port: free_port(), options, keeper: None };
        server.resume();
        Some(server)
    }

    /// The URL of its first database.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Creates an empty database.
    ///
    /// # Panics
    ///
    /// When it cannot.
    #[must_use]
    pub fn create_database(&self) -> Database {
        Database::create_on(&self.url())
    }

    /// Starts it again after [`Server::crash`] or [`Server::stop`], and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn resume(&mut self) {
        // Waits for a signal's name, or for its input to end, which it does when this process does.
        let script = "\"$@\" & server=$!; read -r signal; kill -\"${signal:-QUIT}\" $server; wait $server";
        let mut keeper = as_user(Path::new("/bin/sh"), unprivileged());
        keeper.args(["-c", script, "keeper"]).arg(self.binaries.join("postgres")).arg("-D");
        keeper.arg(self.directory.path().join("data"));
        keeper.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-c", "unix_socket_directories="]);
        for option in &self.options {
            keeper.args(["-c", option]);
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.directory.path().join("log"));
        let log = log.expect("a log can be written");
        keeper.stdin(Stdio::piped()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        // Ctrl-C at a terminal is for the tests; the server follows by itself.
        keeper.process_group(0);
        self.keeper = Some(keeper.spawn().expect("there is a shell"));
        let url = self.url();
        let started = Instant::now();
        while let Err(error) = try_with_client(&url, async |client| client.simple_query("SELECT 1").await.map(drop)) {
            assert!(started.elapsed() < PATIENCE, "the server does not answer: {error}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it at once, without a word to anybody: what was committed is found again after [`Server::resume`].
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub fn crash(&mut self) {
        self.end("QUIT");
    }

    /// Stops it for a moment and keeps a copy of all it has, as a base backup would.
    ///
    /// # Panics
    ///
    /// When it cannot.
    pub fn save(&mut self) {
        self.stop();
        let (data, saved) = (self.directory.path().join("data"), self.directory.path().join("saved"));
        // Archives keep owners and modes, without which the server does not start.
        let copied = Command::new("cp").arg("-a").args([data, saved]).status();
        assert!(copied.is_ok_and(|status| status.success()), "the data cannot be copied");
        self.resume();
    }

    /// Stops it and starts it with the copy that was kept by [`Server::save`], by a recovery that ends there: what was
    /// committed since is lost.
    ///
    /// # Panics
    ///
    /// When it cannot.
    pub fn recover_saved(&mut self) {
        self.stop();
        let (data, saved) = (self.directory.path().join("data"), self.directory.path().join("saved"));
        std::fs::remove_dir_all(&data).and_then(|()| std::fs::rename(saved, &data)).expect("it can be put back");
        // Asks an archive for more, which has nothing, and goes on with a new timeline.
        let signal = self.write("recovery.signal", "");
        std::fs::rename(signal, data.join("recovery.signal")).expect("it can be moved");
        self.options.push("restore_command=false".to_owned());
        self.resume();
    }

    /// What `pg_dump` says of a database's schema, as statements.
    ///
    /// # Panics
    ///
    /// When it fails.
    #[must_use]
    pub fn dump(&self, database: &Database, schema: &str) -> String {
        // A client's program, which need not be where the server's are.
        let beside = self.binaries.join("pg_dump");
        let mut dump = Command::new(if beside.is_file() { beside } else { "pg_dump".into() });
        dump.args(["--inserts", "--no-owner", "--schema", schema, "--dbname", database.url()]);
        let dumped = dump.output().expect("pg_dump runs");
        assert!(dumped.status.success(), "pg_dump: {}", String::from_utf8_lossy(&dumped.stderr));
        let dumped = String::from_utf8(dumped.stdout).expect("text");
        // What begins with a backslash is for psql.
        dumped.lines().filter(|line| !line.starts_with('\\')).flat_map(|line| [line, "\n"]).collect()
    }

    /// Ends it in good order, but for its connections, which end at once: what is not committed is undone.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub fn stop(&mut self) {
        self.end("INT");
    }

    fn end(&mut self, signal: &str) {
        if let Some(mut keeper) = self.keeper.take() {
            let mut input = keeper.stdin.take().expect("it is piped");
            writeln!(input, "{signal}").expect("the keeper reads");
            drop(input);
            keeper.wait().expect("the keeper ends");
        }
    }

    /// Starts it again with more settings.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn configure(&mut self, options: &[&str]) {
        self.options.extend(options.iter().map(|&option| option.to_owned()));
        self.crash();
        self.resume();
    }

    /// Writes a file that only the server can read; answers where.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    #[must_use]
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).expect("a file can be written");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("its mode can be set");
        if let Some((user, group)) = unprivileged() {
            std::os::unix::fs::chown(&path, Some(user), Some(group)).expect("root can give it away");
        }
        path
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.crash();
    }
}

/// Where PostgreSQL's programs are: on the path, or where distributions put them.
fn binaries() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for versions in ["/usr/lib/postgresql", "/usr/local/opt", "/opt/homebrew/opt"] {
        let entries = std::fs::read_dir(versions).into_iter().flatten().flatten();
        let mut bins: Vec<PathBuf> = entries.map(|entry| entry.path().join("bin")).collect();
        // The newest first.
        bins.sort_unstable_by(|a, b| b.cmp(a));
        found.extend(bins);
    }
    found.push("/usr/pgsql/bin".into());
    found.into_iter().find(|directory| directory.join("initdb").is_file() && directory.join("postgres").is_file())
}

/// Whom to run the server as: PostgreSQL refuses to run as root.
fn unprivileged() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| -> Option<u32> {
        let output = Command::new("id").args(arguments).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    if id(&["-u"]) != Some(0) {
        return None;
    }
    ["postgres", "nobody"].into_iter().find_map(|user| Some((id(&["-u", user])?, id(&["-g", user])?)))
}

fn as_user(program: &Path, owner: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command.current_dir("/");
    command
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.expect("there is a free port").port()
}

/// A URL with another database.
fn with_database(url: &str, name: &str) -> String {
    let (address, query) = url.split_once('?').map_or((url, None), |(address, query)| (address, Some(query)));
    let base = address.rsplit_once('/').map_or(address, |(base, _)| base);
    query.map_or_else(|| format!("{base}/{name}"), |query| format!("{base}/{name}?{query}"))
}

fn execute(url: &str, statements: &[&str]) {
    with_client(url, async |client| {
        for statement in statements {
            let result = client.batch_execute(statement).await;
            let reason = result.err().map(|error| error.as_db_error().map_or(error.to_string(), ToString::to_string));
            assert_eq!(reason, None, "{statement}");
        }
    });
}

fn with_client<T>(url: &str, work: impl AsyncFnOnce(&Client) -> T) -> T {
    try_with_client(url, async |client| Ok(work(client).await)).expect("the server answers")
}

/// Works with a connection, from ordinary code.
fn try_with_client<T>(
    url: &str,
    work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
) -> Result<T, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io::Error::other)?;
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        let connection = tokio::spawn(connection);
        let result = tokio::time::timeout(PATIENCE, work(&client)).await?;
        connection.abort();
        Ok(result?)
    })
}
