//! The HTTP port with TLS and with a token: accepted and refused clients, including a real Consul's watch.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use bytes::Bytes;
use common::certs::{Authority, directory};
use common::cluster::consul;
use common::program::{Program, command, holds};
use common::run;
use hax_driver::consul::Address;
use hax_driver::host::platform::Request;
use hax_driver::settings::secret::Secret;
use hax_driver::tls;
use hax_sim::cluster::{Cluster, Endpoints, Shape};
use hax_sim::real::{Options, RealConsul, available, port};
use hax_tokio::ask::ask;
use hax_tokio::connect::Connector;
use hax_tokio::demo::api::Api;
use hax_tokio::demo::setting::Setting;
use hyper::Method;
use serde_json::{Value, json};

const GUIDE: &str = include_str!("../../docs/OPERATE.md");

/// A client that trusts one certificate.
struct Client {
    authority: String,
    connector: Connector,
}

impl Client {
    fn new(authority: &str, cert: &Path) -> Self {
        let name = "localhost".try_into().unwrap();
        let place = Address::Tls(authority.into(), name);
        let connector = Connector::new(place, Some(tls::client_of(cert).unwrap()));
        Self { authority: authority.into(), connector }
    }

    async fn send(
        &self,
        token: Option<&str>,
        method: Method,
        target: &str,
    ) -> Option<(u16, Bytes)> {
        let token = token.map(|token| Secret::new(token).unwrap());
        let (authority, token, body) =
            (&*self.authority, token.as_ref(), Bytes::from_static(b"[]"));
        let request = Request { authority, method, target, body, token, answer_max: 1 << 20 };
        ask(&self.connector, request).await.ok()
    }

    async fn status(&self, token: Option<&str>, method: Method, target: &str) -> u16 {
        self.send(token, method, target).await.map_or(0, |(status, _)| status)
    }

    async fn is_ready(&self) {
        for _ in 0..500 {
            if self.status(None, Method::GET, "/readyz").await == 200 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("never ready");
    }
}

fn hax(consul: &Api, args: &[&str]) -> Program {
    let own = ["run", "--no-elect", "--node", "ssu1", "--consul", consul.base()];
    Program::start(command(&[&own[..], args].concat()))
}

fn authority(setting: &Setting) -> &str {
    setting.hax_http.strip_prefix("http://").unwrap()
}

#[test]
fn the_key_in_consul_asks_for_tls_as_the_old_daemon_has_it() {
    run(async {
        let (consul, setting) = consul().await;
        let dir = directory();
        let (cert, key) = Authority::new(&dir, "ca").issue("hax", &["localhost"]);
        let value = json!({ "http_protocol": "https", "cert_path": cert, "key_path": key });
        consul.done(Method::PUT, "/v1/kv/ssl/hax", value.to_string()).await.unwrap();
        let mut first = hax(&consul, &[]);
        let client = Client::new(authority(&setting), &cert);
        client.is_ready().await;
        assert_eq!(client.status(None, Method::POST, "/").await, 200);
        let plain = Api::new(setting.hax_http.clone());
        assert!(plain.send(Method::GET, "/", Bytes::new()).await.is_err());
        first.signal("TERM");
        assert_eq!(first.code(), 0);

        // A missing certificate is logged, and HTTP is served without TLS.
        std::fs::remove_file(&cert).unwrap();
        let second = hax(&consul, &[]);
        second.says(&["WARN", "without TLS", "ssl/hax", cert.to_str().unwrap()]);
        second.says(&["hax listens", "http://"]);
        assert!(plain.send(Method::GET, "/", Bytes::new()).await.is_ok());
    });
}

#[test]
fn d34_only_the_token_opens_all_but_the_probes_and_both_can_be_changed() {
    run(async {
        let (consul, setting) = consul().await;
        let dir = directory();
        let ca = Authority::new(&dir, "ca");
        let (cert, key) = ca.issue("hax", &["localhost"]);
        let first_cert = dir.join("first.pem");
        std::fs::copy(&cert, &first_cert).unwrap();
        let token = dir.join("token");
        std::fs::write(&token, "one\n").unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let args = [text(&cert), text(&key), text(&token)];
        let [cert_arg, key_arg, token_arg] = args.each_ref().map(String::as_str);
        let http = ["--http-cert", cert_arg, "--http-key", key_arg, "--http-token-file", token_arg];
        let hax = hax(&consul, &http);
        let client = Client::new(authority(&setting), &first_cert);
        client.is_ready().await;
        for probe in ["/", "/healthz", "/readyz"] {
            assert_eq!(client.status(None, Method::GET, probe).await, 200, "{probe}");
        }
        let (status, body) = client.send(None, Method::POST, "/").await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &body["status_code"]), (401, &401.into()));
        assert!(body["error_message"].as_str().unwrap().contains("Bearer"), "{body}");
        assert_eq!(client.status(Some("two"), Method::POST, "/").await, 401);
        assert_eq!(client.status(Some("one"), Method::POST, "/").await, 200);
        assert_eq!(client.status(None, Method::GET, "/elsewhere").await, 401);
        hax.says(&["HttpRefused", "401: GET /elsewhere by 127.0.0.1, without hax's token"]);

        // The certificate and the token are replaced without a restart.
        ca.issue("hax", &["localhost"]);
        std::fs::write(&token, "two\n").unwrap();
        hax.signal("HUP");
        hax.says(&["read again"]);
        assert_eq!(client.status(Some("two"), Method::POST, "/").await, 0, "not that certificate");
        let client = Client::new(authority(&setting), &cert);
        assert_eq!(client.status(Some("two"), Method::POST, "/").await, 200);
        assert_eq!(client.status(Some("one"), Method::POST, "/").await, 401);

        // An invalid file changes nothing, and does not prevent the change of another one.
        std::fs::write(&key, "nonsense").unwrap();
        std::fs::write(&token, "three").unwrap();
        hax.signal("HUP");
        hax.says(&["WARN", "not reloaded", &text(&key)]);
        assert_eq!(client.status(Some("two"), Method::POST, "/").await, 401);
        assert_eq!(client.status(Some("three"), Method::POST, "/").await, 200);
    });
}

#[test]
fn a_real_watch_can_bring_the_token() {
    if !available() {
        return;
    }
    let dir = directory();
    let (cert, key) = Authority::new(&dir, "ca").issue("hax", &["localhost"]);
    let token = dir.join("token");
    std::fs::write(&token, "one").unwrap();
    let http = format!("127.0.0.1:{}", port());
    let watch = |token: &str| {
        let handler = json!({
            "path": format!("https://{http}/"), "method": "POST", "timeout": "10s",
            "header": { "Authorization": [format!("Bearer {token}")] }, "tls_skip_verify": true,
        });
        let service = "ios";
        json!({
            "type": "service", "service": service, "handler_type": "http",
            "http_handler_config": handler,
        })
    };
    // The check is the one in the guide.
    let (_, check) = GUIDE.split_once("```json\n\"checks\": ").unwrap();
    let check = check.split("```").next().unwrap().replace("192.0.2.11:8008", &http);
    let checks: Value = serde_json::from_str(&check).unwrap();
    let config = json!({ "watches": [watch("one"), watch("wrong")], "checks": checks });
    let consul = RealConsul::start(Options { config, ..Options::new("ssu1") }).unwrap();
    let shape = Shape::like_hare(3).with_endpoints(Endpoints::Sock);
    consul.load_cluster(&Cluster::generate(&shape)).unwrap();
    let url = format!("http://{}", consul.address());
    let motr = format!("inet:stream:127.0.0.1@{}", port());
    let own = ["run", "--no-elect", "--node", "ssu1", "--consul", &url, "--log-level", "debug"];
    let tls = [
        "--http-cert",
        cert.to_str().unwrap(),
        "--http-key",
        key.to_str().unwrap(),
        "--http-token-file",
        token.to_str().unwrap(),
    ];
    let more = ["--http", &http, "--motr-endpoint", &motr];
    let hax = Program::start(command(&[&own[..], &tls, &more].concat()));
    hax.says(&["ready: Consul answers"]);
    let posted = || hax.log().iter().filter(|line| line.contains("checks from a watch")).count();
    let before = posted();
    let told = consul.request("PUT", "/v1/agent/check/fail/service:2", b"").unwrap();
    assert_eq!(told.status, 200);
    assert!(holds(|| posted() > before), "{:#?}", hax.log());
    let lives = || {
        let checks = consul.request("GET", "/v1/agent/checks", b"").unwrap();
        let checks: Value = serde_json::from_slice(&checks.body).unwrap();
        let check = checks.as_object().unwrap().values().find(|check| check["Name"] == "hax lives");
        check.unwrap()["Status"] == "passing"
    };
    assert!(holds(lives), "the check by TLS and without a token");
}
