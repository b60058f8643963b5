//! Case files: sequences of calls with the exact answers and events expected of them.
//!
//! A file `conformance/NAME.case` is read line by line:
//!
//! | line | meaning |
//! |---|---|
//! | `# text` | a remark |
//! | `@ KEY VALUE` | a setting of the group `limits` or `events`, for the whole file: `@ limits.max_groups 2` |
//! | `> USER METHOD PARAMS` | a call; PARAMS is JSON and may be missing |
//! | `< ANSWER` | the answer to the call above, as JSON |
//! | `! EVENTS` | what the call changed, as JSON: the version, and the events that listeners get; missing if it changed nothing |
//!
//! Runs of numbered conversations are folded in all three: `"c2c_{001..100}"` stands for 100 ids, and a result with such
//! an id for 100 results that are alike otherwise. `UPDATE_CASES=1` writes the answers and events that came; read the
//! difference before you keep it.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use convgroups_host::api::{Method, Request};
use convgroups_host::settings::Settings;
use convgroups_host::store::{Changes, MAX_BATCH, Store};
use convgroups_host::{Host, UserId, Version};
use serde_json::{Value, json};

/// All case files, in the order of their names.
///
/// # Panics
///
/// When the directory cannot be read.
#[must_use]
pub fn case_files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
    let entries = std::fs::read_dir(directory).expect("the directory of case files is there");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("its entries can be read").path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "case"))
        .collect();
    files.sort_unstable();
    files
}

/// Runs a case file against the reference plugin on a store; the file as it would be if all that came was expected.
///
/// # Panics
///
/// When the file is not of the form above.
#[must_use]
pub fn run(text: &str, store: Arc<dyn Store>) -> String {
    let host = Host::builder().store(store).settings(settings(text)).build().expect("the settings are valid");
    let mut result = String::new();
    for line in text.lines() {
        let Some(call) = line.strip_prefix("> ") else {
            // What was expected is replaced by what comes.
            if !line.starts_with(['<', '!']) {
                result.push_str(line);
                result.push('\n');
            }
            continue;
        };
        let (answer, change) = answer(&host, call);
        // Writing to a string cannot fail.
        let _ = writeln!(result, "{line}\n< {answer}");
        if let Some(change) = change {
            let _ = writeln!(result, "! {change}");
        }
    }
    result
}

fn settings(text: &str) -> Settings {
    let mut settings = serde_json::to_value(Settings::default()).expect("settings are JSON");
    for line in text.lines().filter_map(|line| line.strip_prefix("@ ")) {
        let (key, value) = line.split_once(' ').expect("a setting is `@ KEY VALUE`");
        let setting = settings.pointer_mut(&format!("/{}", key.replace('.', "/"))).expect("a setting of this name");
        *setting = serde_json::from_str(value).expect("the value is JSON");
    }
    serde_json::from_value(settings).expect("the values are of the right types")
}

/// Runs one call; its answer and what it changed.
fn answer(host: &Host, call: &str) -> (String, Option<String>) {
    let mut words = call.splitn(3, ' ');
    let user = words.next().and_then(|user| user.parse::<UserId>().ok()).expect("a call begins with a user");
    let method: Method = words.next().and_then(|word| word.parse().ok()).expect("a call names a method");
    let params = unfold(words.next().unwrap_or("{}"));

    let request = match Request::from_json(method, &params) {
        Ok(request) => request,
        Err(bad) => return (fold(&bad.to_json()), None),
    };
    let (answer, version) = match host.call(&user, &request) {
        Ok(reply) => (reply.to_json(), reply.version),
        Err(error) => {
            assert!(method.codes().contains(&error.code()), "{method} is not known to be refused with {error:?}");
            (error.to_json(), None)
        }
    };
    (fold(&answer), version.map(|version| change(&**host.store(), &user, version)))
}

/// The change that led to a version, as the log has it.
fn change(store: &dyn Store, user: &UserId, version: Version) -> String {
    let before = Version(version.0 - 1);
    match store.changes(user, before, MAX_BATCH).expect("the store reads") {
        Changes::Since(changes) => {
            let change = changes.first().expect("the change that was just made");
            fold(&json!({ "version": change.version, "events": change.events }).to_string())
        }
        Changes::Full(_) => "trimmed".to_owned(),
    }
}

/// Replaces `"PREFIX{001..100}"` by the texts it stands for.
fn unfold(json: &str) -> String {
    let Some((before, rest)) = json.split_once('{').filter(|(before, _)| before.contains('"')) else {
        // The first brace is that of the object.
        return match json.split_once('{') {
            Some((before, rest)) => format!("{before}{{{}", unfold_texts(rest)),
            None => json.to_owned(),
        };
    };
    format!("{before}{{{}", unfold_texts(rest))
}

fn unfold_texts(json: &str) -> String {
    let parts: Vec<&str> = json.split('"').collect();
    let unfolded = parts.iter().map(|part| {
        let folded = || {
            let (prefix, range) = part.strip_suffix('}')?.split_once('{')?;
            let (first, last) = range.split_once("..")?;
            let (width, first, last) = (first.len(), first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
            let texts: Vec<String> = (first..=last).map(|number| format!("{prefix}{number:0width$}")).collect();
            Some(texts.join("\",\""))
        };
        folded().unwrap_or_else(|| (*part).to_owned())
    });
    unfolded.collect::<Vec<_>>().join("\"")
}

/// The opposite: runs of at least three numbered texts, or objects alike but for such an id, become one.
fn fold(json: &str) -> String {
    let mut value: Value = serde_json::from_str(json).expect("an answer is JSON");
    fold_value(&mut value);
    value.to_string()
}

fn fold_value(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(fold_value),
        Value::Array(items) => {
            items.iter_mut().for_each(fold_value);
            *items = fold_items(items);
        }
        _ => {}
    }
}

fn fold_items(items: &[Value]) -> Vec<Value> {
    let mut folded = Vec::new();
    let mut rest = items;
    while let Some((first, _)) = rest.split_first() {
        let length = run_length(rest);
        let (run, after) = rest.split_at(length);
        match (length, numbered(first), run.last().and_then(numbered)) {
            (3.., Some(from), Some(to)) => {
                let text = format!("{}{{{}..{}}}", from.prefix, from.digits, to.digits);
                folded.push(with_id(first, &text));
                rest = after;
            }
            _ => {
                folded.push(first.clone());
                rest = rest.get(1..).unwrap_or_default();
            }
        }
    }
    folded
}

/// How many items at the start are a run.
fn run_length(items: &[Value]) -> usize {
    let follows = |pair: &[Value]| {
        let [left, right] = pair else { return false };
        let (Some(one), Some(next)) = (numbered(left), numbered(right)) else { return false };
        one.prefix == next.prefix
            && one.digits.len() == next.digits.len()
            && one.number() + 1 == next.number()
            && with_id(left, "") == with_id(right, "")
    };
    1 + items.windows(2).take_while(|pair| follows(pair)).count()
}

/// A text that ends in digits.
struct Numbered<'a> {
    prefix: &'a str,
    digits: &'a str,
}

impl Numbered<'_> {
    fn number(&self) -> u64 {
        self.digits.parse().unwrap_or_default()
    }
}

/// The numbered text that an item is, or has as its id.
fn numbered(item: &Value) -> Option<Numbered<'_>> {
    let text = item.as_str().or_else(|| item.get("conversationID")?.as_str())?;
    let prefix = text.trim_end_matches(|character: char| character.is_ascii_digit());
    let digits = text.get(prefix.len()..).filter(|digits| (1..18).contains(&digits.len()))?;
    Some(Numbered { prefix, digits })
}

/// The item with another text, or another id.
fn with_id(item: &Value, id: &str) -> Value {
    let mut item = item.clone();
    match item.get_mut("conversationID") {
        Some(field) => *field = id.into(),
        None => item = id.into(),
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_and_unfolding_are_each_others_opposite() {
        let long = r#"{"a":["c2c_08","c2c_09","c2c_10","c2c_12","x"],"b":"c2c_1"}"#;
        let short = r#"{"a":["c2c_{08..10}","c2c_12","x"],"b":"c2c_1"}"#;
        assert_eq!(fold(long), short);
        assert_eq!(unfold(short), long);
    }

    #[test]
    fn results_are_folded_only_when_they_are_alike() {
        let long = r#"[{"c":0,"conversationID":"a1"},{"c":0,"conversationID":"a2"},{"c":0,"conversationID":"a3"},{"c":1,"conversationID":"a4"}]"#;
        assert_eq!(fold(long), r#"[{"c":0,"conversationID":"a{1..3}"},{"c":1,"conversationID":"a4"}]"#);
    }
}
