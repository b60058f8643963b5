//! A pooler between, of the kind that does not keep track of prepared statements.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{PATIENCE, REQUIRE_VARIABLE, admin_url, as_user, free_port, unprivileged};

/// PgBouncer in transaction mode before the server that all tests of this process share. It ends with the process.
#[derive(Debug)]
pub struct Pooler {
    port: u16,
    _keeper: Child,
    _directory: TempDir,
}

impl Pooler {
    /// Starts one with so few connections to the database that those who use it have to share them. Nothing where there is
    /// no PgBouncer, or no server of the tests' own.
    ///
    /// # Panics
    ///
    /// When it does not start; or when there is none, and PostgreSQL is required.
    #[must_use]
    pub fn start() -> Option<Self> {
        let server = admin_url()?.strip_prefix("postgres://postgres@127.0.0.1:")?;
        let server_port = server.split('/').next().expect("a port");
        let Some(program) = program() else {
            assert!(std::env::var_os(REQUIRE_VARIABLE).is_none(), "there is no PgBouncer: install it");
            eprintln!("SKIPPED: a test needs PgBouncer; install it");
            return None;
        };
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let owner = unprivileged();
        let port = free_port();
        let users = directory.path().join("users");
        let settings = format!(
            "[databases]\n\
             * = host=127.0.0.1 port={server_port} user=postgres\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             auth_file = {}\n\
             pool_mode = transaction\n\
             max_prepared_statements = 0\n\
             default_pool_size = 3\n\
             max_client_conn = 500\n",
            users.display()
        );
        // Versions before the setting do what it asks for, and refuse to hear of it.
        let version = Command::new(&program).arg("--version").output().expect("it runs");
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        let old = ["PgBouncer 1.1", "PgBouncer 1.20"].iter().any(|old| version.starts_with(old));
        let settings = if old { settings.replace("max_prepared_statements = 0\n", "") } else { settings };
        let file = directory.path().join("pgbouncer.ini");
        std::fs::write(&file, settings).expect("settings can be written");
        std::fs::write(&users, "").expect("users can be written");
        if let Some((user, group)) = owner {
            for path in [directory.path(), &file, &users] {
                std::os::unix::fs::chown(path, Some(user), Some(group)).expect("root can give it away");
            }
        }
        let script = "\"$@\" & pooler=$!; read -r _; kill -TERM $pooler; kill -TERM $pooler; wait $pooler";
        let mut keeper = as_user(Path::new("/bin/sh"), owner);
        keeper.args(["-c", script, "keeper"]).arg(program).arg("-q").arg(&file);
        let log = std::fs::File::create(directory.path().join("log")).expect("a log can be written");
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let keeper = keeper.spawn().expect("there is a shell");
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = || std::fs::read_to_string(directory.path().join("log")).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "the pooler does not answer: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { port, _keeper: keeper, _directory: directory })
    }

    /// The URL of a database, by way of the pooler.
    ///
    /// # Panics
    ///
    /// When it is not a URL.
    #[must_use]
    pub fn url(&self, url: &str) -> String {
        let (_, name) = url.rsplit_once('/').expect("a URL");
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    directories.map(|directory| directory.join("pgbouncer")).find(|program| program.is_file())
}
