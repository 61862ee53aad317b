//! Events on routes of Google Cloud, against a fake of Compute Engine. Each request is checked against
//! Google's own description of the API.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::compute::{Compute, Manner, TOKEN, route};
use super::discovery::Discovery;
use super::http::{Answer, Server};
use super::python::{self, Python};
use super::{detail, handler};
use crate::hax::HAX;
use crate::router::{Router, said};

const NODE: &str = "-p gcp -g p -r 192.0.2.0/24 -v net";

/// Starts a router whose event handlers reach this fake.
fn router(name: &str, compute: &Compute) -> Router {
    let mut router = Router::new(name);
    let mut command = router.command(HAX, "route serve --log-level trace");
    command.env("HAX_GCP_URL", compute.url()).env("GCE_METADATA_HOST", compute.authority());
    router.serve_by(command);
    router.ok(&format!("create_node -i 1 {NODE} -a own -b peer -n 10.0.0.2 -o 200"));
    router
}

/// Checks all requests for routes against Google's description, if it is there.
fn check(compute: &Compute) {
    if !python::available() {
        return;
    }
    let discovery = Discovery::read();
    let asked = compute.asked();
    let requests = asked.iter().filter(|asked| asked.path().starts_with("/compute/"));
    assert!(requests.clone().count() > 0);
    requests.for_each(|asked| discovery.check(asked));
}

#[test]
fn r12_r13_r14_gcp_events_of_a_secondary_and_of_a_primary() {
    for manner in [Manner::default(), Manner { is_slow: true, ..Manner::default() }] {
        let compute = Compute::start(manner);
        let router = router("gcp", &compute);
        let event = |event: &str| router.ok(&format!("node_event -i 1 -e {event}"));
        assert!(event("peerFail").contains("the peer's route peer was deleted"));
        assert_eq!(compute.names(), ["own"]);
        assert!(event("peerFail").contains("is not there"));
        assert!(event("revert").contains("is there already"));
        compute.remove("own");
        assert!(event("revert").contains("was inserted"), "a revert restores either's own route");
        let own = compute.find("own").unwrap();
        assert_eq!((&own["priority"], &own["nextHopIp"]), (&json!(200), &json!("10.0.0.2")));
        compute.put("peer", route("peer", "10.0.0.1", 100));
        router.ok("set_params -i 1 -m primary");
        event("peerFail");
        assert_eq!(compute.names(), ["own", "peer"], "a primary has nothing to do");
        compute.put("own", route("own", "10.0.0.7", 200));
        let (code, text) = router.run("node_event -i 1 -e revert");
        assert!(code == 7 && text.contains("its nextHopIp is 10.0.0.7 and not 10.0.0.2"), "{text}");
        check(&compute);
    }
}

#[test]
fn r15_gcp_a_verify_inserts_and_deletes_a_route_and_changes_no_other() {
    for manner in [Manner::default(), Manner { is_slow: true, ..Manner::default() }] {
        let compute = Compute::start(manner);
        let router = router("gcp-verify", &compute);
        let before = [compute.find("own"), compute.find("peer")];
        assert!(router.ok("node_event -i 1 -e verify").contains("can be inserted and deleted"));
        assert_eq!([compute.find("own"), compute.find("peer")], before);
        // One that was killed in the middle leaves its route behind, and the next one deletes it.
        compute.put("hax-verify-own", route("hax-verify-own", "10.0.0.2", 65_535));
        router.ok("node_event -i 1 -e verify");
        compute.remove("peer");
        router.ok("node_event -i 1 -e verify");
        assert_eq!(compute.names(), ["own"]);
        check(&compute);
    }
}

#[test]
fn r15_gcp_a_verify_fails_where_writing_is_denied() {
    for (manner, says) in [
        (Manner { refuses_deletes: true, ..Manner::default() }, "compute.routes.delete is not"),
        (Manner { refuses_inserts: true, ..Manner::default() }, "compute.routes.create"),
    ] {
        let compute = Compute::start(manner);
        let router = router("gcp-denied", &compute);
        let (code, text) = router.run("node_event -i 1 -e verify");
        assert!(code == 7 && text.contains(says), "{text}");
        assert_eq!(compute.names(), ["own", "peer"]);
        let (code, text) = router.run("node_event -i 1 -e peerFail");
        assert_eq!(code == 7, manner.refuses_deletes, "{text}");
    }
}

#[test]
fn r12_gcp_limits_of_the_rate_pass_and_an_operation_s_error_does_not() {
    let compute = Compute::start(Manner { limits: 3, is_slow: true, ..Manner::default() });
    let router = router("gcp-limits", &compute);
    router.ok("node_event -i 1 -e peerFail");
    assert_eq!(compute.names(), ["own"]);
    for is_slow in [false, true] {
        compute.put("peer", route("peer", "10.0.0.1", 100));
        compute.set(Manner { fails: true, is_slow, ..Manner::default() });
        let (code, text) = router.run("node_event -i 1 -e peerFail");
        assert!(code == 7 && text.contains("QUOTA_EXCEEDED"), "{text}");
    }
    check(&compute);
}

#[test]
fn r12_gcp_the_machine_s_token_is_kept_in_the_server_s_memory_and_nowhere_else() {
    let compute = Compute::start(Manner::default());
    let router = router("gcp-token", &compute);
    let mut texts: Vec<String> = (0..3).map(|_| router.ok("node_event -i 1 -e verify")).collect();
    let logins = compute.asked().iter().filter(|asked| asked.path().contains("/token")).count();
    assert_eq!(logins, 1);
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
        assert!(!text.contains(TOKEN), "{text}");
    }
}

#[test]
fn r12_gcp_a_service_account_signs_what_its_public_key_verifies() {
    let compute = Compute::start(Manner::default());
    let router = Router::new("gcp-account");
    let openssl = |args: &[&str]| {
        let (code, text) = said(Command::new("openssl").args(args).current_dir(router.folder()));
        assert_eq!(code, 0, "{text}");
        text
    };
    openssl(&[
        "genpkey",
        "-algorithm",
        "RSA",
        "-pkeyopt",
        "rsa_keygen_bits:2048",
        "-out",
        "key.pem",
    ]);
    openssl(&["pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"]);
    let key = fs::read_to_string(router.folder().join("key.pem")).unwrap();
    let account = json!({ "type": "service_account", "client_email": "router@p.iam", "private_key": key,
        "token_uri": format!("{}/token", compute.url()) });
    let file = router.folder().join("account.json");
    fs::write(&file, account.to_string()).unwrap();
    let url = compute.url();
    let env = [("HAX_GCP_URL", &*url), ("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().unwrap())];
    let (result, text) = handler(&job("verify", "write_back"), &env);
    assert_eq!(result["outcome"], "written_back", "{result}");
    assert!(!text.contains("PRIVATE KEY"));
    let asked = compute.asked();
    let login = asked.iter().find(|asked| asked.path() == "/token").unwrap();
    let assertion = login.body.split_once("assertion=").unwrap().1;
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    fs::write(router.folder().join("signed"), signed).unwrap();
    fs::write(router.folder().join("signature"), decode(signature)).unwrap();
    let verify = ["dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "signed"];
    assert!(openssl(&verify).contains("Verified OK"));
    let claims: serde_json::Value =
        serde_json::from_slice(&decode(signed.split_once('.').unwrap().1)).unwrap();
    assert_eq!(claims["iss"], "router@p.iam");
    assert_eq!(claims["aud"], format!("{url}/token"));
    for (content, says) in [
        ("{}", "no key file"),
        ("{\"client_email\":\"a\",\"private_key\":\"s3cret\"}", "private_key"),
    ] {
        fs::write(&file, content).unwrap();
        let (result, text) = handler(&job("verify", "write_back"), &env);
        assert!(detail(&result).contains(says) && !text.contains("s3cret"), "{result}");
    }
}

fn decode(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
}

fn job(event: &str, response: &str) -> serde_json::Value {
    json!({
        "event": event, "response": response, "provider": "gcp", "mode": "secondary",
        "parameters": { "project": "p", "routeName": "own", "peerRouteName": "peer", "vpc": "net",
            "nextHopIp": "10.0.0.2", "hopPriority": "200", "route": "192.0.2.0/24" },
        "within_ms": 5_000,
    })
}

#[test]
fn r21_gcp_faults_of_the_network_are_failures_in_time() {
    let token = json!({ "access_token": TOKEN, "expires_in": 60 });
    for (name, answer, says) in [
        ("hang", Answer::Hang, "no reply within"),
        ("half", Answer::Half, "breaks off"),
        ("garbage", Answer::Garbage, "reading the route"),
        ("megabytes", Answer::Megabytes, "more than"),
        ("no route", Answer::new(200, "[]"), "the reply is no route"),
        ("a page", Answer::new(404, "<html>"), "status 404"),
        ("limited", Answer::new(503, "").with("Retry-After", "3600"), "status 503"),
    ] {
        let token = token.clone();
        let server = Server::start(move |asked| match asked.path() {
            path if path.starts_with("/computeMetadata/") => {
                Answer::json(200, &token).with("Metadata-Flavor", "Google")
            }
            _ => answer.clone(),
        });
        let (url, authority) = (server.url(), server.authority());
        let env = [("HAX_GCP_URL", &*url), ("GCE_METADATA_HOST", &*authority)];
        let mut job = job("peerFail", "update");
        job["within_ms"] = json!(2_000);
        let clock = hax_driver::host::clock::Clock::new();
        let (result, _) = handler(&job, &env);
        let took = Duration::from_micros(clock.now().mono.as_micros());
        assert!(took < Duration::from_secs(6), "{name}: {took:?}");
        assert!(detail(&result).contains(says), "{name}: {result}");
    }
}

#[test]
fn google_s_own_sdk_works_with_the_fake() {
    if !python::available() {
        return;
    }
    for is_slow in [false, true] {
        let compute = Compute::start(Manner { is_slow, ..Manner::default() });
        let mut sdk = Python::start("vendors.py", &["gcp", &compute.url(), TOKEN]);
        let found = sdk.read();
        assert_eq!(found["hop"], "10.0.0.1");
        let network = "https://www.googleapis.com/compute/v1/projects/p/global/networks/net";
        assert_eq!(found["inserted"], network);
        assert_eq!(found["permissions"], json!(["compute.routes.delete", "compute.routes.get"]));
        assert_eq!((&found["again"], &found["missing"]), (&json!(409), &json!(404)));
        assert!(sdk.ends());
        assert_eq!(compute.names(), ["own", "peer"]);
    }
}
