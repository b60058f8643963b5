#!/bin/sh
# The crate tencent_im_rs, a client of Tencent's REST API that this project did not write, against a running server over TLS.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
program=${CONVGROUPS_BIN:-$target/release/convgroups}

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2> /dev/null || true; rm -rf "$work"' EXIT
cd "$work"
export CONVGROUPS_USERSIG_KEYS=5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e

# A certificate for localhost, by an authority of its own.
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=test authority" \
    -keyout authority.key -out authority.pem 2> /dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -keyout key.pem -out request.pem 2> /dev/null
printf 'subjectAltName=DNS:localhost\n' > names
openssl x509 -req -in request.pem -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 -extfile names \
    -out certificate.pem 2> /dev/null

"$program" serve --store memory: --listen localhost:0 --set auth.sdk_app_id=1400000000 --set auth.admins='["administrator"]' \
    --set server.tls_certificate=certificate.pem --set server.tls_key=key.pem 2> log &
server=$!
address=
for _ in $(seq 100); do
    address=$(sed -n 's/^convgroups: listening on https:..//p' log)
    [ -n "$address" ] && break
    sleep 0.1
done
[ -n "$address" ] || { cat log >&2; exit 1; }

TEST_SERVER=localhost:${address##*:} TEST_AUTHORITY=$work/authority.pem \
    cargo test --quiet --locked --manifest-path "$here/Cargo.toml" --target-dir "$target/tencent"
if grep -E 'ERROR|panicked' log; then
    echo "the server's log has errors" >&2
    exit 1
fi
