//! Prometheus scrapes the server in both formats; `promtool` has nothing to complain of.

use std::io::Write;
use std::process::{Command, Stdio};

use convgroups_tests::server::{Reply, client};
use serde_json::{Value, json};

use super::proxies::nginx;
use super::{Neighbour, Served, call, documented, eventually, free_port, program, replaced, succeeds};

/// The format that Prometheus gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    OpenMetrics,
    Text,
}

fn some_calls(server: &Served) {
    let base = format!("http://{}", server.address);
    let create = json!({ "groupName": "Work", "conversationIDList": ["c2c_bob"] });
    for code in [0, 50002] {
        assert_eq!(call(&base, "alice", "createConversationGroup", &create).code(), code);
    }
}

#[test]
fn promtool_accepts_the_metrics() {
    let Some(promtool) = program("promtool") else { return };
    let server = Served::start();
    some_calls(&server);
    let metrics = Reply::to(client().get(format!("http://{}/metrics", server.address))).body;
    let mut check = Command::new(promtool);
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().expect("it runs");
    check.stdin.take().expect("it is piped").write_all(metrics.as_bytes()).expect("it reads");
    let output = check.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{}: {said}\n{metrics}", output.status);
}

#[test]
fn prometheus_scrapes_the_server_in_both_formats() {
    let (Some(prometheus), Some(promtool)) = (program("prometheus"), program("promtool")) else { return };
    let server = Served::start();
    some_calls(&server);
    let address = server.address.as_str();
    // Old versions of Prometheus cannot be told which format to ask for; what asks for OpenMetrics does not get through here.
    let text_only = format!("proxy_pass http://{address};\nproxy_set_header Accept \"text/plain;version=0.0.4\";");
    let Some(relay) = nginx(&text_only) else { return };
    let (own, relayed) = (documented("yaml", "scrape_configs"), format!("127.0.0.1:{}", relay.port));
    let job = replaced(&own, &[("127.0.0.1:8080", address)]);
    let relayed_job = job.split_once("scrape_configs:\n").map(|(_, job)| job).expect("one job");
    let relayed_job = replaced(relayed_job, &[("job_name: convgroups", "job_name: text"), (address, &relayed)]);
    let config = format!("global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n{job}{relayed_job}");

    let (directory, port) = (tempfile::tempdir().expect("a directory"), free_port());
    let file = directory.path().join("prometheus.yml");
    std::fs::write(&file, config).expect("settings can be written");
    succeeds(Command::new(promtool).args(["check", "config"]).arg(&file));
    let listen = format!("--web.listen-address=127.0.0.1:{port}");
    let arguments = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn", listen.as_str()];
    let prometheus = Neighbour::start(&prometheus, &arguments, port, directory);

    eventually("Prometheus is ready", || Reply::to(client().get(prometheus.url("/-/ready"))).status == 200);

    let query = |expression: &str| {
        let encoded: String = form_urlencoded::byte_serialize(expression.as_bytes()).collect();
        let url = prometheus.url(&format!("/api/v1/query?query={encoded}"));
        Reply::to(client().get(url)).json()["data"]["result"].clone()
    };
    let metadata = |metric: &str| {
        let path = format!("/api/v1/targets/metadata?metric={metric}");
        Reply::to(client().get(prometheus.url(&path))).json()["data"].clone()
    };
    for (job, format) in [("convgroups", Format::OpenMetrics), ("text", Format::Text)] {
        let value = |series: &str| {
            let found = query(&format!("{series} and on(job) up{{job=\"{job}\"}} == 1"));
            found[0]["value"][1].as_str().map(str::to_owned)
        };
        for (series, expected) in [
            (r#"convgroups_calls_total{method="createConversationGroup",outcome="ok"}"#, "1"),
            (r#"convgroups_calls_total{method="createConversationGroup",outcome="refused"}"#, "1"),
            (r#"convgroups_call_duration_seconds_count{method="createConversationGroup"}"#, "2"),
            (r#"convgroups_call_duration_seconds_bucket{method="createConversationGroup",le="+Inf"}"#, "2"),
            ("convgroups_calls_running_max", "128"),
            ("convgroups_conflicts_total", "0"),
            ("convgroups_build_info", "1"),
        ] {
            eventually(&format!("{series} from {job}: {}", prometheus.said()), || {
                value(series).as_deref() == Some(expected)
            });
        }
        // The name of a counter's family tells in which format it came.
        let (named, other) = ("convgroups_calls", "convgroups_calls_total");
        let (named, other) = if format == Format::Text { (other, named) } else { (named, other) };
        let of_job = |metric: &str| -> Vec<Value> {
            let data = metadata(metric);
            let entries = data.as_array().cloned().unwrap_or_default();
            entries.into_iter().filter(|entry| entry["target"]["job"] == job).collect()
        };
        let (named, other) = (of_job(named), of_job(other));
        assert_eq!((named.len(), other.len()), (1, 0), "{job}: {named:?} {other:?}");
        assert_eq!(named[0]["type"], "counter");
    }
    let targets = Reply::to(client().get(prometheus.url("/api/v1/targets"))).json();
    let targets = targets["data"]["activeTargets"].as_array().cloned().expect("targets");
    assert_eq!(targets.len(), 2);
    for target in targets {
        assert_eq!((&target["health"], &target["lastError"]), (&json!("up"), &json!("")), "{target}");
    }
}
