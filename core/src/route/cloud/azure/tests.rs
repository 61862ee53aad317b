use alloc::collections::BTreeMap;

use serde_json::json;

use super::super::super::decide::Event;
use super::super::super::node::Mode;
use super::super::super::provider::{Cloud, Provider};
use super::super::step::Work as _;
use super::super::{is_unknown, may_pass};
use super::*;

const BASE: &str = "https://management.azure.com";
const AZURE: Provider = Provider::Azure(Cloud::Public);

fn work(response: Response, more: &[(&str, &str)], fence: Option<Fence>) -> Work {
    let all = [("routeTableName", "t 1"), ("nextHop", "10.0.0.2")];
    let place = [("subscriptionId", "s"), ("resourceGroup", "g")];
    let parameters: BTreeMap<Box<str>, Box<str>> = all
        .iter()
        .chain(&place)
        .chain(more)
        .map(|(name, of)| ((*name).into(), (*of).into()))
        .collect();
    let (event, provider, mode) = (Event::PeerFail, AZURE, Mode::Primary);
    let (within_ms, token) = (None, None);
    let job = Job { event, response, provider, mode, parameters, fence, within_ms, token };
    let mut work = Work::new(&job, BASE).unwrap();
    let _ = work.begin();
    work
}

fn reply(status: u16, body: &Value) -> Reply {
    Reply { status, headers: Vec::new(), body: body.to_string().into() }
}

fn table(hops: &[&str]) -> Value {
    let route = |(nth, hop): (usize, &&str)| {
        json!({ "name": format!("r{nth}"), "etag": format!("W/\"r{nth}\""), "type": "x", "properties": {
            "provisioningState": "Succeeded", "addressPrefix": format!("192.0.{nth}.0/24"),
            "nextHopType": "VirtualAppliance", "nextHopIpAddress": hop, "odd": 1
        }})
    };
    let mut routes: Vec<Value> = hops.iter().enumerate().map(route).collect();
    routes.push(json!({ "name": "out", "properties": {
        "addressPrefix": "0.0.0.0/0", "nextHopType": "Internet"
    }}));
    json!({ "name": "t 1", "id": "/x", "etag": "W/\"7\"", "location": "eu", "tags": { "a": "b" },
        "properties": { "provisioningState": "Succeeded", "disableBgpRoutePropagation": true,
            "subnets": [{ "id": "/s" }], "routes": routes } })
}

fn asked(step: Result<Step, String>) -> (Method, String, Option<Box<str>>, Value) {
    match step {
        Ok(Step::Ask(ask)) => {
            let etag = ask.headers.iter().find(|(name, _)| *name == "if-match");
            let etag = etag.map(|(_, value)| value.clone());
            (ask.method, ask.target, etag, serde_json::from_str(&ask.body).unwrap_or_default())
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
fn r20_a_peer_fail_writes_one_route_with_its_entity_tag_whatever_it_was() {
    for before in ["10.0.0.1", "10.0.0.2"] {
        let mut work = work(Response::Update, &[("route", "192.0.0.0/24")], None);
        let (method, target, etag, body) = asked(work.on_reply(&reply(200, &table(&[before]))));
        assert_eq!(method, Method::Put);
        assert_eq!(
            target,
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/routeTables/t%201\
             /routes/r0?api-version=2024-05-01"
        );
        assert_eq!(etag.as_deref(), Some("W/\"r0\""));
        let properties = &body["properties"];
        assert_eq!(properties["nextHopIpAddress"], "10.0.0.2");
        assert_eq!(
            (&properties["odd"], &properties["provisioningState"]),
            (&json!(1), &Value::Null)
        );
        let state = json!({ "properties": { "provisioningState": "Succeeded" } });
        let (method, ..) = asked(work.on_reply(&reply(200, &state)));
        assert_eq!(method, Method::Get);
        let done = over(work.on_reply(&reply(200, &table(&["10.0.0.2"]))));
        let is_moved = before != "10.0.0.2";
        assert_eq!(done.outcome == Outcome::Updated, is_moved, "{done:?}");
    }
}

#[test]
fn r12_all_routes_to_routers_are_one_write_and_the_rest_is_carried_over() {
    let mut work = work(Response::UpdateIfDifferent, &[], None);
    let before = table(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    let (method, target, etag, body) = asked(work.on_reply(&reply(200, &before)));
    assert_eq!(method, Method::Put);
    assert!(target.ends_with("/routeTables/t%201?api-version=2024-05-01"), "{target}");
    assert_eq!(etag.as_deref(), Some("W/\"7\""));
    assert_eq!(body["location"], "eu");
    assert_eq!(body["tags"], json!({ "a": "b" }));
    let properties = &body["properties"];
    assert_eq!(properties["disableBgpRoutePropagation"], true);
    assert_eq!(properties["subnets"], Value::Null);
    let hops: Vec<&Value> =
        (0..4).map(|nth| &properties["routes"][nth]["properties"]["nextHopIpAddress"]).collect();
    let own = json!("10.0.0.2");
    assert_eq!(hops, [&own, &own, &own, &Value::Null]);
    let _ = work.on_reply(&reply(200, &json!({})));
    let done = over(work.on_reply(&reply(200, &table(&["10.0.0.2"; 3]))));
    assert!(done.detail.starts_with("2 of 3 routes"), "{}", done.detail);
}

#[test]
fn r12_a_route_of_the_other_family_keeps_its_router() {
    let mut work = work(Response::Update, &[], None);
    let before = table(&["10.0.0.1", "fd00::1"]);
    let (_, _, _, body) = asked(work.on_reply(&reply(200, &before)));
    let hop = |nth: usize| &body["properties"]["routes"][nth]["properties"]["nextHopIpAddress"];
    assert_eq!([hop(0), hop(1)], ["10.0.0.2", "fd00::1"]);
    let _ = work.on_reply(&reply(200, &json!({})));
    let done = over(work.on_reply(&reply(200, &table(&["10.0.0.2", "fd00::1"]))));
    assert!(done.detail.starts_with("1 of 1 routes"), "{}", done.detail);
}

#[test]
fn r15_a_verify_writes_the_table_back_as_it_was() {
    let mut work = work(Response::WriteBack, &[], None);
    let before = table(&["10.0.0.1", "10.0.0.2"]);
    let (_, _, etag, body) = asked(work.on_reply(&reply(200, &before)));
    assert_eq!(etag.as_deref(), Some("W/\"7\""));
    for nth in 0..3 {
        let of = |table: &Value| {
            table["properties"]["routes"][nth]["properties"]["nextHopIpAddress"].clone()
        };
        assert_eq!(of(&body), of(&before));
    }
    let denied = json!({ "error": { "code": "AuthorizationFailed", "message": "no write" } });
    let why = work.on_reply(&reply(403, &denied)).unwrap_err();
    assert_eq!(why, "writing the route: status 403: AuthorizationFailed: no write");
}

#[test]
fn a_table_of_a_later_term_is_not_written_and_an_older_one_gets_the_term() {
    let fence = |term| Fence { key: "ha/route/edge".into(), session: "s".into(), term };
    let mut written = table(&["10.0.0.2"]);
    written["tags"] = json!({ "hax-lease": "ha/route/edge", "hax-term": "7" });
    let read = |response, fence| work(response, &[], fence).on_reply(&reply(200, &written));
    let done = over(read(Response::Update, Some(fence(6))));
    assert_eq!((done.outcome, done.term), (Outcome::Failed, Some(7)));
    let (_, _, etag, body) = asked(read(Response::UpdateIfDifferent, Some(fence(8))));
    assert_eq!(body["tags"]["hax-term"], "8");
    assert!(etag.is_some());
    assert_eq!(over(read(Response::UpdateIfDifferent, Some(fence(7)))).outcome, Outcome::Unchanged);
    assert_eq!(over(read(Response::Update, None)).outcome, Outcome::Failed);
    let (_, _, _, body) = asked(read(Response::WriteBack, None));
    assert_eq!(body["tags"]["hax-term"], "7", "a verify leaves the tags");
    let mut other = fence(9);
    other.key = "ha/route/other".into();
    assert_eq!(over(read(Response::Update, Some(other))).outcome, Outcome::Failed);
}

#[test]
fn a_conflict_is_read_anew_and_not_for_ever() {
    let mut work = work(Response::Update, &[], None);
    for nth in 1..=TRIES {
        assert_eq!(asked(work.on_reply(&reply(200, &table(&["x"])))).0, Method::Put);
        let step = work.on_reply(&reply(412, &json!({})));
        assert_eq!(step.is_err(), nth == TRIES, "{step:?}");
    }
}

#[test]
fn an_operation_is_awaited_and_its_failure_is_one() {
    let begin = || {
        let mut work = work(Response::Update, &[], None);
        let _ = work.on_reply(&reply(200, &table(&["10.0.0.1"])));
        work
    };
    let accepted = |name: &str, url: &str, status| Reply {
        status,
        headers: [(name.into(), url.into()), ("retry-after".into(), "3".into())].into(),
        body: "".into(),
    };
    let mut work = begin();
    let url = format!("{BASE}/subscriptions/s/operations/1?t=2");
    let step = work.on_reply(&accepted("azure-asyncoperation", &url, 201));
    let Ok(Step::Ask(ask)) = &step else { panic!("{step:?}") };
    assert_eq!(
        (&*ask.target, ask.after),
        ("/subscriptions/s/operations/1?t=2", Duration::from_secs(3))
    );
    let running = json!({ "status": "InProgress" });
    assert!(asked(work.on_reply(&reply(200, &running))).1.contains("/operations/1"));
    let failed = json!({ "status": "Failed", "error": { "code": "Busy", "message": "no" } });
    let why = work.on_reply(&reply(200, &failed)).unwrap_err();
    assert_eq!(why, "the operation of Azure: Failed: Busy: no");
    // An address of another host gets no request: the table is read instead.
    for foreign in ["https://evil.example/x", "https://management.azure.com.evil.example/x", "/x"] {
        let mut work = begin();
        let (_, target, ..) = asked(work.on_reply(&accepted("azure-asyncoperation", foreign, 202)));
        assert!(target.contains("routeTables"), "{foreign}: {target}");
    }
    let mut work = begin();
    let state = json!({ "properties": { "provisioningState": "Failed" } });
    assert!(work.on_reply(&reply(200, &state)).unwrap_err().contains("is Failed"));
    let mut work = begin();
    let _ = work.on_reply(&accepted("location", &url, 202));
    let _ = asked(work.on_reply(&reply(202, &json!({}))));
    assert!(asked(work.on_reply(&reply(204, &json!({})))).1.contains("routeTables"));
    let mut updating = table(&["10.0.0.2"]);
    updating["properties"]["provisioningState"] = json!("Updating");
    assert!(asked(work.on_reply(&reply(200, &updating))).1.contains("routeTables"));
    updating["properties"]["provisioningState"] = json!("Failed");
    assert!(work.on_reply(&reply(200, &updating)).unwrap_err().contains("read back"));
}

#[test]
fn a_write_that_is_not_seen_is_no_success() {
    let mut work = work(Response::Update, &[], None);
    let _ = work.on_reply(&reply(200, &table(&["10.0.0.1"])));
    let _ = work.on_reply(&reply(200, &json!({})));
    let why = work.on_reply(&reply(200, &table(&["10.0.0.1"]))).unwrap_err();
    assert!(why.contains("r0 was written, and leads to 10.0.0.1"), "{why}");
}

#[test]
fn what_is_no_route_to_a_router_is_left_as_it_is() {
    let refused = |route: &str, table: &Value| {
        let step = work(Response::Update, &[("route", route)], None).on_reply(&reply(200, table));
        step.unwrap_err()
    };
    assert!(refused("0.0.0.0/0", &table(&[])).contains("of the type Internet"));
    assert!(refused("198.51.100.0/24", &table(&[])).contains("no route 198.51.100.0/24"));
    for garbage in [json!({}), json!([]), json!({ "properties": { "routes": 1 } }), Value::Null] {
        assert!(refused("192.0.0.0/24", &garbage).contains("no route table"), "{garbage}");
    }
    let mut bare = table(&["10.0.0.1"]);
    bare["etag"] = Value::Null;
    let step = work(Response::Update, &[], None).on_reply(&reply(200, &bare));
    assert!(step.unwrap_err().contains("no entity tag"));
}

#[test]
fn a_missing_subscription_is_that_of_this_machine() {
    let all = [("routeTableName", "t"), ("nextHop", "10.0.0.2")];
    let parameters = all.map(|(name, of)| (name.into(), of.into())).into();
    let (event, response, provider) = (Event::Verify, Response::WriteBack, AZURE);
    let (mode, fence, within_ms, token) = (Mode::Primary, None, None, None);
    let job = Job { event, response, provider, mode, parameters, fence, within_ms, token };
    let mut work = Work::new(&job, BASE).unwrap();
    let Step::Ask(ask) = work.begin() else { panic!() };
    assert_eq!(ask.place, Place::Metadata);
    let found = json!({ "subscriptionId": "a/b", "resourceGroupName": "c" });
    let (_, target, ..) = asked(work.on_reply(&reply(200, &found)));
    assert!(target.starts_with("/subscriptions/a%2Fb/resourceGroups/c/"), "{target}");
    let _ = work.begin();
    work.subscription = None;
    let _ = work.begin();
    assert!(work.on_reply(&reply(200, &json!({}))).unwrap_err().contains("-s"));
}

#[test]
fn tokens_are_read_and_refusals_told() {
    let text = json!({ "access_token": "abc", "expires_in": "3599" });
    assert_eq!(login::read(&reply(200, &text)), Ok(("abc".into(), 3599)));
    let number = json!({ "access_token": "abc", "expires_in": 60 });
    assert_eq!(login::read(&reply(200, &number)), Ok(("abc".into(), 60)));
    let broken = json!({ "access_token": "s3 cret", "expires_in": 60 });
    assert!(!login::read(&reply(200, &broken)).unwrap_err().contains("s3"));
    let refused = json!({ "error": "invalid_client", "error_description": "AADSTS7000215: no" });
    let why = login::read(&reply(401, &refused)).unwrap_err();
    assert!(why.ends_with("status 401: invalid_client: AADSTS7000215: no"), "{why}");
    let busy = json!({ "error": { "code": "AnotherOperationInProgress", "message": "" } });
    assert!(may_pass(AZURE, &reply(409, &busy)) && !may_pass(AZURE, &reply(409, &json!({}))));
    assert!(is_unknown(AZURE, &reply(401, &json!({}))) && !is_unknown(AZURE, &reply(403, &busy)));
    let application = login::Application { tenant: "a/b", id: "app", key: "k&y" };
    let ask = login::of_application(Cloud::Government, application);
    assert!(ask.target.starts_with("/a%2Fb/") && ask.body.contains("client_secret=k%26y&"));
    assert!(ask.body.ends_with("management.usgovcloudapi.net%2F.default"), "{}", ask.body);
}
