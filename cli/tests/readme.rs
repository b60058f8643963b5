//! The README's console sessions, run command by command in an empty directory.

use std::path::Path;
use std::process::Command;

use postgres_for_tests::Database;

/// The heading of what needs a database.
const WITH_DATABASE: &str = "## When one machine is not enough";
/// The ports that the README uses. Whoever else runs here may have them.
const PORTS: [&str; 3] = ["127.0.0.1:7475", "127.0.0.1:7476", "127.0.0.1:7477"];

/// A command and what it prints.
struct Step {
    command: String,
    output: Vec<String>,
    with_database: bool,
}

fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut inside, mut with_database) = (false, false);
    for line in readme.lines() {
        if line.starts_with("## ") {
            with_database = line == WITH_DATABASE;
        } else if line.starts_with("```") {
            inside = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            steps.push(Step { command: command.to_owned(), output: Vec::new(), with_database });
        } else if inside && let Some(step) = steps.last_mut() {
            step.output.push(line.to_owned());
        }
    }
    steps
}

/// Whether a line is as expected, where `…` stands for anything.
fn matches(expected: &str, came: &str) -> bool {
    let Some((first, rest)) = expected.split_once('…') else { return expected == came };
    let Some(came) = came.strip_prefix(first) else { return false };
    // Every place where what follows could begin.
    came.char_indices().map(|(start, _)| start).chain([came.len()]).any(|start| matches(rest, &came[start..]))
}

/// Ends what a command printed, on a line of its own.
const END: &str = "end of the command's output\n";

#[test]
fn the_commands_of_the_readme_print_what_it_says() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let mut steps = steps(&std::fs::read_to_string(readme).expect("the README is there"));
    assert!(steps.iter().filter(|step| step.with_database).count() >= 6, "commands were not found");
    assert!(steps.iter().filter(|step| !step.with_database).count() >= 6, "commands were not found");
    let database = Database::create();
    steps.retain(|step| database.is_some() || !step.with_database);
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let binary = Path::new(env!("CARGO_BIN_EXE_convgroups"));
    let path = format!("{}:{}", binary.parent().expect("a directory").display(), env!("PATH"));
    // One shell for all of them, as a reader has it.
    let script: String = steps.iter().map(|step| format!("{}\nprintf '%s' \"{END}\"\n", step.command)).collect();
    // All held until each is found, so that no two are the same.
    let free = PORTS.map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port"));
    let script = PORTS.iter().zip(&free).fold(script, |script, (port, free)| {
        script.replace(port, &free.local_addr().expect("it has an address").to_string())
    });
    drop(free);
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(&directory).env("PATH", &path);
    shell.env("CONVGROUPS_CACHE_DIR", directory.path().join("cache"));
    shell.envs(database.as_ref().map(|database| ("DATABASE", database.url())));
    let output = shell.output().expect("there is a shell");
    let came = String::from_utf8(output.stdout).expect("text");
    let said = String::from_utf8_lossy(&output.stderr);
    let mut parts = came.split(END);
    for step in steps {
        let came: Vec<&str> = parts.next().unwrap_or_default().lines().collect();
        let fits = came.len() == step.output.len()
            && step.output.iter().zip(&came).all(|(expected, came)| matches(expected, came));
        assert!(
            fits,
            "$ {}\nprinted\n{}\ninstead of\n{}\n{said}",
            step.command,
            came.join("\n"),
            step.output.join("\n")
        );
    }
}

#[test]
fn the_settings_file_for_production_can_be_used() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/production.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let (_, rest) = page.split_once("```toml\n").expect("it has a settings file");
    let (settings, _) = rest.split_once("```").expect("which ends");
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let file = directory.path().join("convgroups.toml");
    std::fs::write(&file, settings).expect("writes");
    let mut config = Command::new(env!("CARGO_BIN_EXE_convgroups"));
    let output = config.args(["config", "--config"]).arg(&file).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).expect("text");
    assert!(printed.contains("server.calls_per_second = 2000"), "{printed}");
}

#[test]
fn an_ellipsis_stands_for_anything_and_nothing_else_does() {
    for (expected, came, fits) in [
        ("abc", "abc", true),
        ("abc", "abcd", false),
        ("a…c", "a-b-c", true),
        ("a…c", "a-b-d", false),
        ("a…", "a-b", true),
        ("…c", "abc", true),
        ("a…b…c", "a1b2c", true),
        ("a…b…c", "a1c2b", false),
    ] {
        assert_eq!(matches(expected, came), fits, "{expected} and {came}");
    }
}

#[test]
fn the_page_of_settings_has_each_with_its_default_and_no_other() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/settings.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let mut documented: Vec<String> = page
        .lines()
        .filter_map(|line| {
            line.strip_prefix("| `")?.split(" | ").take(2).map(str::to_owned).reduce(|a, b| a + " = " + &b)
        })
        .map(|line| line.replace('`', ""))
        .collect();
    // Where no file and no variable says otherwise.
    let directory = tempfile::tempdir().expect("a directory can be made");
    let output = Command::new(env!("CARGO_BIN_EXE_convgroups"))
        .arg("config")
        .current_dir(directory.path())
        .env_clear()
        .output()
        .expect("the program runs");
    let printed = String::from_utf8(output.stdout).expect("it prints UTF-8");
    let setting = |line: &str| line.strip_suffix("# default").expect("it is a default").trim_end().to_owned();
    let mut known: Vec<String> = printed.lines().map(setting).collect();
    documented.sort_unstable();
    known.sort_unstable();
    assert_eq!(documented, known);
}
