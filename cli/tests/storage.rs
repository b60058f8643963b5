//! The program on file systems as operators mount them: read-only, full, a single file, moved away. Each test mounts in a
//! namespace of its own; where that is not allowed, it says so and passes.
#![cfg(target_os = "linux")]

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// What all scripts can use. DATA is a directory for a store; WORK is one for everything else.
const PRELUDE: &str = r#"
set -eu
mkdir -p "$DATA"
store="sqlite:$DATA/groups.db"
server=
trap '[ -z "$server" ] || kill -9 $server 2>/dev/null || true' EXIT
fail() { echo "FAILED: $*"; exit 1; }
create() { "$PROGRAM" call createConversationGroup --user alice --store "${2:-$store}" \
    --params "{\"groupName\":\"$1\",\"conversationIDList\":[\"c2c_bob\"]}" >"$WORK/call" 2>&1 || fail "$(cat "$WORK/call")"; }
groups() { "$PROGRAM" call getConversationGroupList --user alice --store "${1:-$store}"; }
# Starts a server and waits until it listens, or has ended.
serve() {
    : >"$WORK/log"
    "$PROGRAM" serve --dev --listen 127.0.0.1:0 --store "${1:-$store}" >/dev/null 2>"$WORK/log" &
    server=$!
    address=
    while [ -z "$address" ] && kill -0 $server 2>/dev/null; do
        sleep 0.05
        address=$(sed -n 's/^convgroups: listening on //p' "$WORK/log")
    done
    key=$(sed -n "s/^SIG='\(.*\)'$/\1/p" "$WORK/log")
}
readyz() { curl -s -o "$WORK/readyz" -w '%{http_code}' "$address/readyz"; }
# Answers about the store hold for a second.
becomes() { for _ in $(seq 200); do [ "$(readyz)" != "$1" ] || return 0; sleep 0.1; done; fail "/readyz does not become $1"; }
post() { curl -s -H "Authorization: Bearer $key" "$address/v1/createConversationGroup" \
    -d "{\"groupName\":\"$1\",\"conversationIDList\":[\"c2c_bob\"]}"; }
acknowledged() { post "$1" | grep -q '"code":0,' || fail "$1 was not acknowledged: $(tail -n 3 "$WORK/log")"; }
refused() { ! post "$1" | grep -q '"code":0,' || fail "$1 was acknowledged"; }
# Fails unless a command fails and says this.
refuses() {
    expected=$1; shift
    if "$@" >"$WORK/said" 2>&1; then fail "$* went well"; fi
    grep -q "$expected" "$WORK/said" || fail "$*: $(cat "$WORK/said")"
}
"#;

/// A shell script with mounts of its own, in an empty directory.
struct Script {
    directory: TempDir,
}

impl Script {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory can be made") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `unshare`, as this user may use it.
    fn namespace() -> Option<Command> {
        [["--mount", "--propagation"], ["--map-root-user", "--mount"]].into_iter().find_map(|arguments| {
            let mut arguments = arguments.to_vec();
            if arguments.last() == Some(&"--propagation") {
                arguments.push("private");
            }
            let tried =
                Command::new("unshare").args(&arguments).args(["mount", "-t", "tmpfs", "none", "/mnt"]).output();
            tried.is_ok_and(|output| output.status.success()).then(|| {
                let mut command = Command::new("unshare");
                command.args(&arguments);
                command
            })
        })
    }

    fn run(&self, script: &str) {
        let Some(mut command) = Self::namespace() else {
            println!("not tested: this user may not mount anything in a namespace");
            return;
        };
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CONVGROUPS_") || name.contains("TMPDIR")) {
                command.env_remove(name);
            }
        }
        let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("convgroups-cli-cache");
        let output = command
            .args(["sh", "-c", &format!("{PRELUDE}{script}\necho passed")])
            .env("PROGRAM", env!("CARGO_BIN_EXE_convgroups"))
            .env("WORK", self.directory.path())
            .env("DATA", self.path("data"))
            .env("CONVGROUPS_CACHE_DIR", cache)
            .stdin(Stdio::null())
            .output()
            .expect("there is a shell");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success() && said.contains("passed"), "{said}");
    }
}

/// Operations that change as much at once as the limits may be set to.
fn large_operations() -> String {
    let ids = |prefix: &str| -> Vec<String> {
        (0..3000).map(|number| format!("\"c2c_{prefix}_{number}_{}\"", "x".repeat(200))).collect()
    };
    let (one, two) = (ids("one").join(","), ids("two").join(","));
    let call = |method: &str, params: String| format!(r#"{{"user":"alice","method":"{method}","params":{params}}}"#);
    [
        call("createConversationGroup", format!(r#"{{"groupName":"one","conversationIDList":[{one}]}}"#)),
        call("createConversationGroup", format!(r#"{{"groupName":"two","conversationIDList":[{two}]}}"#)),
        call("addConversationsToGroup", format!(r#"{{"groupName":"two","conversationIDList":[{one}]}}"#)),
        call("deleteConversationsFromGroup", format!(r#"{{"groupName":"two","conversationIDList":[{two}]}}"#)),
        call("deleteConversationGroup", r#"{"groupName":"one"}"#.to_owned()),
        call("deleteConversationGroup", r#"{"groupName":"two"}"#.to_owned()),
    ]
    .join("\n")
}

#[test]
fn the_largest_changes_succeed_where_only_the_data_directory_can_be_written() {
    let script = Script::new();
    std::fs::write(script.path("operations"), large_operations()).expect("writes");
    // As in the container: no directory for temporary files, no cache, no home.
    script.run(
        r#"
        unset CONVGROUPS_CACHE_DIR HOME XDG_CACHE_HOME
        for place in / /tmp /var/tmp; do mount --bind $place $place; mount -o remount,bind,ro $place; done
        mount --bind "$DATA" "$DATA"
        mount -o remount,bind,rw "$DATA"
        cd /
        ! touch "$WORK/x" 2>/dev/null || fail "the root is not read-only"
        "$PROGRAM" run "$WORK/operations" --store "$store" --set limits.max_conversations_per_call=5000 \
            --set limits.max_conversations_per_group=9000 --set sandbox.deadline_ms=60000 \
            --set calls.timeout_ms=60000 >"$DATA/results" 2>"$DATA/log" || fail "$(cut -c 1-300 "$DATA/log")"
        ! grep -v '"code":0' "$DATA/results" | cut -c 1-300 | grep . || fail "$(cut -c 1-300 "$DATA/log")"
        [ "$(grep -c '"code":0' "$DATA/results")" = 6 ] || fail "$(cut -c 1-300 "$DATA/results")"
        "#,
    );
}

#[test]
fn a_server_is_not_ready_as_long_as_the_disk_is_full_and_does_not_start_ready_there() {
    Script::new().run(
        r#"
        mount -t tmpfs -o size=1m none "$DATA"
        serve
        becomes 200
        acknowledged Work
        dd if=/dev/zero of="$DATA/filler" bs=4k 2>/dev/null || true
        becomes 503
        grep -q 'SQLite.s code' "$WORK/log" || fail "$(cat "$WORK/log")"
        refused Home
        kill -9 $server; wait $server 2>/dev/null || true
        serve
        if [ -n "$address" ]; then becomes 503; refused Home; fi
        kill -9 $server 2>/dev/null; wait $server 2>/dev/null || true
        rm "$DATA/filler"
        serve
        becomes 200
        acknowledged Home
        "#,
    );
}

#[test]
fn a_store_on_a_read_only_file_system_can_be_read() {
    Script::new().run(
        r#"
        create Work
        "$PROGRAM" export "$WORK/before" --store "$store" 2>/dev/null
        mount --bind "$DATA" "$DATA"
        for left in '' -wal -lock; do
            mount -o remount,bind,rw "$DATA"
            rm -f "$DATA"/groups.db-* "$WORK/copy.db" "$WORK/after"
            [ -z "$left" ] || : >"$DATA/groups.db$left"
            mount -o remount,bind,ro "$DATA"
            "$PROGRAM" export "$WORK/after" --store "$store" 2>"$WORK/said" || fail "$left: export: $(cat "$WORK/said")"
            cmp "$WORK/before" "$WORK/after" || fail "the export differs"
            "$PROGRAM" events --user alice --store "$store" >"$WORK/events" 2>"$WORK/said" || fail "$(cat "$WORK/said")"
            grep -q Work "$WORK/events" || fail "no events"
            "$PROGRAM" verify-store --store "$store" >"$WORK/said" 2>&1 || fail "$left: verify-store: $(cat "$WORK/said")"
            "$PROGRAM" backup "$WORK/copy.db" --store "$store" 2>"$WORK/said" || fail "backup: $(cat "$WORK/said")"
            groups "sqlite:$WORK/copy.db" | grep -q Work || fail "the backup has no groups"
        done
        refuses 'could not open the lock file' "$PROGRAM" call getConversationGroupList --user alice --store "$store"
        "#,
    );
}

#[test]
fn changes_in_a_wal_on_a_read_only_file_system_are_read_or_said_not_to_be() {
    Script::new().run(
        r#"
        serve
        acknowledged Work
        kill -9 $server; wait $server 2>/dev/null || true
        [ -s "$DATA/groups.db-wal" ] || fail "there is no WAL"
        mount --bind "$DATA" "$DATA"
        mount -o remount,bind,ro "$DATA"
        "$PROGRAM" export "$WORK/with-shm" --store "$store" 2>"$WORK/said" || fail "export: $(cat "$WORK/said")"
        grep -q Work "$WORK/with-shm" || fail "the export misses what the WAL has"
        mount -o remount,bind,rw "$DATA"
        rm "$DATA/groups.db-shm"
        mount -o remount,bind,ro "$DATA"
        refuses 'copy both files to one' "$PROGRAM" export "$WORK/without-shm" --store "$store"
        "#,
    );
}

#[test]
fn a_host_beside_a_read_only_mount_of_its_store_is_read_rightly() {
    Script::new().run(
        r#"
        mkdir "$WORK/view"
        serve
        mount --bind "$DATA" "$WORK/view"
        mount -o remount,bind,ro "$WORK/view"
        for number in 1 2 3 4 5; do
            acknowledged "group $number"
            "$PROGRAM" export --store "sqlite:$WORK/view/groups.db" >"$WORK/export" 2>"$WORK/said" \
                || fail "export: $(cat "$WORK/said")"
            grep -q "group $number" "$WORK/export" || fail "the export misses group $number"
        done
        "#,
    );
}

#[test]
fn a_database_that_is_mounted_as_a_single_file_is_refused() {
    Script::new().run(
        r#"
        create Work
        mkdir "$WORK/other"
        touch "$WORK/other/groups.db"
        mount --bind "$DATA/groups.db" "$WORK/other/groups.db"
        for command in "call getConversationGroupList --user alice" export; do
            refuses 'mounted as a single file' "$PROGRAM" $command --store "sqlite:$WORK/other/groups.db"
        done
        groups | grep -q Work || fail "the store itself does not open"
        "#,
    );
}

#[test]
fn another_process_is_refused_though_the_lock_file_was_removed() {
    Script::new().run(
        r#"
        serve
        acknowledged Work
        rm "$DATA/groups.db-lock"
        refuses 'in use by another host' "$PROGRAM" call getConversationGroupList --user alice --store "$store"
        acknowledged Home
        becomes 200
        "#,
    );
}

#[test]
fn a_server_whose_database_is_moved_stops_acknowledging_and_loses_nothing() {
    Script::new().run(
        r#"
        serve
        acknowledged Work
        becomes 200
        mv "$DATA/groups.db" "$DATA/away.db"
        becomes 503
        refused Home
        grep -q 'was moved, removed or replaced' "$WORK/log" || fail "$(cat "$WORK/log")"
        kill -9 $server; wait $server 2>/dev/null || true
        refuses 'changes of a store that is no longer at' "$PROGRAM" call getConversationGroupList --user alice --store "$store"
        mv "$DATA/away.db" "$DATA/groups.db"
        groups | grep -q Work || fail "the acknowledged group is lost: $(groups)"
        "#,
    );
}

#[test]
fn a_cache_directory_that_cannot_be_written_is_a_warning() {
    Script::new().run(
        r#"
        mkdir "$WORK/cache"
        mount --bind "$WORK/cache" "$WORK/cache"
        mount -o remount,bind,ro "$WORK/cache"
        for directory in "$WORK/cache" "$WORK/cache/below"; do
            "$PROGRAM" call getConversationGroupList --user alice --store "$store" --set "cache_dir=$directory" \
                >"$WORK/said" 2>&1 || fail "$(cat "$WORK/said")"
            grep -q '"code":0' "$WORK/said" || fail "$(cat "$WORK/said")"
            grep -q "WARN.*$directory" "$WORK/said" || fail "there is no warning: $(cat "$WORK/said")"
        done
        "#,
    );
}
