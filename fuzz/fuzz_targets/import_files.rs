//! Files to import: what is accepted is there afterwards, and is exported as it was; what is not leaves no trace.

#![no_main]

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use convgroups_host::store::Store;
use convgroups_host::transfer::{Export, Import, ImportOptions, Source, TransferError};
use convgroups_host::{MemoryStore, Version};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// How many versions of a user are left out by a move.
const GAP: u64 = 1000;
/// A user beyond this version is not moved any more.
const MAX_VERSION: u64 = Version::MAX.0 / 2;

// The first byte says whether the rest is a file as it is (r), or one whose last line is to be made right (s).
fuzz_target!(|input: &[u8]| {
    let Some((&kind, rest)) = input.split_first() else { return };
    let file = match kind {
        b'r' => rest.to_vec(),
        b's' => sealed(rest),
        _ => return,
    };
    let directory = directory();
    let Some(exported) = moved(directory.path(), "first", &file) else { return };
    // What a program wrote comes out as it went in, but for the versions.
    if let Some(before) = versions(&file) {
        assert_same_but_for_versions((&file, &before), (&exported, &versions(&exported).expect("an export")));
    }
    // What people wrote does so from the second time on.
    let before = versions(&exported).expect("an export");
    let again = moved(directory.path(), "second", &exported);
    assert_eq!(again.is_some(), before.iter().all(|(_, version)| *version <= MAX_VERSION));
    if let Some(again) = again {
        let after = versions(&again).expect("an export");
        assert_same_but_for_versions((&exported, &before), (&again, &after));
    }
});

/// In memory, where there is such a place: exports are flushed.
fn directory() -> TempDir {
    let shared_memory = Path::new("/dev/shm");
    let directory = if shared_memory.is_dir() { tempfile::tempdir_in(shared_memory) } else { tempfile::tempdir() };
    directory.expect("a directory can be made")
}

/// A file that went into an empty store and out again; nothing when it is refused.
fn moved(directory: &Path, name: &str, file: &[u8]) -> Option<Vec<u8>> {
    let (into, out) = (directory.join(name), directory.join(format!("{name} out")));
    fs::write(&into, file).expect("a file can be written");
    let store = MemoryStore::new();
    if let Err(failed) = import(&store, &into, false) {
        assert!(!failed.to_string().is_empty(), "{failed:?}");
        assert_eq!(store.users(None, 1), Ok(Vec::new()), "{failed:?}");
        return None;
    }
    // The same file once more is refused, or goes on from its end.
    let state = |user| (store.state(&user).expect("memory can be read"), user);
    let all = || store.users(None, 1000).expect("memory can be read").into_iter().map(state).collect::<Vec<_>>();
    let before = all();
    let resumed = import(&store, &into, true);
    assert!(resumed.is_ok(), "{:?}", resumed.err());
    assert_eq!(before, all());
    let exported = Export::begin(&store, &out, false).and_then(|export| export.run(&mut ()));
    assert!(exported.is_ok(), "{:?}", exported.err());
    let exported = fs::read(&out).expect("the export is there");
    assert_eq!(fs::read(out.with_extension("partial")).map_err(|error| error.kind()), Err(ErrorKind::NotFound));
    Some(exported)
}

fn import(store: &dyn Store, file: &Path, resume: bool) -> Result<(), TransferError> {
    let options = ImportOptions { resume, keep: 100 };
    let import = Import::check(store, Source::file(file)?, options, &mut ())?;
    import.write(&mut ())?;
    import.verify(&mut ())?;
    Ok(())
}

/// A file with a last line that fits what comes before it.
fn sealed(lines: &[u8]) -> Vec<u8> {
    let mut file = lines.to_vec();
    let has = |name: &str| lines.split(|&byte| byte == b'\n').filter(|line| field(line, name).is_some()).count();
    let end = format!(
        "{{\"users\":{},\"groups\":{},\"markedConversations\":{},\"sha256\":\"{:x}\"}}\n",
        has("groupsCreated"),
        has("groupName"),
        has("conversationID"),
        Sha256::digest(lines),
    );
    file.extend(end.as_bytes());
    file
}

fn field(line: &[u8], name: &str) -> Option<Value> {
    serde_json::from_slice::<Value>(line).ok()?.get_mut(name).map(Value::take)
}

/// The version of each user in what a program wrote, with the number of its line; nothing in what people wrote.
fn versions(file: &[u8]) -> Option<Vec<(usize, u64)>> {
    let mut lines = file.split(|&byte| byte == b'\n').enumerate();
    let (_, header) = lines.next()?;
    if field(header, "version") != Some(2.into()) {
        return None;
    }
    let version = |(number, line): (usize, &[u8])| Some((number, field(line, "version")?.as_u64()?));
    Some(lines.filter_map(version).collect())
}

/// Two exports: each user has gone on by the versions that a move leaves out, and the digests of the rest are the same.
fn assert_same_but_for_versions((file, before): (&[u8], &[(usize, u64)]), (exported, after): (&[u8], &[(usize, u64)])) {
    let moved: Vec<(usize, u64)> = before.iter().map(|(line, version)| (*line, version + GAP + 1)).collect();
    assert_eq!(moved, after);
    let digest = |file: &[u8], versions: &[(usize, u64)]| {
        let mut digest = Sha256::new();
        let lines: Vec<&[u8]> = file.split_inclusive(|&byte| byte == b'\n').collect();
        // The last line is about the others.
        for (number, line) in lines.iter().enumerate().take(lines.len() - 1) {
            match versions.iter().find(|(of, _)| *of == number) {
                Some((_, version)) => {
                    let line = str::from_utf8(line).expect("an export is text");
                    digest.update(line.replacen(&format!("\"version\":{version}"), "\"version\":0", 1));
                }
                None => digest.update(line),
            }
        }
        format!("{:x}", digest.finalize())
    };
    assert_eq!(digest(file, before), digest(exported, after));
}
