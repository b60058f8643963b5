//! The main job as an Extism plugin, over a group of 1000 in memory. Reads lines `IDS MILLISECONDS kept|fresh` and answers
//! each with the microseconds that one call took.
//!
//! `fresh` makes a plugin for each call out of what was compiled before, which is what Extism offers nearest to a sandbox of
//! its own for each call; `kept` calls one again and again.

use std::collections::HashSet;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use extism::{CompiledPlugin, Manifest, PTR, Plugin, PluginBuilder, UserData, Wasm, host_fn};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

host_fn!(remove_conversations(group: HashSet<String>; request: String) -> String {
    let request: Value = serde_json::from_str(&request)?;
    let group = group.get()?;
    let group = group.lock().map_err(|_| extism::Error::msg("poisoned"))?;
    let ids = request["conversationIDList"].as_array().map(Vec::as_slice).unwrap_or_default();
    // Nothing is kept, so that each call finds the same.
    let held: Vec<bool> = ids.iter().map(|id| id.as_str().is_some_and(|id| group.contains(id))).collect();
    Ok(serde_json::to_string(&held)?)
});

fn main() -> Result<(), Failure> {
    let plugin = std::env::args().nth(1).ok_or("give the path of the plugin")?;
    let group: HashSet<String> = (0..1000).map(id).collect();
    let manifest = Manifest::new([Wasm::data(std::fs::read(plugin)?)]);
    let builder = PluginBuilder::new(manifest).with_wasi(true).with_function(
        "remove_conversations",
        [PTR],
        [PTR],
        UserData::new(group),
        remove_conversations,
    );
    let compiled = CompiledPlugin::new(builder)?;
    let mut kept = Plugin::new_from_compiled(&compiled)?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let [ids, millis, way] = line.split(' ').collect::<Vec<_>>()[..] else { return Err("not an order".into()) };
        let ids: Vec<String> = (0..ids.parse()?).map(id).collect();
        let request = json!({ "groupName": "Work", "conversationIDList": ids }).to_string();
        let time = Duration::from_millis(millis.parse()?);
        let (started, mut calls) = (Instant::now(), 0_u32);
        while started.elapsed() < time {
            for _ in 0..20 {
                if way == "fresh" {
                    call(&mut Plugin::new_from_compiled(&compiled)?, &request)?;
                } else {
                    call(&mut kept, &request)?;
                }
            }
            calls += 20;
        }
        println!("{}", started.elapsed().as_secs_f64() * 1e6 / f64::from(calls));
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn id(number: usize) -> String {
    format!("c2c_user_{number:04}")
}

fn call(plugin: &mut Plugin, request: &str) -> Result<(), Failure> {
    let answer: &str = plugin.call("delete_conversations_from_group", black_box(request))?;
    if answer.starts_with(r#"{"code":0,"#) { Ok(()) } else { Err(answer.into()) }
}
