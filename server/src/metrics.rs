//! What the server counts, for Prometheus.

use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::exposition::{Format, prometheus_text};
use super::rejection::Outcome;
use convgroups_host::call::{CallCounts, Host, Spent};
use convgroups_host::store::StoreCounts;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    api: &'static str,
    method: &'static str,
    outcome: &'static str,
    blame: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    api: &'static str,
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Part {
    part: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// Which of the two APIs, and which of its methods, as labels: a fixed set, whatever callers send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label {
    pub(super) api: &'static str,
    pub(super) method: &'static str,
}

#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    calls: Family<Call, Counter>,
    seconds: Family<Method, Histogram, fn() -> Histogram>,
    parts: Family<Part, Histogram, fn() -> Histogram>,
    conflicts: Counter,
    pub(super) connections: Gauge,
    pub(super) event_streams: Gauge,
    pub(super) throttled_signatures: Counter,
    ended_streams: Family<Reason, Counter>,
    pub(super) stalled_streams: Counter,
}

/// From 1 µs, which a sandbox takes to set up on a good day, to 8 s, which is longer than any call.
fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(1e-6, 2.0, 24))
}

impl Metrics {
    /// Metrics of a host; `state` is asked each time for what is not counted but measured.
    pub(super) fn new(host: &Host, state: impl Fn() -> State + Send + Sync + 'static) -> Self {
        let mut registry = Registry::with_prefix("convgroups");
        let calls = Family::default();
        let seconds = Family::new_with_constructor(histogram as fn() -> Histogram);
        let parts = Family::new_with_constructor(histogram as fn() -> Histogram);
        let (conflicts, connections, event_streams) = (Counter::default(), Gauge::default(), Gauge::default());
        let (ended_streams, stalled_streams) = (Family::default(), Counter::default());
        registry.register("calls", "Calls, by how they ended and whose failure it was", calls.clone());
        let help = "How long calls took, waiting included";
        registry.register_with_unit("call_duration", help, Unit::Seconds, seconds.clone());
        let help = "Where the time of calls that succeeded went: sandbox (set-up), guest (the plugin, reading included), \
                    reading (from the store), commit";
        registry.register_with_unit("call_part_duration", help, Unit::Seconds, parts.clone());
        registry.register(
            "conflicts",
            "Runs that were repeated, for another host had changed the same user's groups",
            conflicts.clone(),
        );
        registry.register("connections", "Open connections", connections.clone());
        registry.register("event_streams", "Open event streams", event_streams.clone());
        registry.register(
            "ended_event_streams",
            "Event streams that the server ended, by reason",
            ended_streams.clone(),
        );
        registry.register(
            "stalled_http2_streams",
            "HTTP/2 streams that were reset because their client did not take the response",
            stalled_streams.clone(),
        );
        let throttled_signatures = Counter::default();
        registry.register(
            "throttled_signatures",
            "UserSigs that were not read, because too many from the same address could not be verified",
            throttled_signatures.clone(),
        );
        let plugin = host.plugin();
        let build =
            Info::new(vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("plugin", plugin.digest.clone())]);
        registry.register("build", "This program and its plugin", build);
        registry.register_collector(Box::new(Measured(Box::new(state))));
        Self {
            registry,
            calls,
            seconds,
            parts,
            conflicts,
            connections,
            event_streams,
            throttled_signatures,
            ended_streams,
            stalled_streams,
        }
    }

    pub(super) fn call_ended(&self, Label { api, method }: Label, outcome: Outcome, took: Duration) {
        let (outcome, blame) = (outcome.as_str(), outcome.blame());
        self.calls.get_or_create(&Call { api, method, outcome, blame }).inc();
        self.seconds.get_or_create(&Method { api, method }).observe(took.as_secs_f64());
    }

    pub(super) fn call_succeeded(&self, spent: &Spent, attempts: u32, committed: bool) {
        let mut parts = vec![("sandbox", spent.sandbox), ("guest", spent.guest), ("reading", spent.reading)];
        if committed {
            parts.push(("commit", spent.commit));
        }
        for (part, time) in parts {
            self.parts.get_or_create(&Part { part }).observe(time.as_secs_f64());
        }
        self.conflicts.inc_by(u64::from(attempts.saturating_sub(1)));
    }

    pub(super) fn stream_ended(&self, reason: &'static str) {
        self.ended_streams.get_or_create(&Reason { reason }).inc();
    }

    /// Writes all metrics in a format that scrapers read.
    pub(super) fn encode(&self, format: Format) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(match format {
            Format::OpenMetrics => text,
            Format::Prometheus => prometheus_text(&text),
        })
    }
}

/// What is measured when somebody looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    pub(super) calls: CallCounts,
    pub(super) max_running: u32,
    pub(super) lost_log_lines: u64,
    pub(super) store: StoreCounts,
}

struct Measured(Box<dyn Fn() -> State + Send + Sync>);

impl std::fmt::Debug for Measured {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Measured")
    }
}

impl Collector for Measured {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let State { calls, max_running, lost_log_lines, store } = (self.0)();
        let mut gauge = |name, help, value: u64| {
            let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        gauge("calls_running", "Calls that run, each with a slot of the sandbox's pool", calls.running.into())?;
        gauge("calls_running_max", "Calls that may run at a time", max_running.into())?;
        gauge("calls_waiting", "Calls that wait for earlier calls of their user or for a permit", calls.queued.into())?;
        gauge("store_connections", "Open connections to the database", store.connections)?;
        gauge("store_connections_in_use", "Connections to the database that are in use", store.connections_in_use)?;
        gauge(
            "store_connections_awaited",
            "Calls that wait for a connection to the database",
            store.connections_awaited,
        )?;
        let mut counter = |name, help, value: u64| {
            let metric = ConstCounter::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        counter(
            "log_lines_lost",
            "Lines of the server log that were dropped because its reader did not keep up",
            lost_log_lines,
        )?;
        counter("commits", "Commits to the store; divided by flushes: how many share one", store.commits)?;
        counter("flushes", "Flushes of the store", store.flushes)
    }
}
