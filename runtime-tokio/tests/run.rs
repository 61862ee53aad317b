//! The program `hax run`: waiting for Consul, listening, serving, stopping, and its exit codes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use common::{listener, nobody, run};
use hax_driver::host::clock::Clock;
use hax_tokio::demo::api::Api;
use hax_tokio::demo::double;
use hax_tokio::demo::setting::Setting;
use hyper::Method;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::watch;
use tokio::time::timeout;

/// A Consul with a configuration, and a proxy to it that can be blocked.
struct Fixture {
    consul: Api,
    setting: Setting,
    url: String,
    blocked: watch::Sender<bool>,
}

async fn fixture() -> Fixture {
    let (direct, address) = listener().await;
    tokio::spawn(double::serve(direct, "ssu1", Clock::new()));
    let consul = Api::new(format!("http://{address}"));
    let setting = Setting::load(&consul).await.unwrap();
    let (proxy, at) = listener().await;
    let (blocked, block) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((client, _)) = proxy.accept().await {
            tokio::spawn(forward(client, address, block.clone()));
        }
    });
    Fixture { consul, setting, url: format!("http://{at}"), blocked }
}

async fn forward(
    mut client: TcpStream,
    to: std::net::SocketAddr,
    mut block: watch::Receiver<bool>,
) {
    let mut server = TcpStream::connect(to).await.unwrap();
    let copied = async {
        let _ = copy_bidirectional(&mut client, &mut server).await;
        false
    };
    let blocked = async { block.wait_for(|blocked| *blocked).await.is_ok() };
    if futures_lite::future::or(blocked, copied).await {
        // Open connections stay open, but no bytes pass.
        std::future::pending().await
    }
}

struct Hax {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
}

impl Hax {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(common::hax::HAX);
        command.arg("run").args(args).args(["--no-elect", "--log", "json"]);
        command.env("HAX_STATE_DIR", "none");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, log }
    }

    fn of(fixture: &Fixture, args: &[&str]) -> Self {
        let own = ["--consul", &fixture.url, "--node", "ssu1"];
        Self::start(&[&own, args].concat())
    }

    /// Reads the log until a line has `text`. Returns that line.
    async fn says(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        let found = timeout(Duration::from_secs(20), async {
            while let Some(line) = self.log.next_line().await.unwrap() {
                if line.contains(text) {
                    return Some(line);
                }
                seen.push(line);
            }
            None
        });
        let found = found.await.ok().flatten();
        found.unwrap_or_else(|| panic!("no {text:?} in {seen:#?}"))
    }

    async fn signal(&self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    }

    async fn code(&mut self) -> i32 {
        let ended = timeout(Duration::from_secs(15), self.child.wait()).await;
        ended.expect("an end").unwrap().code().expect("an exit, not a signal")
    }
}

async fn ready(fixture: &Fixture) -> Api {
    let hax = Api::new(fixture.setting.hax_http.clone());
    for _ in 0..200 {
        if hax.done(Method::GET, "/readyz", Bytes::new()).await.is_ok() {
            return hax;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not ready");
}

fn ham(fixture: &Fixture, commands: &[&str]) -> Child {
    let role = &fixture.setting.roles[0];
    let mut command = Command::new(common::hax::HAX);
    command.args(["ham", "--connect", &fixture.setting.hax, "--listen", &role.endpoint]);
    command.args(["--fid", &role.fid.to_string()]).args(commands);
    command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

#[test]
fn it_serves_and_a_signal_stops_it_cleanly() {
    run(async {
        let fixture = fixture().await;
        let mut hax = Hax::of(&fixture, &[]);
        let http = ready(&fixture).await;
        assert!(http.done(Method::GET, "/", Bytes::new()).await.is_ok());
        let commands = ["entrypoint", "process starting", "process started"];
        let ham = ham(&fixture, &commands).wait_with_output().await.unwrap();
        assert!(ham.status.success(), "{}", String::from_utf8_lossy(&ham.stdout));
        let key = format!("/v1/kv/processes/{}?raw", fixture.setting.roles[0].fid);
        let state = fixture.consul.get(&key).await.unwrap();
        assert!(state["state"].is_string(), "{state}");
        hax.signal().await;
        assert_eq!(hax.code().await, 0);
        assert!(http.send(Method::GET, "/", Bytes::new()).await.is_err());
    });
}

#[test]
fn it_waits_for_consul_and_says_so() {
    run(async {
        let mut hax = Hax::start(&["--consul", &format!("http://{}", nobody().await)]);
        hax.says("ConsulFailed").await;
        hax.signal().await;
        assert_eq!(hax.code().await, 0);
    });
}

#[test]
fn a_second_signal_ends_the_drain_at_once() {
    run(async {
        let fixture = fixture().await;
        let mut hax = Hax::of(&fixture, &["--drain", "2m"]);
        ready(&fixture).await;
        let ham = ham(&fixture, &["entrypoint", "wait 0.5", "process started"]);
        hax.says("LinkUp").await;
        fixture.blocked.send_replace(true);
        hax.says("ProcessEvent").await;
        hax.signal().await;
        hax.says("Stopping").await;
        let more = timeout(Duration::from_millis(1_100), hax.child.wait()).await;
        assert!(more.is_err(), "it finishes what was begun first: {more:?}");
        hax.signal().await;
        assert_eq!(hax.code().await, 130);
        drop(ham);
    });
}

#[test]
fn a_taken_address_is_exit_code_3() {
    run(async {
        let fixture = fixture().await;
        let taken = |port: &str| {
            let port: u16 = port.parse().unwrap();
            TcpListener::bind(("127.0.0.1", port))
        };
        let (_, port) = fixture.setting.hax.rsplit_once('@').unwrap();
        let motr = taken(port).await.unwrap();
        let mut hax = Hax::of(&fixture, &[]);
        let error = hax.says("cannot listen").await;
        assert!(error.contains(port) && error.contains("--motr-endpoint"), "{error}");
        assert_eq!(hax.code().await, 3);
        drop(motr);
        let (_http, at) = listener().await;
        let mut hax = Hax::of(&fixture, &["--http", &at.to_string()]);
        let error = hax.says("cannot listen").await;
        assert!(error.contains(&at.to_string()) && error.contains("--http"), "{error}");
        assert_eq!(hax.code().await, 3);
    });
}

#[test]
fn an_unexpected_message_is_exit_code_4_or_ignored() {
    run(async {
        let fixture = fixture().await;
        let mut hax = Hax::of(&fixture, &[]);
        ready(&fixture).await;
        let fatal = ham(&fixture, &["entrypoint", "keepalive"]);
        hax.says("MessageFatal").await;
        assert_eq!(hax.code().await, 4);
        drop(fatal);
        let mut hax = Hax::of(&fixture, &["--on-unexpected-message", "ignore"]);
        ready(&fixture).await;
        let ham = ham(&fixture, &["entrypoint", "keepalive"]);
        assert!(ham.wait_with_output().await.unwrap().status.success());
        hax.signal().await;
        assert_eq!(hax.code().await, 0);
    });
}

#[test]
fn an_endpoint_of_libfabric_in_consul_is_exit_code_2() {
    run(async {
        let fixture = fixture().await;
        let service = serde_json::json!({
            "ID": "0", "Name": "hax", "Address": "inet:tcp:127.0.0.1", "Port": 22001,
            "Meta": { "http_port": "8008" },
        });
        let register = "/v1/agent/service/register";
        fixture.consul.done(Method::PUT, register, service.to_string()).await.unwrap();
        let mut hax = Hax::of(&fixture, &["--libmotr", "/nonexistent.so"]);
        let error = hax.says("libfabric").await;
        assert!(error.contains("--motr-endpoint"), "{error}");
        assert_eq!(hax.code().await, 2);
    });
}
