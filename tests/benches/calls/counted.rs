//! Instructions and system calls of a call, which do not depend on how busy the machine is.
//!
//! This program runs itself again under Valgrind and under strace, where these are installed.

use std::hint::black_box;
use std::process::{Command, Stdio};
use std::sync::Arc;

use convgroups_host::api::Request;
use convgroups_host::settings::Limits;
use convgroups_host::{Host, MemoryStore, Settings, UserId};
use convgroups_tests::native;

use crate::load::{addition, deletion, fill};
use crate::report::{Figure, Reach, Report};
use crate::sandbox::bare;
use crate::{Effort, Failure};

/// Tells this program what it is run again for.
pub(crate) const ARGUMENT: &str = "counted-calls";

/// What can be counted.
pub(crate) const SUBJECTS: &[&str] = &["native", "kept", "fresh", "whole", "whole-100"];

/// Calls a subject so often.
pub(crate) fn run(subject: &str, calls: u32) -> Result<(), Failure> {
    let bare = bare()?;
    let limits = Limits::default();
    let (mut kept, kept_deletion) = (bare.keep(), deletion(10));
    let (delete, delete_100) = (Request::from(deletion(10)), Request::from(deletion(100)));
    let store = Arc::new(MemoryStore::new());
    let user = UserId::new("alice")?;
    // No more than are taken out: this store copies the whole group for each commit.
    fill(&*store, &user, 100)?;
    let settings = Settings { ..Settings::default() };
    let host = Host::builder().settings(settings).store(store).build()?;
    let (add, add_100) = (Request::from(addition(10)), Request::from(addition(100)));
    let mut one = |call: u32| -> Result<(), Failure> {
        let turn = |even, odd| if call.is_multiple_of(2) { even } else { odd };
        match subject {
            "native" => drop(black_box(native::run(&mut bare.transaction(), &limits, black_box(&delete)))),
            "kept" => drop(black_box(kept.call(black_box(&kept_deletion)))),
            "fresh" => drop(black_box(bare.fresh(black_box(&delete)))),
            "whole" => drop(black_box(host.call(&user, turn(&delete, &add))?)),
            "whole-100" => drop(black_box(host.call(&user, turn(&delete_100, &add_100))?)),
            other => return Err(format!("there is no subject {other}").into()),
        }
        Ok(())
    };
    // What happens the first time only, or the first time after a page of memory was needed.
    (0..20).try_for_each(&mut one)?;
    counted_calls(calls, &mut one)
}

/// By this name Valgrind knows where to count.
#[inline(never)]
fn counted_calls(calls: u32, one: &mut dyn FnMut(u32) -> Result<(), Failure>) -> Result<(), Failure> {
    (0..calls).try_for_each(one)
}

pub(crate) fn measure(effort: &Effort, report: &mut Report) -> Result<(), Failure> {
    println!(
        "counted for one call, 10 ids: native, kept and fresh as above; whole: with admission and commit, in memory"
    );
    println!("{:>10} {:>13} {:>13}", "", "instructions", "system calls");
    for &subject in effort.subjects {
        let instructions = instructions(subject, effort.counted)?;
        // Of many, for compiling takes some hundred, and not always as many.
        let system_calls = system_calls(subject, 20 * effort.counted)?;
        let unknown = || "unknown".to_owned();
        println!(
            "{subject:>10} {:>13} {:>13}",
            instructions.map_or_else(unknown, |count| format!("{count:.0}")),
            system_calls.map_or_else(unknown, |count| format!("{count:.2}")),
        );
        if let Some(count) = system_calls.filter(|_| subject == "fresh") {
            // What a single one would be with all these calls, and not more; and no zero below zero.
            let count = (count * 10.0).round() / 10.0 + 0.0;
            report.note("system calls of a sandbox", Figure::of([count]), "", Reach::AtMost(0.0));
        }
    }
    Ok(())
}

/// Of what runs inside of [`calls`] only.
fn instructions(subject: &str, calls: u32) -> Result<Option<f64>, Failure> {
    let options = ["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted_calls*"];
    // `==123== Collected : 456`
    let Some(said) = under("valgrind", &options, subject, calls)? else { return Ok(None) };
    let (_, count) =
        said.lines().find_map(|line| line.split_once("Collected :")).ok_or("Valgrind has counted nothing")?;
    Ok(Some(count.trim().parse::<f64>()? / f64::from(calls)))
}

/// Of the whole process, for this many calls and for twice as many: the difference is theirs.
fn system_calls(subject: &str, calls: u32) -> Result<Option<f64>, Failure> {
    let count = |calls| -> Result<Option<f64>, Failure> {
        // `100.00    0.123           4     56789        12 total`
        let Some(said) = under("strace", &["-f", "-c"], subject, calls)? else { return Ok(None) };
        let total = said.lines().find(|line| line.trim_end().ends_with("total"));
        let count = total.and_then(|total| total.split_whitespace().nth(3)).ok_or("strace has counted nothing")?;
        Ok(Some(count.parse()?))
    };
    let Some((once, twice)) = count(calls)?.zip(count(2 * calls)?) else { return Ok(None) };
    Ok(Some((twice - once) / f64::from(calls)))
}

/// What a tool says of this program with this many calls of a subject.
fn under(tool: &str, options: &[&str], subject: &str, calls: u32) -> Result<Option<String>, Failure> {
    let run = Command::new(tool)
        .args(options)
        .arg(std::env::current_exe()?)
        .args([ARGUMENT, subject, &calls.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output();
    match run {
        Ok(output) if output.status.success() => Ok(Some(String::from_utf8_lossy(&output.stderr).into_owned())),
        Ok(output) => Err(format!("{tool} failed: {}", String::from_utf8_lossy(&output.stderr)).into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
