#!/bin/sh
# Schemathesis against a running server's own /openapi.json: nothing fails inside, and every answer is documented.
# Arguments are handed on, as --max-examples 1000.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
program=${CONVGROUPS_BIN:-$target/release/convgroups}
venv=$target/schemathesis
if ! [ -x "$venv/bin/schemathesis" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check schemathesis==4.32.5
fi

work=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
env -u CONVGROUPS_BIN CONVGROUPS_LOG=warn "$program" serve --dev --store memory: --listen 127.0.0.1:0 2> log &
server=$!
for _ in $(seq 100); do
    address=$(sed -n 's/^convgroups: listening on //p' log)
    [ -n "$address" ] && break
    sleep 0.1
done
[ -n "$address" ] || { cat log >&2; exit 1; }
USERSIG=$(sed -n "s/^SIG='\(.*\)'/\1/p" log)
ADMIN_USERSIG=$(sed -n "s/.*get_contact_group?.*&usersig=\([^']*\).*/\1/p" log)
export USERSIG ADMIN_USERSIG
"$venv/bin/schemathesis" --config-file "$here/schemathesis.toml" run "$address/openapi.json" "$@"
if grep -E 'ERROR|panicked' log; then
    echo "the server's log has errors" >&2
    exit 1
fi
