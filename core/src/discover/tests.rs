use alloc::vec;

use super::*;
use crate::consul::port::{Call, Command};

const ENTRY: &str = r#"[{"Node": "ssu1:1", "Address": "10.0.0.1", "ServiceID": "4",
    "ServiceAddress": "inet:stream:10.0.0.1", "ServicePort": 22001,
    "ServiceMeta": {"http_port": "8009"}, "ModifyIndex": 7}]"#;

/// Runs a discovery with a response for each target. Returns the identity and the requested targets.
fn ask(config: Config, answer: impl Fn(&str) -> (u16, &'static str)) -> (Identity, Vec<String>) {
    let mut discovery = Discovery::new(config);
    let (mut asked, mut input) = (vec![], Input::Tick);
    loop {
        let mut out = vec![];
        if discovery.handle(Now::default(), input, &mut out) == Next::Exit {
            return (discovery.into_result().unwrap(), asked);
        }
        let call = out.into_iter().find_map(|output| {
            let Output::Consul(Command::Call(call)) = output else { return None };
            Some(call)
        });
        let Call { id, target, .. } = *call.unwrap();
        let (status, body) = answer(&target);
        asked.push(target);
        let body = Bytes::from_static(body.as_bytes());
        input = Input::Consul(Reply { id, result: Ok(Answer { status, index: 1, body }) });
    }
}

fn tls(status: u16, value: &'static str) -> Option<TlsFiles> {
    let config = Config { node: Some("ssu1".into()), ask_tls: true, ..Config::default() };
    let (found, asked) = ask(config, |target| match target {
        "/v1/catalog/service/hax" => (200, ENTRY),
        _ => (status, value),
    });
    assert_eq!(asked, ["/v1/catalog/service/hax", "/v1/kv/ssl/hax?raw"]);
    assert_eq!((&*found.http_host, found.http_port), ("10.0.0.1", 8009));
    found.http_tls
}

#[test]
fn the_key_says_whether_http_is_served_by_tls() {
    let https = r#"{"http_protocol": "https", "cert_path": "/c", "key_path": "/k"}"#;
    let files = TlsFiles { cert: "/c".into(), key: "/k".into() };
    assert_eq!(tls(200, https), Some(files));
    assert_eq!(tls(200, r#"{"http_protocol": "http"}"#), None);
    assert_eq!(tls(404, ""), None);
    assert_eq!(tls(200, "nonsense"), None);
}

/// Runs a discovery of services. Returns the services and the reported errors.
fn services(answers: &[&'static str]) -> (Option<Services>, Vec<Box<str>>) {
    let config = Config {
        node: Some("ssu1".into()),
        fid: Some(Fid::process(5)),
        motr_endpoint: Some("inet:tcp:10.0.0.1@22001".into()),
        http: Some(("h".into(), 1)),
        ask_services: true,
        ..Config::default()
    };
    let mut discovery = Discovery::new(config);
    let (mut wrong, mut input, mut now) = (vec![], Input::Tick, Now::default());
    let mut answers = answers.iter();
    loop {
        let mut out = vec![];
        match discovery.handle(now, input, &mut out) {
            Next::Exit => return (discovery.into_result().unwrap().services, wrong),
            Next::WaitUntil { at, .. } => now.mono = at,
            Next::Wait => {}
        }
        input = Input::Tick;
        for output in out {
            if let Output::Consul(Command::Call(call)) = output {
                let expected = "/v1/kv/m0conf/nodes/ssu1/processes/5/services/?recurse";
                assert_eq!(call.target, expected);
                let body = *answers.next().unwrap();
                let status = if body.is_empty() { 404 } else { 200 };
                let body = Bytes::from_static(body.as_bytes());
                let result = Ok(Answer { status, index: 1, body });
                input = Input::Consul(Reply { id: call.id, result });
            } else if let Output::Fact(Fact::ConsulFailed { why, .. }) = output {
                wrong.push(why);
            }
        }
    }
}

#[test]
fn services_have_the_numbers_that_hare_gave_them_and_are_waited_for() {
    const HA: &str = r#"[{"Key": "m0conf/nodes/ssu1/processes/5/services/ha", "Value": "MTI=",
        "ModifyIndex": 1}]"#;
    const BOTH: &str = r#"[{"Key": "m0conf/nodes/ssu1/processes/5/services/ha", "Value": "MTI=",
        "ModifyIndex": 1}, {"Key": "m0conf/nodes/ssu1/processes/5/services/rms",
        "Value": "MTc=", "ModifyIndex": 1}]"#;
    let found = Services { ha: Fid::service(12), rm: Fid::service(17) };
    assert_eq!(services(&[BOTH]), (Some(found), vec![]));
    let (late, wrong) = services(&["", HA, BOTH]);
    assert_eq!(late, Some(found));
    assert!(wrong[0].contains("m0conf/nodes/ssu1/processes/5/services/ha"), "{wrong:?}");
    assert!(wrong[0].contains("0x7200000000000001:0x5 hax's process (--fid)"), "{wrong:?}");
    assert!(wrong[1].contains("processes/5/services/rms"), "{wrong:?}");
}

#[test]
fn what_is_given_is_not_asked_for() {
    let config = Config {
        node: Some("ssu1".into()),
        fid: Some(Fid::process(4)),
        motr_endpoint: Some("inet:stream:10.0.0.1@22001".into()),
        http: Some(("h".into(), 1)),
        ..Config::default()
    };
    let (found, asked) = ask(config, |_| unreachable!());
    assert_eq!((found.fid, asked.len()), (Fid::process(4), 0));
}

/// Two entries of one node. The second one was written last.
const TWO: &str = r#"[
    {"Node": "ssu1:1", "Address": "10.0.0.1", "ServiceID": "4",
     "ServiceAddress": "inet:stream:10.0.0.1", "ServicePort": 22001,
     "ServiceMeta": {"http_port": "8008"}, "ModifyIndex": 7},
    {"Node": "ssu1:1", "Address": "10.0.0.1", "ServiceID": "5",
     "ServiceAddress": "inet:stream:10.0.0.1", "ServicePort": 22009,
     "ServiceMeta": {"http_port": "8009"}, "ModifyIndex": 9}]"#;

fn of_two(fid: Option<Fid>) -> (Fid, Box<str>, u16) {
    let config = Config { node: Some("ssu1".into()), fid, ..Config::default() };
    let (found, _) = ask(config, |_| (200, TWO));
    (found.fid, found.endpoint, found.http_port)
}

#[test]
fn f13_the_fid_that_is_given_chooses_the_whole_entry() {
    let (old, new) = (Fid::process(4), Fid::process(5));
    assert_eq!(of_two(Some(old)), (old, "inet:stream:10.0.0.1@22001".into(), 8008));
    for fid in [Some(new), None] {
        assert_eq!(of_two(fid), (new, "inet:stream:10.0.0.1@22009".into(), 8009));
    }
}

#[test]
fn f13_a_fid_without_an_entry_is_an_error_that_says_which_there_are() {
    let fid = Some(Fid::process(6));
    let mut discovery =
        Discovery::new(Config { node: Some("ssu1".into()), fid, ..Config::default() });
    let mut out = vec![];
    let _ = discovery.handle(Now::default(), Input::Tick, &mut out);
    let body = Bytes::from_static(TWO.as_bytes());
    let result = Ok(Answer { status: 200, index: 1, body });
    let reply = Input::Consul(Reply { id: CallId::first(1), result });
    assert!(matches!(discovery.handle(Now::default(), reply, &mut out), Next::WaitUntil { .. }));
    let why = out.iter().find_map(|output| {
        let Output::Fact(Fact::ConsulFailed { why, .. }) = output else { return None };
        Some(why)
    });
    let why = why.unwrap();
    for part in
        ["0x7200000000000001:0x6", "(--fid)", "0x7200000000000001:0x4 and 0x7200000000000001:0x5"]
    {
        assert!(why.contains(part), "{why}");
    }
}

/// A restarted agent has a new name. An entry under its former name may have a larger index and remain for a
/// while.
#[test]
fn f13_the_entry_of_the_agent_that_lives_counts() {
    const LINGERS: &str = r#"[
        {"Node": "ssu1:2", "Address": "10.0.0.2", "ServiceID": "4",
         "ServiceAddress": "inet:stream:10.0.0.2", "ServicePort": 22001, "ModifyIndex": 7},
        {"Node": "ssu1:1", "Address": "10.0.0.1", "ServiceID": "4",
         "ServiceAddress": "inet:stream:10.0.0.1", "ServicePort": 22001, "ModifyIndex": 9}]"#;
    let answer = |target: &str| match target {
        "/v1/agent/self" => (200, r#"{"Config": {"NodeName": "ssu1:2"}}"#),
        _ => (200, LINGERS),
    };
    for node in [None, Some("ssu1".into())] {
        let (found, asked) = ask(Config { node, ..Config::default() }, answer);
        assert_eq!((&*found.node, &*found.http_host), ("ssu1", "10.0.0.2"), "{asked:?}");
    }
    // Without the agent's name the newest entry counts.
    let node = Some("ssu1".into());
    let (found, _) = ask(Config { node, ..Config::default() }, |target| match target {
        "/v1/agent/self" => (403, "Permission denied"),
        _ => (200, LINGERS),
    });
    assert_eq!(&*found.http_host, "10.0.0.1");
}
