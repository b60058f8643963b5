//! From the start of a process to its first answer.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::durable::directory;
use crate::report::{Figure, Reach, Report};
use crate::{Effort, Failure};

pub(crate) fn measure(effort: &Effort, report: &mut Report) -> Result<(), Failure> {
    println!("milliseconds from the start of `convgroups call` to its end, with an answer that was kept");
    let program = program()?;
    let directory = directory()?;
    let (cache, store) = (directory.path().join("cache"), directory.path().join("groups.db"));
    let mut times: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    for round in 0..=effort.rounds {
        let [without, with] = &mut times;
        if cache.exists() {
            std::fs::remove_dir_all(&cache)?;
        }
        let times = [call(&program, &cache, &store, 2 * round)?, call(&program, &cache, &store, 2 * round + 1)?];
        if round > 0 {
            without.push(times[0]);
            with.push(times[1]);
        }
    }
    let [without, with] = times.map(Figure::of);
    println!("without a compile cache {without:.0}; with one {with:.1}");
    report.note("from start to the first answer, nothing in the cache", without, " ms", Reach::AtMost(100.0));
    report.note("from start to the first answer, with the compile cache", with, " ms", Reach::AtMost(30.0));
    Ok(())
}

/// The program, which lies above this one.
fn program() -> Result<PathBuf, Failure> {
    let here = std::env::current_exe()?;
    let directory = here.ancestors().nth(2).ok_or("this program lies nowhere")?;
    let program = directory.join(format!("convgroups{}", std::env::consts::EXE_SUFFIX));
    if program.exists() {
        Ok(program)
    } else {
        Err(format!("build {} first: cargo build --release", program.display()).into())
    }
}

fn call(program: &Path, cache: &Path, store: &Path, number: usize) -> Result<f64, Failure> {
    let params = serde_json::json!({ "groupName": format!("group {number}"), "conversationIDList": ["c2c_bob"] });
    let started = Instant::now();
    let status = Command::new(program)
        .args(["call", "createConversationGroup", "--user", "alice", "--params", &params.to_string()])
        .env("CONVGROUPS_CACHE_DIR", cache)
        .env("CONVGROUPS_STORE", format!("sqlite:{}", store.display()))
        .stdout(Stdio::null())
        .status()?;
    let elapsed = started.elapsed();
    if status.success() { Ok(elapsed.as_secs_f64() * 1e3) } else { Err("the call failed".into()) }
}
