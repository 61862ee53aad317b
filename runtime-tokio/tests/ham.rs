//! The program `hax ham` with the wire's endpoint over real sockets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use common::{listener, nobody, run};
use futures_lite::future::or;
use hax_core::base::errno::Errno;
use hax_core::base::id::{LinkId, SendId};
use hax_core::base::time::{Now, WallClock};
use hax_core::ha::entrypoint::{Confd, Entrypoint};
use hax_core::ha::message::{Body, Message};
use hax_core::ha::motr::{Command, Event, Purpose};
use hax_core::ha::note::{Note, Nvec, NvecKind, ObjectState};
use hax_core::net;
use hax_core::wire::{self, Endpoint};
use hax_driver::host::clock::wall;
use hax_driver::host::serve::serve;
use hax_tokio::Tokio;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

/// A minimal bridge.
///
/// It refuses the first request, answers the others, acknowledges everything and reports every object as
/// online.
struct Bridge {
    asked: u32,
    sends: SendId,
}

impl Bridge {
    fn answer(&mut self, event: Event, out: &mut Vec<Command>) {
        match event {
            Event::Asked(request) => {
                self.asked += 1;
                let confd = Confd { fid: request.process, endpoint: "here".into() };
                let entrypoint = Entrypoint {
                    quorum: 1,
                    confds: vec![confd],
                    rm: request.process,
                    rm_endpoint: "here".into(),
                };
                let reply =
                    if self.asked == 1 { Err(Errno::EAGAIN) } else { Ok(Arc::new(entrypoint)) };
                out.push(Command::Reply { entry: request.entry, reply });
            }
            Event::Received { link, msg, message } => {
                out.push(Command::Ack { link, msg });
                if let Body::Nvec(asked) = &message.body
                    && asked.kind == NvecKind::Get
                {
                    self.send(link, asked, out);
                }
            }
            _ => {}
        }
    }

    fn send(&mut self, link: LinkId, asked: &Nvec, out: &mut Vec<Command>) {
        let online = |note: &Note| Note { fid: note.fid, state: ObjectState::Online };
        let notes = asked.notes.iter().map(online).collect();
        let (kind, id_of_get, ignore_same_state) = (NvecKind::Set, asked.id_of_get, 1);
        let nvec = Box::new(Nvec { kind, id_of_get, ignore_same_state, notes });
        let message = Arc::new(Message::new(WallClock(1), Body::Nvec(nvec)));
        let purpose = Purpose::States;
        out.push(Command::Send { send: self.sends.mint(), to: [link].into(), message, purpose });
    }
}

/// Runs `client` while the endpoint serves at the address that it gets.
async fn with_endpoint<T>(client: impl AsyncFnOnce(SocketAddr) -> T) -> T {
    let (listener, address) = listener().await;
    let mut endpoint = Endpoint::new(wire::Config::new(address, wall().0, 1));
    let mut bridge = Bridge { asked: 0, sends: SendId(0) };
    let machine = |now: Now, input: wire::Input, out: &mut Vec<net::Command>| {
        let mut inputs = vec![input];
        loop {
            let mut next = None;
            let mut commands = Vec::new();
            for input in inputs.drain(..) {
                let mut said = Vec::new();
                next = Some(endpoint.handle(now, input, &mut said));
                for output in said {
                    match output {
                        wire::Output::Net(command) => out.push(command),
                        wire::Output::Motr(event) => bridge.answer(event, &mut commands),
                        wire::Output::Fact(_) => {}
                    }
                }
            }
            if commands.is_empty() {
                return next.unwrap();
            }
            inputs.extend(commands.into_iter().map(wire::Input::Motr));
        }
    };
    let serve = async {
        serve::<Tokio>(listener, 100, machine).await;
        unreachable!("the endpoint serves for ever")
    };
    or(client(address), serve).await
}

struct Ended {
    code: i32,
    lines: Vec<Value>,
    error: String,
}

async fn ham(connect: SocketAddr, args: &[&str], stdin: &str) -> Ended {
    // Each call has its own address: two concurrent calls could get the same free port.
    static CALLS: AtomicU16 = AtomicU16::new(1);
    let [high, low] = CALLS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let own = SocketAddr::from(([127, 77, high, low], 22_001));
    let mut command = tokio::process::Command::new(common::hax::HAX);
    let name = |address: SocketAddr| format!("inet:stream:{}@{}", address.ip(), address.port());
    command.args(["ham", "--connect", &name(connect), "--listen", &name(own)]);
    command.args(["--fid", "0x7200000000000001:0x4"]).args(args).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(stdin.as_bytes()).await.unwrap();
    drop(input);
    let output = child.wait_with_output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    Ended {
        code: output.status.code().unwrap(),
        lines: text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        error: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ended {
    fn find(&self, event: &str) -> &Value {
        let found = self.lines.iter().find(|line| line["event"] == event);
        found.unwrap_or_else(|| panic!("no {event} in {:#?}", self.lines))
    }
}

#[test]
fn a_process_lives_a_whole_life() {
    run(async {
        let ended = with_endpoint(async |to| {
            let commands = [
                "entrypoint",
                "process starting",
                "process started",
                "nvec-get 0x7200000000000001:0x4 0x6400000000000001:0x5",
                "wait-message nvec",
                "process stopped",
            ];
            ham(to, &commands, "").await
        })
        .await;
        assert_eq!(ended.code, 0, "{:#?} {}", ended.lines, ended.error);
        // The first reply is a refusal.
        assert_eq!(ended.find("entrypoint")["control"], "query");
        let second =
            ended.lines.iter().filter(|line| line["event"] == "entrypoint").nth(1).unwrap();
        assert_eq!((&second["control"], &second["quorum"]), (&"consume".into(), &1.into()));
        assert_eq!(second["confds"][0]["fid"], "0x7200000000000001:0x4");
        let heard = ended.find("message");
        assert_eq!(heard["notes"][1]["fid"], "0x6400000000000001:0x5");
        assert_eq!(heard["notes"][1]["state"], "ONLINE");
        let delivered = ended.lines.iter().filter(|line| line["event"] == "delivered").count();
        assert_eq!(delivered, 4);
        assert_eq!(ended.lines.last().unwrap()["event"], "stopped");
    });
}

#[test]
fn fifty_processes_start_at_once() {
    run(async {
        let codes = with_endpoint(async |to| {
            let mut all = tokio::task::JoinSet::new();
            for n in 0..50 {
                let fid = format!("0x7200000000000001:{n:#x}");
                all.spawn(async move {
                    let commands = ["--fid", &fid, "entrypoint", "process started", "failvec"];
                    ham(to, &commands, "").await.code
                });
            }
            all.join_all().await
        })
        .await;
        assert_eq!(codes, [0; 50]);
    });
}

#[test]
fn commands_come_from_standard_input_too() {
    run(async {
        let text = "# a comment\n\nentrypoint\n  stob-ioq  \nwait-delivered\n";
        let ended = with_endpoint(async |to| ham(to, &[], text).await).await;
        assert_eq!(ended.code, 0, "{:#?} {}", ended.lines, ended.error);
        ended.find("delivered");
        let ended = with_endpoint(async |to| ham(to, &[], "wait 1\nfrobnicate\n").await).await;
        assert_eq!(ended.code, 2);
        assert!(ended.error.contains("line 2") && ended.error.contains("frobnicate"));
    });
}

#[test]
fn exit_codes_tell_what_was_wrong() {
    run(async {
        let to = nobody().await;
        let ended = ham(to, &["nonsense"], "").await;
        assert_eq!(ended.code, 2, "{}", ended.error);
        assert!(ended.error.contains("command \"nonsense\""), "{}", ended.error);
        let ended = ham(to, &["--timeout", "200ms", "entrypoint"], "").await;
        assert_eq!((ended.code, &ended.find("timed-out")["waiting"]), (1, &"Entrypoint".into()));
        assert_eq!(ended.find("not-connected")["to"], to.to_string());
        let (shut, at) = listener().await;
        tokio::spawn(async move { while shut.accept().await.is_ok() {} });
        let ended = ham(at, &["--timeout", "200ms", "entrypoint"], "").await;
        assert_eq!(ended.find("disconnected")["why"], "closed by the peer");
        let ended = ham(to, &["--connect", "inet:tcp:127.0.0.1@1", "stop"], "").await;
        assert_eq!(ended.code, 2, "{}", ended.error);
        assert!(ended.error.contains("libfabric"), "{}", ended.error);
        let (taken, at) = listener().await;
        let own = format!("inet:stream:127.0.0.1@{}", at.port());
        let ended = ham(to, &["--listen", &own, "stop"], "").await;
        assert_eq!(ended.code, 3, "{}", ended.error);
        assert!(ended.error.contains(&at.to_string()), "{}", ended.error);
        assert!(ended.error.contains("--listen") && !ended.error.contains("Consul"));
        drop(taken);
        tokio::time::sleep(Duration::from_millis(1)).await;
    });
}
