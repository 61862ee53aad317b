//! Events on routes of Azure, against a fake of its Resource Manager.

use std::fs;
use std::time::Duration;

use serde_json::json;

use super::arm::{Arm, KEY, Manner, TOKEN};
use super::http::Server;
use super::python::{self, Python};
use super::{detail, handler};
use crate::hax::HAX;
use crate::router::{Router, said};

const PLACE: &str = "-s sub -g grp";

/// Starts a router whose event handlers reach this fake.
fn router(name: &str, arm: &Arm) -> Router {
    let mut router = Router::new(name);
    let mut command = router.command(HAX, "route serve --log-level trace");
    for variable in ["HAX_AZURE_URL", "HAX_AZURE_METADATA_URL", "HAX_AZURE_LOGIN_URL"] {
        command.env(variable, arm.url());
    }
    command.env("APP_KEY", KEY).env("WRONG_KEY", "wrong-s3cret");
    router.serve_by(command);
    router
}

#[test]
fn r12_r13_r14_r15_azure_events_on_one_route() {
    for manner in [Manner::default(), Manner { is_slow: true, ..Manner::default() }] {
        let arm = Arm::start(manner);
        let router = router("azure-one", &arm);
        let create = "create_node -p azure -t edge";
        router.ok(&format!("{create} -i 1 -r 192.0.2.0/24 -n 10.0.0.2 {PLACE}"));
        router.ok(&format!("{create} -i 2 -r 2001:db8:7::/48 -n fd00::2"));
        for (index, nth, other, own) in
            [(1, 0, "10.0.0.1", "10.0.0.2"), (2, 1, "fd00::1", "fd00::2")]
        {
            let event = |event: &str| router.ok(&format!("node_event -i {index} -e {event}"));
            assert!(event("verify").contains("can be updated"));
            event("revert");
            assert_eq!(arm.leads(nth), other, "neither a verify nor a secondary's revert moves it");
            assert!(event("peerFail").contains(&format!("led to {other} and leads to {own} now")));
            assert_eq!(arm.leads(nth), own);
            event("peerFail");
            arm.give_away(nth, other);
            router.ok(&format!("set_params -i {index} -m primary"));
            event("revert");
            assert_eq!(arm.leads(nth), own);
            assert!(event("revert").contains("already"));
        }
        assert_eq!(arm.leads(2), "nowhere", "r03: no other route");
    }
}

#[test]
fn r12_r13_r14_r15_azure_events_on_all_routes() {
    for manner in [Manner::default(), Manner { is_slow: true, ..Manner::default() }] {
        let arm = Arm::start(manner);
        let router = router("azure-all", &arm);
        router.ok(&format!("create_node -p azure -t edge -i 1 -n 10.0.0.2 {PLACE}"));
        let event = |event: &str| router.ok(&format!("node_event -i 1 -e {event}"));
        let before = arm.table();
        assert!(event("verify").contains("2 routes to routers can be updated"));
        let plain = |mut table: serde_json::Value| {
            for route in table["properties"]["routes"].as_array_mut().unwrap() {
                drop(route.as_object_mut().unwrap().remove("id"));
            }
            table
        };
        assert_eq!(plain(arm.table()), before, "a verify changes nothing");
        assert!(event("peerFail").contains("2 of 2 routes"));
        let after = arm.table();
        let leads = [arm.leads(0), arm.leads(3), arm.leads(1)];
        assert_eq!(leads, ["10.0.0.2", "10.0.0.2", "fd00::1"], "IPv6 keeps its router");
        assert_eq!(after["tags"], before["tags"]);
        assert_eq!(after["properties"]["disableBgpRoutePropagation"], true);
        assert_eq!(after["properties"]["routes"][2]["properties"]["nextHopType"], "Internet");
        arm.give_away(0, "10.0.0.1");
        event("revert");
        assert_eq!(arm.leads(0), "10.0.0.1", "a secondary's revert does nothing");
        router.ok("set_params -i 1 -m primary");
        assert!(event("revert").contains("1 of 2 routes"));
        assert_eq!(arm.leads(0), "10.0.0.2");
        assert!(event("revert").contains("all 2 routes to routers lead to 10.0.0.2 already"));
    }
}

#[test]
fn r15_azure_a_verify_fails_where_writing_is_denied() {
    let arm = Arm::start(Manner { is_read_only: true, ..Manner::default() });
    let router = router("azure-denied", &arm);
    router.ok(&format!("create_node -p azure -t edge -i 1 -r 192.0.2.0/24 -n 10.0.0.2 {PLACE}"));
    router.ok(&format!("create_node -p azure -t edge -i 2 -n 10.0.0.2 {PLACE}"));
    for (index, event) in [(1, "verify"), (1, "peerFail"), (2, "verify"), (2, "peerFail")] {
        let (code, text) = router.run(&format!("node_event -i {index} -e {event}"));
        assert!(code == 7 && text.contains("status 403: AuthorizationFailed"), "{text}");
    }
    assert_eq!(arm.leads(0), "10.0.0.1");
}

#[test]
fn r12_azure_a_success_by_status_that_is_a_failure_by_state_is_a_failure() {
    for is_slow in [false, true] {
        let arm = Arm::start(Manner { fails: true, is_slow, ..Manner::default() });
        let router = router("azure-failed", &arm);
        router
            .ok(&format!("create_node -p azure -t edge -i 1 -r 192.0.2.0/24 -n 10.0.0.2 {PLACE}"));
        let (code, text) = router.run("node_event -i 1 -e peerFail");
        assert!(code == 7 && text.contains("Failed"), "{text}");
    }
}

#[test]
fn r12_azure_limits_of_the_rate_and_other_writers_pass() {
    let arm = Arm::start(Manner { limits: 2, rivals: 2, ..Manner::default() });
    let router = router("azure-rivals", &arm);
    router.ok(&format!("create_node -p azure -t edge -i 1 -n 10.0.0.2 {PLACE}"));
    router.ok("node_event -i 1 -e peerFail");
    assert_eq!([arm.leads(0), arm.leads(3)], ["10.0.0.2", "10.0.0.2"]);
    arm.set(Manner { rivals: 100, ..Manner::default() });
    let (code, text) = router.run("node_event -i 1 -e verify");
    assert!(code == 7 && text.contains("changes faster than"), "{text}");
}

#[test]
fn r12_azure_an_application_logs_in_and_its_key_and_token_are_nowhere() {
    let arm = Arm::start(Manner::default());
    let router = router("azure-app", &arm);
    let file = router.folder().join("key");
    fs::write(&file, format!("{KEY}\n")).unwrap();
    let create = "create_node -p azure -t edge -r 192.0.2.0/24 -n 10.0.0.2 -a app -d tenant";
    let path = file.display();
    router.ok(&format!("{create} -i 1 {PLACE} -k env:APP_KEY"));
    router.ok(&format!("{create} -i 2 {PLACE} -k file:{path}"));
    router.ok(&format!("{create} -i 3 {PLACE} -k env:WRONG_KEY"));
    router.ok(&format!("{create} -i 4 {PLACE} -k env:NO_SUCH_KEY"));
    let mut texts = Vec::new();
    for index in [1, 2, 1, 2] {
        texts.push(router.ok(&format!("node_event -i {index} -e verify")));
    }
    let logins = arm.asked().iter().filter(|asked| asked.path().contains("/oauth2/")).count();
    assert_eq!(logins, 2, "one for each key");
    for (index, says) in [(3, "AADSTS7000215"), (4, "no environment variable NO_SUCH_KEY")] {
        let (code, text) = router.run(&format!("node_event -i {index} -e verify"));
        assert!(code == 7 && text.contains(says), "{text}");
        texts.push(text);
    }
    // A token that is refused is obtained anew.
    arm.set(Manner { has_new_token: true, ..Manner::default() });
    texts.push(router.run("node_event -i 1 -e verify").1);
    let logins = arm.asked().iter().filter(|asked| asked.path().contains("/oauth2/")).count();
    assert_eq!(logins, 4);
    texts.push(router.ok("show_node"));
    texts.push(said(&mut router.command(HAX, "route status --json")).1);
    texts.push(router.said());
    for entry in fs::read_dir(router.dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            texts.push(String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned());
        }
    }
    for text in texts {
        assert!(![KEY, TOKEN, "wrong-s3cret"].iter().any(|secret| text.contains(secret)), "{text}");
    }
}

#[test]
fn a_whole_table_of_azure_refuses_a_router_of_an_older_term() {
    let arm = Arm::start(Manner::default());
    let url = arm.url();
    let env = [("HAX_AZURE_URL", &*url), ("HAX_AZURE_METADATA_URL", &*url)];
    let job = |hop: &str, key: &str, term: u64| {
        json!({
            "event": "peerFail", "response": "update", "provider": "azure", "mode": "secondary",
            "parameters": { "routeTableName": "edge", "nextHop": hop },
            "fence": { "key": key, "session": "s", "term": term },
        })
    };
    assert_eq!(handler(&job("10.0.0.2", "ha/route/edge", 7), &env).0["outcome"], "updated");
    assert_eq!(arm.table()["tags"]["hax-term"], "7");
    assert_eq!(arm.table()["tags"]["owner"], "network team");
    let (result, _) = handler(&job("10.0.0.1", "ha/route/edge", 6), &env);
    assert_eq!((&result["outcome"], &result["term"]), (&json!("failed"), &json!(7)));
    assert!(detail(&result).contains("written in term 7 of ha/route/edge, and this is term 6"));
    let (result, _) = handler(&job("10.0.0.1", "ha/route/other", 9), &env);
    assert!(detail(&result).contains("not this node's"), "{result}");
    assert_eq!(arm.leads(0), "10.0.0.2");
    assert_eq!(handler(&job("10.0.0.1", "ha/route/edge", 8), &env).0["outcome"], "updated");
    assert_eq!(arm.leads(0), "10.0.0.1");
}

#[test]
fn r21_azure_faults_of_the_network_are_failures_in_time() {
    use super::http::Answer;
    let token = json!({ "access_token": TOKEN, "expires_in": "60" });
    for (name, answer, says) in [
        ("hang", Answer::Hang, "no reply within"),
        ("half", Answer::Half, "breaks off"),
        ("garbage", Answer::Garbage, "reading the route table"),
        ("megabytes", Answer::Megabytes, "more than"),
        ("no table", Answer::new(200, "[]"), "no route table of Azure"),
        ("limited", Answer::new(429, "").with("Retry-After", "3600"), "status 429"),
    ] {
        let token = token.clone();
        let server = Server::start(move |asked| match asked.path() {
            "/metadata/identity/oauth2/token" => Answer::json(200, &token),
            _ => answer.clone(),
        });
        let url = server.url();
        let env = [("HAX_AZURE_URL", &*url), ("HAX_AZURE_METADATA_URL", &*url)];
        let job = json!({
            "event": "peerFail", "response": "update", "provider": "azure", "mode": "secondary",
            "parameters": { "routeTableName": "t", "nextHop": "10.0.0.2", "subscriptionId": "s",
                "resourceGroup": "g" },
            "within_ms": 2_000,
        });
        let clock = hax_driver::host::clock::Clock::new();
        let (result, _) = handler(&job, &env);
        let took = Duration::from_micros(clock.now().mono.as_micros());
        assert!(took < Duration::from_secs(6), "{name}: {took:?}");
        assert!(detail(&result).contains(says), "{name}: {result}");
    }
}

#[test]
fn microsoft_s_own_sdk_works_with_the_fake() {
    if !python::available() {
        return;
    }
    for is_slow in [false, true] {
        let arm = Arm::start(Manner { is_slow, ..Manner::default() });
        let mut sdk = Python::start("vendors.py", &["azure", &arm.url(), TOKEN]);
        let found = sdk.read();
        assert_eq!(found["hop"], "10.0.0.1");
        assert_eq!(found["moved"], "10.0.0.9");
        assert_eq!(found["all"], json!(["10.0.0.8", "10.0.0.8", "10.0.0.8"]));
        assert_eq!(found["stale"], 412);
        assert_eq!(found["missing"], 404);
        assert!(sdk.ends());
        assert_eq!(arm.leads(0), "10.0.0.8");
    }
}
