#!/bin/sh
# The files in deploy/ against Kubernetes' public schemas, each other, linters, systemd and the program.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
CONVGROUPS_BIN=${CONVGROUPS_BIN:-$target/release/convgroups}
export CONVGROUPS_BIN
venv=$target/deploy-tools
# Installed again when another set of them is asked for.
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --require-hashes \
        -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/installed.txt"
fi
PATH=$venv/bin:$PATH exec "$venv/bin/python" -B "$here/test.py"
