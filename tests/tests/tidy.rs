//! What pages say of the sources is so: which files have `unsafe`, which tests and commands there are, which program embeds the
//! library. And what is fuzzed is what is released.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Written so that this file does not count itself.
const KEYWORD: &str = concat!("un", "safe");
/// The lint, where a file makes an exception from it.
const LINT: &str = concat!("un", "safe_code");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The page with what is `unsafe`.
const SECURITY: &str = "SECURITY.md";
/// Pages that name tests, files and targets of `make`.
const PAGES: [&str; 3] = [SECURITY, "docs/promises.md", "docs/performance.md"];

fn text(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).expect("the file is there")
}

/// All Rust files of the repository by their paths in it.
fn sources() -> BTreeMap<String, String> {
    let root = root();
    let mut sources = BTreeMap::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory can be read") {
            let path = entry.expect("a directory can be read").path();
            let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
            if path.is_dir() {
                // Neither what is built nor what tools keep.
                if !name.starts_with('.') && name != "target" && name != "node_modules" {
                    directories.push(path);
                }
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path).expect("a source is text");
                let inside = path.strip_prefix(&root).expect("it is below").to_string_lossy().replace('\\', "/");
                sources.insert(inside, text);
            }
        }
    }
    assert!(sources.len() > 100, "there are more files than {}", sources.len());
    sources
}

/// How often a word stands in the code of a file, comments left out.
fn count(text: &str, word: &str) -> usize {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.flat_map(|line| line.split(|character: char| !character.is_alphanumeric() && character != '_'))
        .filter(|found| *found == word)
        .count()
}

/// The rows of tables with this many columns whose first is a file: the file, and the second column.
fn rows(page: &str, columns: usize) -> BTreeMap<String, String> {
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.strip_suffix(" |")?.split(" | ").collect();
        let file = cells.first()?.strip_suffix('`')?;
        (cells.len() == columns && file.ends_with(".rs")).then(|| (file.to_owned(), cells[1].to_owned()))
    });
    rows.collect()
}

/// What stands between backticks, outside of blocks of code.
fn quoted(page: &str) -> BTreeSet<&str> {
    page.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// Whether this is how a test is named.
fn is_test(name: &str) -> bool {
    let plain = |c: char| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit();
    name.matches('_').count() > 2 && !name.starts_with('_') && name.chars().all(plain)
}

#[test]
fn every_unsafe_is_on_the_page_with_its_reason() {
    let found: BTreeMap<String, String> = sources()
        .into_iter()
        .map(|(file, text)| (file, count(&text, KEYWORD)))
        .filter(|(_, count)| *count > 0)
        .map(|(file, count)| (file, count.to_string()))
        .collect();
    assert_eq!(found, rows(&text(SECURITY), 3), "left: the sources; right: SECURITY.md");
}

#[test]
fn every_file_of_generated_code_that_has_unsafe_is_on_the_page() {
    let sources = sources();
    let found: Vec<&String> = sources
        .iter()
        .filter(|(_, text)| count(text, LINT) > 0 && count(text, KEYWORD) == 0)
        .map(|(file, _)| file)
        .collect();
    let page = text(SECURITY);
    let said = rows(&page, 2);
    assert_eq!(found, said.keys().collect::<Vec<_>>(), "left: the sources; right: SECURITY.md");
}

#[test]
fn the_program_in_the_readme_is_the_one_that_is_built_and_run() {
    let readme = text("README.md");
    let program = readme.split_once("```rust\n").and_then(|(_, rest)| rest.split_once("```")).expect("a program").0;
    assert_eq!(program, text("examples/embed/src/main.rs"), "left: README.md; right: the program");
}

#[test]
fn every_test_file_and_command_that_a_page_names_is_there() {
    let sources = sources();
    let makefile = text("Makefile");
    let is_path = |name: &str| name.contains('/') && !name.starts_with('/') && !name.contains([' ', ':']);
    let (mut tests, mut paths) = (0, 0);
    for file in PAGES {
        let page = text(file);
        for name in quoted(&page) {
            if is_test(name) {
                let definition = format!("fn {name}(");
                assert!(sources.values().any(|text| text.contains(&definition)), "{file}: there is no test {name}");
                tests += 1;
            } else if is_path(name) {
                assert!(root().join(name).exists(), "{file}: there is no {name}");
                paths += 1;
            } else if let Some(target) = name.strip_prefix("make ") {
                let target = target.split_once(' ').map_or(target, |(target, _)| target);
                assert!(makefile.contains(&format!("\n{target}:")), "{file}: there is no {name}");
            }
        }
    }
    assert!(tests > 80 && paths > 20, "names were not found on the pages: {tests} tests, {paths} paths");
}

#[test]
fn rooms_of_the_library_import_only_from_those_that_the_architecture_allows() {
    let page = text("ARCHITECTURE.md");
    let (_, table) = page.split_once("| room | imports from |\n").expect("the table is there");
    let mut allowed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in table.lines().skip(1).take_while(|row| row.starts_with("| ")) {
        let (rooms, from) = row.trim_matches('|').split_once(" | ").expect("two cells");
        for room in quoted(rooms) {
            // Above or below, never both.
            assert!(quoted(from).iter().all(|other| allowed.contains_key(other)), "{row}: a circle, or a wrong order");
            allowed.insert(room, quoted(from));
        }
    }
    let mut checked = BTreeSet::new();
    for (file, text) in sources() {
        let Some(path) = file.strip_prefix("host/src/").filter(|path| *path != "lib.rs") else { continue };
        let room = path.split('/').next().expect("a name").trim_end_matches(".rs");
        if ["fuzzing", "measure"].contains(&room) {
            continue;
        }
        let from = allowed.get(room).unwrap_or_else(|| panic!("{room} is not in the table"));
        // What tests at the end of a file import is not the room's.
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let code = code.split("#[cfg(all(test").next().unwrap_or_default();
        let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
        for used in lines.flat_map(|line| line.split("crate::").skip(1)) {
            let end = used.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(used.len());
            let used = &used[..end];
            // The crate's own name ends in the same way, and macros of other crates are written so.
            let is_room = allowed.contains_key(used);
            assert!(!is_room || used == room || from.contains(used), "{file}: {room} imports from {used}");
        }
        checked.insert(room.to_owned());
    }
    assert!(checked.len() > 10, "{checked:?}");
}

#[test]
fn every_promise_names_what_attacks_it_and_what_came_of_it() {
    let page = text("docs/promises.md");
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise |"));
    let mut promises = 0;
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [promise, attacks, figure] = cells.as_slice() else { panic!("not three cells: {row}") };
        let attacked = quoted(attacks).iter().any(|name| is_test(name) || name.starts_with("make "));
        assert!(attacked && !figure.is_empty(), "{promise}: {attacks}: {figure}");
        promises += 1;
    }
    assert!(promises > 15, "promises were not found on the page: {promises}");
}

/// The packages of a lock file, each with its version.
fn locked(file: &str) -> BTreeSet<(String, String)> {
    let text = text(file);
    let lines: Vec<&str> = text.lines().collect();
    let value =
        |line: &str, name: &str| Some(line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"')?.to_owned());
    lines.windows(2).filter_map(|pair| Some((value(pair[0], "name")?, value(pair[1], "version")?))).collect()
}

#[test]
fn what_is_fuzzed_and_what_embeds_the_library_is_built_of_the_same_versions() {
    let own = locked("Cargo.lock");
    let names: BTreeSet<&String> = own.iter().map(|(name, _)| name).collect();
    for directory in ["fuzz", "examples/embed"] {
        let built = locked(&format!("{directory}/Cargo.lock"));
        let others: Vec<_> = built.difference(&own).filter(|(name, _)| names.contains(name)).collect();
        let mend = format!("copy Cargo.lock to {directory}/ and let cargo complete it");
        assert!(built.len() > 100 && others.is_empty(), "{mend}: {others:?}");
    }
}
