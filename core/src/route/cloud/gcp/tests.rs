use alloc::collections::BTreeMap;
use alloc::string::ToString as _;

use serde_json::json;

use super::super::super::decide::Event;
use super::super::super::provider::Provider;
use super::super::may_pass;
use super::super::step::Work as _;
use super::*;

fn work(response: Response) -> Work {
    let all = [
        ("project", "p"),
        ("routeName", "own"),
        ("peerRouteName", "peer"),
        ("nextHopIp", "10.0.0.2"),
        ("hopPriority", "100"),
        ("route", "192.0.2.0/24"),
        ("vpc", "net"),
    ];
    let parameters: BTreeMap<Box<str>, Box<str>> =
        all.map(|(name, value)| (name.into(), value.into())).into();
    let (event, provider, mode) = (Event::PeerFail, Provider::Gcp, Mode::Secondary);
    let (fence, within_ms, token) = (None, None, None);
    let job = Job { event, response, provider, mode, parameters, fence, within_ms, token };
    Work::new(&job, 7).unwrap()
}

fn reply(status: u16, body: &Value) -> Reply {
    Reply { status, headers: Vec::new(), body: body.to_string().into() }
}

fn route(name: &str) -> Value {
    json!({ "kind": "compute#route", "name": name, "destRange": "192.0.2.0/24", "priority": 100,
        "network": "https://www.googleapis.com/compute/v1/projects/p/global/networks/net",
        "nextHopIp": "10.0.0.2" })
}

fn missing() -> Reply {
    reply(404, &json!({ "error": { "code": 404, "message": "not found" } }))
}

fn running() -> Reply {
    reply(200, &json!({ "name": "op/1", "status": "RUNNING" }))
}

fn ended() -> Reply {
    reply(200, &json!({ "name": "op-1", "status": "DONE" }))
}

fn asked(step: Result<Step, String>) -> (Method, String, Value) {
    match step {
        Ok(Step::Ask(ask)) => {
            (ask.method, ask.target, serde_json::from_str(&ask.body).unwrap_or_default())
        }
        other => panic!("no request: {other:?}"),
    }
}

fn over(step: Result<Step, String>) -> Done {
    match step {
        Ok(Step::Over(done)) => done,
        other => panic!("not over: {other:?}"),
    }
}

#[test]
fn r13_a_secondary_deletes_the_peer_s_route_and_sees_that_it_is_gone() {
    let mut work = work(Response::Update);
    let (method, target, _) = asked(Ok(work.begin()));
    assert_eq!((method, &*target), (Method::Get, "/compute/v1/projects/p/global/routes/peer"));
    let (method, target, _) = asked(work.on_reply(&reply(200, &route("peer"))));
    assert_eq!(method, Method::Delete);
    assert_eq!(
        target,
        "/compute/v1/projects/p/global/routes/peer?requestId=00000000-0000-4000-8000-000000000008"
    );
    let (method, target, _) = asked(work.on_reply(&running()));
    assert_eq!(method, Method::Post);
    assert_eq!(target, "/compute/v1/projects/p/global/operations/op%2F1/wait");
    let (_, target, _) = asked(work.on_reply(&ended()));
    assert!(target.ends_with("/routes/peer"), "{target}");
    assert_eq!(over(work.on_reply(&missing())).outcome, Outcome::Updated);
    let mut work = self::work(Response::Update);
    let _ = work.begin();
    assert_eq!(over(work.on_reply(&missing())).outcome, Outcome::Unchanged);
    let mut work = self::work(Response::Update);
    let _ = work.begin();
    let _ = work.on_reply(&reply(200, &route("peer")));
    let _ = work.on_reply(&ended());
    assert!(work.on_reply(&reply(200, &route("peer"))).unwrap_err().contains("read back"));
}

#[test]
fn r14_a_revert_inserts_the_own_route_where_it_is_missing() {
    let mut work = work(Response::UpdateIfDifferent);
    let _ = work.begin();
    let (method, target, body) = asked(work.on_reply(&missing()));
    assert_eq!(method, Method::Post);
    assert!(target.starts_with("/compute/v1/projects/p/global/routes?requestId="), "{target}");
    let wanted = json!({ "name": "own", "destRange": "192.0.2.0/24", "priority": 100,
        "network": "projects/p/global/networks/net", "nextHopIp": "10.0.0.2" });
    assert_eq!(body, wanted);
    let _ = work.on_reply(&ended());
    assert_eq!(over(work.on_reply(&reply(200, &route("own")))).outcome, Outcome::Updated);
    let mut work = self::work(Response::UpdateIfDifferent);
    let _ = work.begin();
    assert_eq!(over(work.on_reply(&reply(200, &route("own")))).outcome, Outcome::Unchanged);
}

#[test]
fn r14_a_route_that_is_another_one_is_told_field_by_field() {
    for (name, value) in [
        ("destRange", json!("192.0.3.0/24")),
        ("nextHopIp", json!("10.0.0.3")),
        ("nextHopIp", Value::Null),
        ("priority", json!(200)),
        ("network", json!("https://x/projects/p/global/networks/other")),
    ] {
        let mut work = work(Response::UpdateIfDifferent);
        let _ = work.begin();
        let mut found = route("own");
        found[name] = value;
        found.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let why = work.on_reply(&reply(200, &found)).unwrap_err();
        assert!(why.contains(name), "{name}: {why}");
    }
}

#[test]
fn r15_a_verify_asks_for_permissions_and_inserts_and_deletes_a_route() {
    let mut work = work(Response::WriteBack);
    let _ = work.begin();
    let (_, target, body) = asked(work.on_reply(&reply(200, &route("own"))));
    assert!(target.ends_with("/routes/peer/testIamPermissions"), "{target}");
    assert_eq!(body, json!({ "permissions": PERMISSIONS }));
    // The peer's route is not there, so the own one is asked about.
    let (_, target, _) = asked(work.on_reply(&missing()));
    assert!(target.ends_with("/routes/own/testIamPermissions"), "{target}");
    let granted = reply(200, &json!({ "permissions": PERMISSIONS }));
    let (method, _, body) = asked(work.on_reply(&granted));
    assert_eq!(
        (method, &body["name"], &body["priority"]),
        (Method::Post, &json!("hax-verify-own"), &json!(65_535))
    );
    // One that an earlier verify left behind is deleted.
    let (method, ..) = asked(work.on_reply(&reply(409, &json!({}))));
    assert_eq!(method, Method::Delete);
    let (method, ..) = asked(work.on_reply(&ended()));
    assert_eq!(method, Method::Post);
    let (method, ..) = asked(work.on_reply(&ended()));
    assert_eq!(method, Method::Delete);
    let (_, target, _) = asked(work.on_reply(&ended()));
    assert!(target.ends_with("/routes/own"), "{target}");
    assert_eq!(over(work.on_reply(&reply(200, &route("own")))).outcome, Outcome::WrittenBack);
}

#[test]
fn r15_a_verify_fails_where_writing_is_denied() {
    let begin = || {
        let mut work = work(Response::WriteBack);
        let _ = work.begin();
        let _ = work.on_reply(&reply(200, &route("own")));
        work
    };
    let reader = reply(200, &json!({ "permissions": ["compute.routes.get"] }));
    let why = begin().on_reply(&reader).unwrap_err();
    assert_eq!(why, "compute.routes.delete is not permitted on the route peer");
    assert!(begin().on_reply(&reply(200, &json!({}))).is_err());
    let mut work = begin();
    let _ = work.on_reply(&reply(200, &json!({ "permissions": PERMISSIONS })));
    let denied = json!({ "error": { "code": 403, "message": "Required compute.routes.create",
        "errors": [{ "reason": "forbidden" }] } });
    let why = work.on_reply(&reply(403, &denied)).unwrap_err();
    assert_eq!(why, "inserting the route: status 403: forbidden: Required compute.routes.create");
}

#[test]
fn an_operation_that_ends_with_an_error_is_a_failure() {
    let mut work = work(Response::Update);
    let _ = work.begin();
    let _ = work.on_reply(&reply(200, &route("peer")));
    let _ = work.on_reply(&running());
    let failed = json!({ "name": "op-1", "status": "DONE",
        "error": { "errors": [{ "code": "QUOTA", "message": "too much" }] } });
    let why = work.on_reply(&reply(200, &failed)).unwrap_err();
    assert_eq!(why, "the operation of Compute Engine: QUOTA: too much");
    // The operation is not to be found: that is not the end of a deletion.
    let _ = work.begin();
    let _ = work.on_reply(&reply(200, &route("peer")));
    let _ = work.on_reply(&running());
    assert!(work.on_reply(&missing()).is_err());
}

#[test]
fn a_404_that_is_not_about_the_route_is_no_missing_route() {
    let mut work = work(Response::Update);
    let _ = work.begin();
    let page = Reply { status: 404, headers: Vec::new(), body: "<html>".into() };
    assert!(work.on_reply(&page).unwrap_err().contains("status 404"));
    let limited = json!({ "error": { "errors": [{ "reason": "rateLimitExceeded" }] } });
    assert!(may_pass(Provider::Gcp, &reply(403, &limited)));
    assert!(!may_pass(Provider::Gcp, &reply(403, &json!({}))));
}

#[test]
fn names_are_of_valid_length_and_requests_have_ids_of_their_own() {
    let mut work = work(Response::WriteBack);
    work.own.name = "a".repeat(63).into();
    assert_eq!(work.throw_away().name.len(), 63);
    let (one, other) = (work.id(), work.id());
    assert_ne!(one, other);
    assert_eq!(one.len(), 36);
}

#[test]
fn a_service_account_signs_claims_about_itself() {
    let file = json!({ "type": "service_account", "client_email": "a@b", "private_key": "s3cret" });
    let account = login::of_file(&file.to_string()).unwrap();
    assert_eq!(account.place(), ("https://oauth2.googleapis.com", "/token"));
    assert!(!alloc::format!("{account:?}").contains("s3cret"));
    let claims: Value = serde_json::from_str(&account.claims(1_000)).unwrap();
    assert_eq!(claims["exp"], 4_600);
    assert_eq!(claims["aud"], "https://oauth2.googleapis.com/token");
    assert!(login::of_file("{}").is_err());
    let odd = json!({ "client_email": "a", "private_key": "b", "token_uri": "nonsense" });
    assert_eq!(login::of_file(&odd.to_string()).unwrap().place(), ("nonsense", "/"));
    let issued = json!({ "access_token": "t", "expires_in": 3599, "token_type": "Bearer" });
    assert_eq!(login::read(&reply(200, &issued)), Ok(("t".into(), 3599)));
}
