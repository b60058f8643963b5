//! The two text formats of `/metrics`: OpenMetrics, and the older one of Prometheus.

use axum::http::{HeaderMap, header};

/// A format that scrapers read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
}

impl Format {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Chooses by `Accept`: OpenMetrics only where the scraper names it and does not prefer the text format, because every
    /// scraper reads that one. A scraper that accepts neither gets the text format too, which people can read.
    pub(super) fn negotiate(headers: &HeaderMap) -> Self {
        let (mut open_metrics, mut text) = (0, 0);
        for value in headers.get_all(header::ACCEPT) {
            for range in value.to_str().unwrap_or_default().split(',') {
                let range = Range::parse(range);
                match range.media_type.as_str() {
                    "application/openmetrics-text" if range.version_is("1.0.0") => {
                        open_metrics = open_metrics.max(range.weight);
                    }
                    "text/plain" if range.version_is("0.0.4") => text = text.max(range.weight),
                    _ => {}
                }
            }
        }
        if open_metrics > 0 && open_metrics >= text { Self::OpenMetrics } else { Self::Prometheus }
    }
}

/// One element of `Accept`.
struct Range {
    media_type: String,
    version: Option<String>,
    /// `q` in thousandths.
    weight: u32,
}

impl Range {
    fn parse(text: &str) -> Self {
        let mut parts = text.split(';').map(|part| part.trim().to_ascii_lowercase());
        let mut range = Self { media_type: parts.next().unwrap_or_default(), version: None, weight: 1000 };
        for part in parts {
            match part.split_once('=') {
                Some(("version", version)) => range.version = Some(version.trim_matches('"').to_owned()),
                Some(("q", weight)) => range.weight = thousandths(weight),
                _ => {}
            }
        }
        range
    }

    fn version_is(&self, version: &str) -> bool {
        self.version.as_deref().is_none_or(|asked| asked == version)
    }
}

/// Reads a weight between 0 and 1 with up to three decimals; 0 for anything else, because it was not understood.
fn thousandths(weight: &str) -> u32 {
    match weight.parse::<f32>() {
        Ok(weight) if (0.0..=1.0).contains(&weight) => (weight * 1000.0).round() as u32,
        _ => 0,
    }
}

/// Translates what prometheus-client writes, which is OpenMetrics only, to the text format of Prometheus.
///
/// There, a family has the name of its samples, so that a counter's is with `_total`; information is a gauge of 1; and there are
/// neither units nor a mark at the end. Lines of samples are the same. Exemplars and timestamps are not, but no metric has any.
pub(super) fn prometheus_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    // The help comes before the type, on which the name depends.
    let mut help = "";
    for line in open_metrics.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_, help)| help);
            continue;
        }
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) else {
            text += line;
            text.push('\n');
            continue;
        };
        let (suffix, kind) = match kind {
            "counter" => ("_total", "counter"),
            "info" => ("_info", "gauge"),
            "unknown" => ("", "untyped"),
            kind => ("", kind),
        };
        text += &format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::metrics::info::Info;
    use prometheus_client::registry::{Registry, Unit};

    use super::*;

    #[test]
    fn the_format_is_the_one_that_the_scraper_accepts() {
        use Format::{OpenMetrics, Prometheus};
        let cases: &[(&[&str], Format)] = &[
            (&[], Prometheus),
            (&[""], Prometheus),
            (&["*/*"], Prometheus),
            (&["text/plain"], Prometheus),
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], Prometheus),
            (&["application/*"], Prometheus),
            (&["application/json"], Prometheus),
            (&["application/openmetrics-text"], OpenMetrics),
            (&["Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8"], OpenMetrics),
            (&["application/openmetrics-text;version=0.0.1"], Prometheus),
            (&["application/openmetrics-text;version=2.0.0"], Prometheus),
            (&["application/openmetrics-text;q=0"], Prometheus),
            (&["application/openmetrics-text;q=0.000,*/*"], Prometheus),
            (&["application/openmetrics-text;q=much"], Prometheus),
            (&["application/openmetrics-text;q=NaN"], Prometheus),
            (&["application/openmetrics-text;q=1e9,text/plain;q=0.1"], Prometheus),
            (&["application/openmetrics-text;q=0.001"], OpenMetrics),
            (&["application/openmetrics-text;q=0.5,text/plain;q=0.5"], OpenMetrics),
            (&["text/plain;q=0.6,application/openmetrics-text;q=0.5"], Prometheus),
            (&["text/plain", "application/openmetrics-text"], OpenMetrics),
            (&["text/plain", "application/openmetrics-text;q=0.9"], Prometheus),
            // Prometheus 2.42.
            (
                &["application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                   text/plain;version=0.0.4;q=0.5,*/*;q=0.1"],
                OpenMetrics,
            ),
            // The same with native histograms.
            (
                &["application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                   application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,\
                   text/plain;version=0.0.4;q=0.5,*/*;q=0.1"],
                OpenMetrics,
            ),
            // Prometheus 3, as it is and with scrape_protocols: [PrometheusText0.0.4].
            (
                &["application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                   application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                   text/plain;version=0.0.4;q=0.3,*/*;q=0.2"],
                OpenMetrics,
            ),
            (&["text/plain;version=0.0.4;q=0.3,*/*;q=0.2"], Prometheus),
        ];
        for (accept, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in *accept {
                headers.append(header::ACCEPT, value.parse().expect("a header"));
            }
            assert_eq!(Format::negotiate(&headers), *expected, "{accept:?}");
        }
        let mut headers = HeaderMap::new();
        headers.append(header::ACCEPT, axum::http::HeaderValue::from_bytes(b"\xff").expect("a header"));
        assert_eq!(Format::negotiate(&headers), Prometheus, "not a string");
    }

    #[test]
    fn every_kind_of_metric_is_translated_to_the_text_format() {
        let mut registry = Registry::with_prefix("x");
        let (counter, gauge) = (Counter::<u64>::default(), Gauge::<i64>::default());
        let histogram = Histogram::new([0.5]);
        counter.inc();
        histogram.observe(0.1);
        registry.register("calls", "Calls", counter);
        registry.register("open", "Open ones", gauge);
        registry.register_with_unit("took", "How long", Unit::Seconds, histogram);
        registry.register("build", "Build", Info::new(vec![("quoted", "# EOF \"\\\n# TYPE a counter")]));
        let mut open_metrics = String::new();
        prometheus_client::encoding::text::encode(&mut open_metrics, &registry).expect("encodes");
        let expected = "# HELP x_calls_total Calls.\n\
                        # TYPE x_calls_total counter\n\
                        x_calls_total 1\n\
                        # HELP x_open Open ones.\n\
                        # TYPE x_open gauge\n\
                        x_open 0\n\
                        # HELP x_took_seconds How long.\n\
                        # TYPE x_took_seconds histogram\n\
                        x_took_seconds_sum 0.1\n\
                        x_took_seconds_count 1\n\
                        x_took_seconds_bucket{le=\"0.5\"} 1\n\
                        x_took_seconds_bucket{le=\"+Inf\"} 1\n\
                        # HELP x_build_info Build.\n\
                        # TYPE x_build_info gauge\n\
                        x_build_info{quoted=\"# EOF \\\"\\\\\\n# TYPE a counter\"} 1\n";
        assert_eq!(prometheus_text(&open_metrics), expected);
    }
}
