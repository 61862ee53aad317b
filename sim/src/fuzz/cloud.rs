//! Fuzzing of the clouds' replies: the work of an event, and the credentials.

use std::time::Duration;

use hax_core::route::cloud::http::{Ask, Method, Place, Reply};
use hax_core::route::cloud::{self, Step, aws, azure, gcp};
use hax_core::route::job::{Done, Job, Outcome};
use serde_json::json;

use super::script::Script;

/// The maximum number of replies in one run.
const REPLIES: usize = 64;

/// The maximum length of the text of a result, in characters.
const TEXT_MAX: usize = 3_000;

/// The status codes that the bytes choose from.
const STATUSES: [u16; 12] = [200, 201, 202, 204, 400, 401, 403, 404, 409, 412, 429, 503];

/// Answers the requests of one event with the bytes. The first byte chooses the provider and the response. A
/// byte 255 ends each part of the rest. A part is a reply: a byte for its status, a byte for its header
/// fields, and the body. The work has to end or ask, and claims no write that it has not seen.
///
/// # Panics
///
/// If a rule does not hold.
pub fn cloud(data: &[u8]) {
    let mut script = Script(data);
    if script.is_over() {
        return;
    }
    let kind = script.byte();
    let job = job(kind);
    let base = cloud::base(&job).expect("a cloud");
    let mut work = cloud::work(&job, &base, 1).expect("all parameters");
    let (mut step, mut writes) = (work.begin(), 0);
    for _ in 0..REPLIES {
        let ask = match step {
            Step::Over(done) => return check_done(&done, writes),
            Step::Ask(ask) => ask,
        };
        writes += u32::from(is_write(&ask));
        check(&ask);
        if script.is_over() {
            return;
        }
        let reply = reply(&base, script.until(0xff));
        let _ = (cloud::may_pass(job.provider, &reply), cloud::is_unknown(job.provider, &reply));
        credentials(&reply);
        step = match work.on_reply(&reply) {
            Ok(step) => step,
            Err(why) => return check_text(&why),
        };
    }
}

fn job(kind: u8) -> Job {
    let response = ["update", "update_if_different", "write_back"][usize::from(kind) % 3];
    let all = kind & 0x40 == 0;
    let (provider, mut parameters) = match (kind / 3) % 3 {
        0 => (
            "aws",
            json!({ "routeTableId": "rtb-12345678", "region": "eu-west-1", "eniId": "eni-12345678" }),
        ),
        1 => (
            "azure",
            json!({ "routeTableName": "t", "nextHop": "10.0.0.2", "subscriptionId": "s",
                "resourceGroup": "g" }),
        ),
        _ => (
            "gcp",
            json!({ "project": "p", "routeName": "own", "peerRouteName": "peer", "vpc": "net",
                "nextHopIp": "10.0.0.2", "hopPriority": "100" }),
        ),
    };
    if all || provider == "gcp" {
        parameters["route"] = json!("192.0.2.0/24");
    }
    let mut job = json!({ "event": "verify", "response": response, "provider": provider,
        "mode": "primary", "parameters": parameters });
    if kind & 0x80 != 0 {
        job["fence"] = json!({ "key": "ha/route/edge", "session": "s", "term": 7 });
    }
    serde_json::from_value(job).expect("a job")
}

fn reply(base: &str, part: &[u8]) -> Reply {
    let (status, flags, body) = match part {
        [status, flags, body @ ..] => (*status, *flags, body),
        [status] => (*status, 0, &[][..]),
        [] => (0, 0, &[][..]),
    };
    let own = format!("{base}/operations/1");
    let fields = [
        ("retry-after", "7"),
        ("azure-asyncoperation", &own),
        ("location", &own),
        ("azure-asyncoperation", "https://evil.example/x"),
        ("retry-after", "99999999999999999999"),
    ];
    let chosen = fields.into_iter().enumerate().filter(|(nth, _)| flags >> nth & 1 == 1);
    let headers = chosen.map(|(_, (name, value))| (name.into(), value.into())).collect();
    let status = STATUSES[usize::from(status) % STATUSES.len()];
    Reply { status, headers, body: body.to_vec().into() }
}

fn is_write(ask: &Ask) -> bool {
    let is_aws = ask.what == "ReplaceRoute";
    is_aws || matches!(ask.method, Method::Put | Method::Delete) || ask.target.contains("requestId")
}

fn check(ask: &Ask) {
    assert!(ask.target.starts_with('/'), "{}", ask.target);
    assert!(ask.target.bytes().all(|byte| byte.is_ascii_graphic()), "{:?}", ask.target);
    assert!(ask.target.len() < 8_192, "{} bytes", ask.target.len());
    for (name, value) in &ask.headers {
        assert!(value.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{name}: {value:?}");
    }
    assert!(ask.after <= Duration::from_secs(60), "{:?}", ask.after);
    assert_eq!(ask.place, Place::Api, "the job says all about this machine");
}

fn check_done(done: &Done, writes: u32) {
    check_text(&done.detail);
    let needs_write = matches!(done.outcome, Outcome::Updated | Outcome::WrittenBack);
    assert!(!needs_write || writes > 0, "{done:?} without a write");
}

fn check_text(text: &str) {
    assert!(text.chars().count() <= TEXT_MAX, "{} characters", text.chars().count());
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

/// Reads the reply as credentials of each kind.
fn credentials(reply: &Reply) {
    let text = String::from_utf8_lossy(&reply.body);
    let texts = [
        aws::credentials::read_session(reply).err(),
        aws::credentials::read_role(reply).err(),
        aws::credentials::read_of_role(reply).err(),
        aws::credentials::of_file(&text, "default").err(),
        azure::login::read(reply).err(),
        gcp::login::read(reply).err(),
    ];
    texts.iter().flatten().for_each(|text| check_text(text));
    if let Ok(account) = gcp::login::of_file(&text) {
        let (base, path) = account.place();
        assert_eq!(
            format!("{base}{path}").trim_end_matches('/'),
            account.token_uri.trim_end_matches('/')
        );
    }
}
