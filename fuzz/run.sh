#!/bin/sh
# Every target, or those that are named, for FUZZ_SECONDS each (600), JOBS of them side by side (1). Tells what each did; fails
# when one has found something, which is then in fuzz/artifacts/.
#
# --sanitizer none: the host's code is safe Rust but for one place, which loads what wasmtime has compiled; so no nightly compiler
# is needed.
# --no-cfg-fuzzing: some dependencies behave differently if they know that they are fuzzed.
set -eu
cd "$(dirname "$0")/.."
version=0.13.2
seconds=${FUZZ_SECONDS:-600}
target=${CARGO_TARGET_DIR:-target}
tool=$target/tools/bin/cargo-fuzz
if ! "$tool" --version 2> /dev/null | grep -qx "cargo-fuzz $version"; then
    cargo install --quiet --locked --version "$version" --root "$target/tools" --target-dir "$target/tools/build" cargo-fuzz
fi

# cargo-fuzz itself would change the lock file where it does not fit.
cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml > /dev/null
triple=$(rustc -vV | sed -n 's/^host: //p')
"$tool" fuzz build --sanitizer none --release --debug-assertions --no-cfg-fuzzing --target "$triple" --fuzz-dir fuzz \
    --target-dir "$target/fuzz"

logs=$target/fuzz/logs
mkdir -p "$logs" fuzz/artifacts
[ $# -gt 0 ] || set -- $(ls fuzz/seeds)

# One target; the corpus that it finds is kept for the next time.
fuzz() {
    corpus=fuzz/corpus/$1
    mkdir -p "$corpus"
    dictionary=fuzz/dictionaries/$1.dict
    [ -f "$dictionary" ] && dictionary=-dict=$dictionary || dictionary=
    "$target/fuzz/$triple/release/$1" -artifact_prefix="fuzz/artifacts/$1-" $dictionary -max_total_time="$seconds" \
        -timeout=120 -rss_limit_mb=4096 -print_final_stats=1 "$corpus" "fuzz/seeds/$1" > "$logs/$1.log" 2>&1 \
        && outcome=clean || outcome="FAILED, see $logs/$1.log"
    figure() { sed -n "$1" "$logs/$2.log" | tail -n 1; }
    executed=$(figure 's/^stat::number_of_executed_units: *//p' "$1")
    covered=$(figure 's/.* cov: \([0-9]*\) .*/\1/p' "$1")
    inputs=$(figure 's/.* corp: \([0-9]*\).*/\1/p' "$1")
    printf '%-14s %12s executions, %6s edges, %5s inputs, %4s s: %s\n' \
        "$1" "${executed:-?}" "${covered:-?}" "${inputs:-?}" "$seconds" "$outcome"
    [ "$outcome" = clean ]
}

failed=0
running=
count=0
collect() {
    for process in $running; do wait "$process" || failed=1; done
    running= count=0
}
for name in "$@"; do
    fuzz "$name" &
    running="$running $!" count=$((count + 1))
    [ "$count" -lt "${JOBS:-1}" ] || collect
done
collect
exit "$failed"
