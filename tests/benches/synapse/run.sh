#!/bin/sh
# Compares the server with Synapse's room tags on this machine. Installs Synapse from PyPI into target/synapse, starts it on
# SQLite as its own documentation has it, without limits on rates, and runs `make bench-http` against both. Needs Python 3.
set -eu
cd "$(dirname "$0")/../../.."
directory=$PWD/target/synapse
port=7478

[ -x "$directory/bin/synapse_homeserver" ] || {
	python3 -m venv "$directory"
	"$directory/bin/pip" install --quiet --disable-pip-version-check "matrix-synapse==1.163.2"
}
rm -rf "$directory/data" && mkdir "$directory/data"
cat > "$directory/data/homeserver.yaml" <<-END
	server_name: localhost
	report_stats: false
	database: {name: sqlite3, args: {database: "$directory/data/homeserver.db"}}
	listeners: [{port: $port, type: http, bind_addresses: [127.0.0.1], resources: [{names: [client]}]}]
	signing_key_path: "$directory/data/signing.key"
	media_store_path: "$directory/data/media"
	pid_file: "$directory/data/pid"
	log_config: "$directory/data/log.yaml"
	macaroon_secret_key: for benchmarks only
	form_secret: for benchmarks only
	bcrypt_rounds: 4
	enable_registration: true
	enable_registration_without_verification: true
	suppress_key_server_warning: true
	rc_registration: {per_second: 1000000, burst_count: 1000000}
	rc_message: {per_second: 1000000, burst_count: 1000000}
	rc_room_creation: {per_second: 1000000, burst_count: 1000000}
	rc_joins: {local: {per_second: 1000000, burst_count: 1000000}}
END
cat > "$directory/data/log.yaml" <<-END
	version: 1
	root: {level: ERROR}
END
cd "$directory/data"
"$directory/bin/python" -m synapse.app.homeserver --config-path homeserver.yaml --generate-keys
"$directory/bin/python" -m synapse.app.homeserver --config-path homeserver.yaml &
server=$!
trap 'kill $server' EXIT
cd "$OLDPWD"
tries=0
until "$directory/bin/python" -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$port/_matrix/client/versions')" 2> /dev/null; do
	tries=$((tries + 1))
	[ $tries -lt 60 ] || { echo "Synapse does not answer" >&2; exit 1; }
	sleep 0.5
done
cargo bench --locked --package convgroups-tests --features measure --bench http -- --synapse=127.0.0.1:$port "$@"
