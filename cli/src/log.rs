//! The log on standard error and, where a collector is named, traces.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::args::{Arguments, Command};
use super::{outlet, say};

/// Starts both. Dropping the result sends what is still queued, within a short time.
pub(crate) fn start(arguments: &Arguments) -> Started<impl Drop + use<>> {
    let serves = matches!(arguments.command, Command::Serve(_));
    let default = if serves { "info" } else { "warn" };
    let wanted = std::env::var("CONVGROUPS_LOG").unwrap_or_else(|_| default.to_owned());
    let filter = EnvFilter::try_new(&wanted).unwrap_or_else(|error| {
        say(&format!("convgroups: CONVGROUPS_LOG={wanted} is no log filter ({error}); it is {default} now"));
        EnvFilter::new(default)
    });
    // Other commands may wait for the reader of standard error; a server must not.
    if serves {
        outlet::start();
    }
    let log = tracing_subscriber::fmt::layer()
        .with_writer(|| outlet::Line)
        .with_ansi(std::io::stderr().is_terminal())
        // A log that cannot be written must not end the program.
        .log_internal_errors(false);
    let log = if arguments.log_json { log.json().boxed() } else { log.with_target(false).boxed() };
    let (traces, sending) = traces::layer(serves);
    tracing_subscriber::registry().with(log.with_filter(filter)).with(traces).init();
    Started { _traces: sending }
}

/// The log and the traces, until this is dropped.
pub(crate) struct Started<Traces> {
    _traces: Traces,
}

impl<Traces> Drop for Started<Traces> {
    fn drop(&mut self) {
        // The last traces may have something to say, too.
        outlet::flush();
    }
}

/// The variable, of OpenTelemetry's own specification, that names a collector of traces, where one does.
fn collector_variable() -> Option<&'static str> {
    let mut variables = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"].into_iter();
    variables.find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

#[cfg(feature = "otlp")]
mod traces {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_otlp::SpanExporter;
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing::{Level, Subscriber};
    use tracing_subscriber::Layer;
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::registry::LookupSpan;

    use crate::say;

    /// Sends what is left when it is dropped.
    pub(super) struct Sending(Option<SdkTracerProvider>);

    impl Drop for Sending {
        fn drop(&mut self) {
            if let Some(Err(error)) = self.0.take().map(|provider| provider.shutdown()) {
                say(&format!("convgroups: the last traces could not be sent: {error}"));
            }
        }
    }

    /// Traces of a server, if the environment names a collector.
    pub(super) fn layer<S>(serves: bool) -> (Option<impl Layer<S>>, Sending)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        if !serves || super::collector_variable().is_none() {
            return (None, Sending(None));
        }
        // For collectors behind TLS. That somebody has chosen one before is fine.
        drop(rustls::crypto::ring::default_provider().install_default());
        let exporter = match SpanExporter::builder().with_http().build() {
            Ok(exporter) => exporter,
            Err(error) => {
                say(&format!("convgroups: there are no traces: {error}"));
                return (None, Sending(None));
            }
        };
        let resource = Resource::builder().with_service_name("convgroups").build();
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("convgroups"));
        let ours = Targets::new().with_target("convgroups_host", Level::DEBUG);
        (Some(layer.with_filter(ours)), Sending(Some(provider)))
    }
}

#[cfg(not(feature = "otlp"))]
mod traces {
    /// Nothing to send.
    pub(super) struct Sending;

    impl Drop for Sending {
        fn drop(&mut self) {}
    }

    /// None, and a warning where the environment names a collector.
    pub(super) fn layer(serves: bool) -> (Option<tracing_subscriber::layer::Identity>, Sending) {
        if serves && let Some(variable) = super::collector_variable() {
            crate::say(&format!(
                "convgroups: {variable} is set, but this program is built without traces; build it with `--features convgroups/otlp`"
            ));
        }
        (None, Sending)
    }
}
