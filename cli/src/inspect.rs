//! `convgroups inspect` and `convgroups plugin export`: plugins as files.

use std::path::Path;

use crate::settings::Settings;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use convgroups_host::plugin::{BUNDLED, CONTRACT, PluginInfo};
use convgroups_host::{PluginSource, call};
use serde_json::json;

use super::args::Inspect;
use super::{Done, Failed, Outcome, create, examiner, print};

pub(crate) fn inspect(settings: &Settings, command: &Inspect) -> Outcome {
    let (source, examiner) = (PluginSource::File(command.plugin.clone()), examiner()?);
    let info = settings
        .with_cache(|settings_of_host| call::inspect_plugin(&settings_of_host, &source, &examiner))
        .map_err(Failed::run)?;
    // What is in it from the plugin's file is escaped already.
    let text = if command.json { as_json(&info) } else { as_table(&info) };
    print(format!("{text}\n").as_bytes())?;
    Ok(if info.problem.is_none() { Done::Well } else { Done::WithCode })
}

fn as_json(info: &PluginInfo) -> String {
    json!({
        "digest": format!("sha256:{}", info.digest),
        "bytes": info.bytes,
        "exports": info.exports,
        "imports": info.imports,
        "contract": info.contract,
        "hostContract": CONTRACT,
        "loadable": info.problem.is_none(),
        "problem": info.problem.as_ref().map(ToString::to_string),
        "memories": info.needs.map(|needs| needs.memories),
        "largestMemoryBytes": info.needs.map(|needs| needs.largest_memory_bytes),
        "tables": info.needs.map(|needs| needs.tables),
        "compileMilliseconds": milliseconds(info),
    })
    .to_string()
}

fn as_table(info: &PluginInfo) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    let lines = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join("\n") };
    table.add_row(["digest", &format!("sha256:{}", info.digest)]);
    table.add_row(["size", &format!("{} bytes", info.bytes)]);
    table.add_row(["exports", &lines(&info.exports)]);
    table.add_row(["imports", &lines(&info.imports)]);
    table.add_row(["contract", info.contract.as_deref().unwrap_or("none of ours")]);
    match &info.problem {
        Some(problem) => table.add_row(["loadable", &format!("no: {problem}")]),
        None => table.add_row(["loadable", "yes"]),
    };
    if let Some(needs) = info.needs {
        let memory = format!(
            "{} at the start, the largest of {} bytes; {} tables",
            needs.memories, needs.largest_memory_bytes, needs.tables
        );
        table.add_row(["memory", &memory]);
    }
    table.add_row(["compiled in", &milliseconds(info).map_or("not compiled".to_owned(), |time| format!("{time} ms"))]);
    table.trim_fmt()
}

/// Nothing for a plugin that was not compiled.
fn milliseconds(info: &PluginInfo) -> Option<u128> {
    (!info.compile_time.is_zero()).then_some(info.compile_time.as_millis())
}

pub(crate) fn export(path: &Path) -> Outcome {
    create(path, |output| output.write_all(BUNDLED).map_err(|error| Failed::output(&error)))?;
    Ok(Done::Well)
}
