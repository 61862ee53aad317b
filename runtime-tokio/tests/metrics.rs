//! `/metrics` of a daemon that has answered an entrypoint and written an event.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/prometheus.rs"]
mod prometheus;

use std::time::Duration;

use bytes::Bytes;
use common::cluster::consul;
use common::program::{Program, command};
use common::run;
use hax_core::ha::fact::FactKind;
use hax_tokio::demo::api::Api;
use hyper::Method;
use prometheus::Scrape;

async fn scrape(hax: &Api) -> Scrape {
    let text = hax.done(Method::GET, "/metrics", Bytes::new()).await.unwrap();
    Scrape::read(std::str::from_utf8(&text).unwrap())
}

#[test]
fn what_a_ham_did_is_counted_and_timed() {
    run(async {
        let (consul, setting) = consul().await;
        let own = ["run", "--no-elect", "--node", "ssu1", "--consul", consul.base()];
        let hax = Program::start(command(&own));
        hax.says(&["ready: Consul answers"]);
        let role = &setting.roles[0];
        let fid = role.fid.to_string();
        let peer = ["ham", "--connect", &setting.hax, "--listen", &role.endpoint, "--fid", &fid];
        let nvec = format!("nvec-get {fid}");
        let script =
            ["entrypoint", "process started", &nvec, "wait-message NVEC", "wait-delivered"];
        let ham = command(&[&peer[..], &script].concat()).output().unwrap();
        assert!(ham.status.success(), "{}", String::from_utf8_lossy(&ham.stderr));

        let http = Api::new(setting.hax_http.clone());
        http.send(Method::GET, "/nothing", Bytes::new()).await.unwrap();
        let seen = scrape(&http).await;
        for kind in FactKind::ALL {
            let level = format!("{:?}", kind.level()).to_lowercase();
            seen.get(&format!("hax_facts_total{{fact=\"{}\",level=\"{level}\"}}", kind.name()));
        }
        let one = |sample: &str| assert!((seen.get(sample) - 1.0).abs() < 1e-9, "{sample}");
        one("hax_facts_total{fact=\"EntrypointAnswered\",level=\"debug\"}");
        one("hax_entrypoint_duration_seconds_count");
        one("hax_nvec_get_duration_seconds_count");
        one("hax_ready");
        one(&format!("hax_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")));
        one("hax_http_request_duration_seconds_count{method=\"GET\",code=\"404\"}");
        // They include the events of hax's own process.
        assert!(seen.get("hax_process_event_duration_seconds_count") >= 2.0);
        assert!(seen.get("hax_entrypoint_duration_seconds_sum") > 0.0);
        for kind in ["kv", "catalog", "health"] {
            let count = "hax_consul_request_duration_seconds_count";
            let sample = format!("{count}{{kind=\"{kind}\",blocking=\"false\"}}");
            assert!(seen.get(&sample) >= 1.0, "{sample}");
        }
        assert!(seen.get("process_resident_memory_bytes") > 1e6);
        // `hax status` shows the same node.
        let args = ["status", "--node", "ssu1", "--consul", consul.base()];
        let status = command(&args).output().unwrap();
        let table = String::from_utf8(status.stdout).unwrap();
        assert_eq!(status.status.code(), Some(0), "{table}");
        for part in ["on ssu1", ": ready", "Consul    answers", "m0conf", &fid] {
            assert!(table.contains(part), "{part}: {table}");
        }
        // Three blocking queries are kept in flight. Each is sent again some time after its last response.
        let mut again = scrape(&http).await;
        while again.get("hax_consul_calls_in_flight") < 3.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            again = scrape(&http).await;
        }
        let scrapes = "hax_http_request_duration_seconds_count{method=\"GET\",code=\"200\"}";
        assert!(again.get(scrapes) >= 1.0);
    });
}
