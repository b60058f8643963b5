//! Settings in layers: defaults, a file, the environment, flags.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::settings::Settings;
use convgroups_host::object::{Mismatch, Unknown};
use convgroups_host::store::without_password;
use figment::error::{Actual, Kind};
use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::{Dict, Map};
use figment::{Figment, Metadata, Profile, Provider, Source};
use serde_json::Value;

use super::args::Global;
use super::{Done, Failed, Outcome};

const FILE: &str = "convgroups.toml";
const PREFIX: &str = "CONVGROUPS_";
/// Variables with the prefix that are no settings.
const OTHER_VARIABLES: [&str; 4] = ["config", "log", "test_postgres_url", "usersig_keys"];

/// Settings, and where they come from.
pub(crate) struct Loaded {
    pub(crate) settings: Settings,
    layers: Figment,
}

/// A layer that stands for flags.
struct Flags<P>(P);

impl<P: Provider> Provider for Flags<P> {
    fn metadata(&self) -> Metadata {
        Metadata::named("a flag")
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        self.0.data()
    }
}

pub(crate) fn load(global: &Global) -> Result<Loaded, Failed> {
    let usage = |error: figment::Error| {
        let problems: Vec<String> = error.into_iter().map(|error| describe(&error)).collect();
        Failed::Usage(format!("the settings cannot be used: {}", problems.join("; ")))
    };
    let mut layers = Figment::from(Serialized::defaults(Settings::default()));
    if let Some(file) = file(global)? {
        layers = layers.merge(Toml::file_exact(file));
    }
    let settings = Env::prefixed(PREFIX).filter(|name| !OTHER_VARIABLES.iter().any(|other| name == *other)).split("__");
    layers = layers.merge(settings);
    for flag in flags(global)? {
        layers = layers.merge(Flags(Toml::string(&flag)));
    }
    let settings: Settings = layers.extract().map_err(usage)?;
    settings.check().map_err(Failed::usage)?;
    Ok(Loaded { settings, layers })
}

/// What is wrong with which setting, and where it was set.
fn describe(error: &figment::Error) -> String {
    let mut path = error.path.join(".");
    if let Kind::UnknownField(name, _) = &error.kind
        && !path.ends_with(name.as_str())
    {
        path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
    }
    let source = match error.metadata.as_ref() {
        Some(metadata) => place(metadata, &path),
        None => "settings".to_owned(),
    };
    format!("{path} ({source}): {}", worded(&error.kind))
}

/// What is wrong, in the words of this project.
fn worded(kind: &Kind) -> String {
    match kind {
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            let found = match found {
                Actual::Bool(value) => value.to_string(),
                Actual::Unsigned(number) => number.to_string(),
                Actual::Signed(number) => number.to_string(),
                Actual::Float(number) => number.to_string(),
                Actual::Str(text) => format!("{text:?}"),
                Actual::Seq => "a list".to_owned(),
                Actual::Map => "a table".to_owned(),
                other => other.to_string(),
            };
            Mismatch { found, expected }.to_string()
        }
        Kind::UnknownField(name, expected) => Unknown { what: "setting", name, expected }.to_string(),
        Kind::UnknownVariant(name, expected) => Unknown { what: "value", name, expected }.to_string(),
        other => without_source(&other.to_string()),
    }
}

/// What a parser of TOML says without the lines that it quotes, which may contain a password.
fn without_source(message: &str) -> String {
    let quoted = |line: &str| {
        line.trim_start_matches(|character: char| character.is_ascii_digit() || character == ' ').starts_with('|')
    };
    let said: Vec<&str> = message.lines().filter(|line| !quoted(line)).collect();
    said.join(": ")
}

/// The settings file, if there is one; one that was named must be there.
fn file(global: &Global) -> Result<Option<PathBuf>, Failed> {
    match &global.config {
        Some(path) if path.is_file() => Ok(Some(path.clone())),
        Some(path) => Err(Failed::Usage(format!("there is no settings file {}", path.display()))),
        None => Ok(Some(PathBuf::from(FILE)).filter(|path| path.is_file())),
    }
}

/// Flags as lines of TOML.
fn flags(global: &Global) -> Result<Vec<String>, Failed> {
    let text = |path: &PathBuf| match path.to_str() {
        Some(path) => Ok(path.to_owned()),
        None => Err(Failed::Usage(format!("--plugin {}: the path is not valid UTF-8", path.display()))),
    };
    let named = [
        ("store", global.store.clone()),
        ("plugin", global.plugin.as_ref().map(text).transpose()?),
        ("wasi", global.wasi.clone()),
    ];
    let mut lines = Vec::new();
    for (key, value) in named {
        lines.extend(value.map(|value| format!("{key} = {}", quoted(&value))));
    }
    for setting in &global.set {
        let (key, value) = setting
            .split_once('=')
            .filter(|(key, _)| is_key(key.trim()))
            // Not repeated: it may be an address with a password.
            .ok_or_else(|| Failed::Usage("--set: expected KEY=VALUE, as limits.max_groups=30".to_owned()))?;
        // Numbers, booleans and lists as they are; everything else is a text, which need not be quoted.
        let bare = value.parse::<f64>().is_ok() || matches!(value, "true" | "false") || value.starts_with(['"', '[']);
        lines.push(format!("{key} = {}", if bare { value.to_owned() } else { quoted(value) }));
    }
    Ok(lines)
}

/// Whether this could be the path of a setting.
fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// A text in JSON's quotes, which are TOML's too but for one character.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

/// Prints all settings as TOML that could be a settings file.
pub(crate) fn print(loaded: &Loaded) -> Outcome {
    // Where a password would stand, there are stars.
    let store = without_password(&loaded.settings.store).into_owned();
    let settings = serde_json::to_value(Settings { store, ..loaded.settings.clone() }).map_err(Failed::run)?;
    let mut lines = Vec::new();
    flatten("", &settings, &mut lines);
    let width = lines.iter().map(|(key, value)| key.len() + value.len()).max().unwrap_or_default() + 3;
    let mut text = String::new();
    for (key, value) in lines {
        let setting = format!("{key} = {value}");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{setting:width$}  # {}", origin(&loaded.layers, &key));
    }
    super::print(text.as_bytes())?;
    Ok(Done::Well)
}

/// The settings that two configurations do not have in common, by their paths.
pub(crate) fn differences(before: &Settings, after: &Settings) -> Result<Vec<String>, Failed> {
    let lines = |settings: &Settings| -> Result<Vec<(String, String)>, Failed> {
        let mut lines = Vec::new();
        flatten("", &serde_json::to_value(settings).map_err(Failed::run)?, &mut lines);
        Ok(lines)
    };
    let (before, after) = (lines(before)?, lines(after)?);
    Ok(after.into_iter().filter(|line| !before.contains(line)).map(|(key, _)| key).collect())
}

fn flatten(prefix: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&key, value, lines);
            }
        }
        Value::String(text) => lines.push((prefix.to_owned(), quoted(text))),
        value => lines.push((prefix.to_owned(), value.to_string())),
    }
}

fn origin(layers: &Figment, key: &str) -> String {
    layers.find_metadata(key).map_or_else(|| "default".to_owned(), |metadata| place(metadata, key))
}

/// Where a layer says that it is from.
fn place(metadata: &Metadata, key: &str) -> String {
    match &metadata.source {
        Some(Source::File(path)) => format!("file {}", relative(path).display()),
        _ if metadata.name.contains("environment") => {
            format!("environment {PREFIX}{}", key.to_uppercase().replace('.', "__"))
        }
        _ if metadata.name == "a flag" => "flag".to_owned(),
        _ => "default".to_owned(),
    }
}

fn relative(path: &Path) -> &Path {
    let here = std::env::current_dir().ok();
    here.and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path)
}
