use alloc::collections::BTreeMap;
use alloc::vec;

use super::super::super::decide::Event;
use super::super::super::node::Mode;
use super::super::super::provider::Provider;
use super::super::step::Work as _;
use super::super::{is_unknown, may_pass};
use super::*;

const OWN: &str = "eni-0123456789abcdef0";
const OTHER: &str = "eni-0fedcba9876543210";

fn work(response: Response, route: Option<&str>) -> Work {
    let all = [("routeTableId", "rtb-12345678"), ("region", "us-east-1"), ("eniId", OWN)];
    let mut parameters: BTreeMap<Box<str>, Box<str>> =
        all.map(|(name, value)| (name.into(), value.into())).into();
    parameters.extend(route.map(|route| ("route".into(), route.into())));
    let (event, provider, mode, fence) = (Event::PeerFail, Provider::Aws, Mode::Primary, None);
    let (within_ms, token) = (None, None);
    Work::new(&Job { event, response, provider, mode, parameters, fence, within_ms, token })
        .unwrap()
}

fn reply(status: u16, body: &str) -> Reply {
    Reply { status, headers: Vec::new(), body: body.as_bytes().to_vec().into() }
}

/// Returns the description of a table with these routes, each a destination and a target as elements.
fn table(routes: &[(&str, &str)]) -> Reply {
    let item = |(destination, target): &(&str, &str)| {
        let kind = if destination.starts_with("pl-") {
            "destinationPrefixListId"
        } else if destination.contains(':') {
            "destinationIpv6CidrBlock"
        } else {
            "destinationCidrBlock"
        };
        format!("<item><{kind}>{destination}</{kind}>{target}<state>active</state></item>")
    };
    let routes: String = routes.iter().map(item).collect();
    reply(
        200,
        &format!(
            "<?xml version=\"1.0\"?><DescribeRouteTablesResponse xmlns=\"x\"><routeTableSet><item>\
             <routeTableId>rtb-12345678</routeTableId><routeSet>{routes}</routeSet>\
             <associationSet/></item></routeTableSet></DescribeRouteTablesResponse>"
        ),
    )
}

fn interface(id: &str) -> String {
    format!("<instanceId>i-1</instanceId><networkInterfaceId>{id}</networkInterfaceId>")
}

fn body(step: Result<Step, String>) -> String {
    match step {
        Ok(Step::Ask(ask)) => ask.body,
        other => panic!("no request: {other:?}"),
    }
}

fn over(step: Result<Step, String>) -> Done {
    match step {
        Ok(Step::Over(done)) => done,
        other => panic!("not over: {other:?}"),
    }
}

fn error(status: u16, code: &str, message: &str) -> Reply {
    let error = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
    reply(status, &format!("<Response><Errors>{error}</Errors></Response>"))
}

#[test]
fn r20_an_update_is_one_read_one_write_and_a_read_back() {
    let mut work = work(Response::UpdateIfDifferent, Some("192.0.2.0/24"));
    let read = "Action=DescribeRouteTables&Version=2016-11-15&RouteTableId.1=rtb-12345678";
    assert_eq!(body(Ok(work.begin())), read);
    let routes = [("10.0.0.0/16", "<gatewayId>local</gatewayId>"), ("192.0.2.0/24", "")];
    let before = interface(OTHER);
    let with = |target: &str| {
        let routes = routes
            .map(|(destination, own)| (destination, if own.is_empty() { target } else { own }));
        table(&routes)
    };
    let write = body(work.on_reply(&with(&before)));
    assert_eq!(
        write,
        format!(
            "Action=ReplaceRoute&Version=2016-11-15&RouteTableId=rtb-12345678\
             &DestinationCidrBlock=192.0.2.0%2F24&NetworkInterfaceId={OWN}"
        )
    );
    assert_eq!(body(work.on_reply(&reply(200, "<ReplaceRouteResponse/>"))), read);
    // EC2 shows the old value for a moment.
    assert_eq!(body(work.on_reply(&with(&before))), read);
    let done = over(work.on_reply(&with(&interface(OWN))));
    assert_eq!(done.outcome, Outcome::Updated);
    assert_eq!(done.detail, format!("the route led to {OTHER} and leads to {OWN} now"));
}

#[test]
fn r20_a_route_that_leads_here_is_not_written() {
    let mut work = work(Response::UpdateIfDifferent, Some("2001:db8:0::/48"));
    let _ = work.begin();
    let done = over(work.on_reply(&table(&[("2001:db8::/48", &interface(OWN))])));
    assert_eq!(done.outcome, Outcome::Unchanged);
}

#[test]
fn r15_each_kind_of_target_is_written_back_as_it_was() {
    for (element, id, field, value) in [
        ("networkInterfaceId", OTHER, "NetworkInterfaceId", OTHER),
        ("gatewayId", "igw-1", "GatewayId", "igw-1"),
        ("gatewayId", "vpce-1", "VpcEndpointId", "vpce-1"),
        ("gatewayId", "local", "LocalTarget", "true"),
        ("natGatewayId", "nat-1", "NatGatewayId", "nat-1"),
        ("transitGatewayId", "tgw-1", "TransitGatewayId", "tgw-1"),
        ("vpcPeeringConnectionId", "pcx-1", "VpcPeeringConnectionId", "pcx-1"),
    ] {
        let mut work = work(Response::WriteBack, Some("192.0.2.0/24"));
        let _ = work.begin();
        let target = format!("<{element}>{id}</{element}>");
        let found = table(&[("192.0.2.0/24", &target)]);
        let write = body(work.on_reply(&found));
        assert!(write.ends_with(&format!("&{field}={value}")), "{write}");
        let _ = work.on_reply(&reply(200, "<ReplaceRouteResponse/>"));
        assert_eq!(over(work.on_reply(&found)).outcome, Outcome::WrittenBack);
    }
}

#[test]
fn r12_all_routes_to_interfaces_move_and_gateways_stay() {
    let mut work = work(Response::UpdateIfDifferent, None);
    let _ = work.begin();
    let all = |target: &str| {
        let target = interface(target);
        table(&[
            ("10.0.0.0/16", "<gatewayId>local</gatewayId>"),
            ("0.0.0.0/0", "<gatewayId>igw-1</gatewayId>"),
            ("192.0.2.0/24", &target),
            ("pl-123", &target),
            ("2001:db8::/48", &target),
            ("198.51.100.0/24", &interface(OWN)),
        ])
    };
    let mut writes = vec![body(work.on_reply(&all(OTHER)))];
    for _ in 0..2 {
        writes.push(body(work.on_reply(&reply(200, "<ReplaceRouteResponse/>"))));
    }
    let fields = ["DestinationCidrBlock", "DestinationPrefixListId", "DestinationIpv6CidrBlock"];
    for (write, field) in writes.iter().zip(fields) {
        assert!(write.contains(&format!("&{field}=")), "{write}");
    }
    assert!(body(work.on_reply(&reply(200, "<ReplaceRouteResponse/>"))).contains("Describe"));
    let done = over(work.on_reply(&all(OWN)));
    assert_eq!(done.outcome, Outcome::Updated);
    assert!(done.detail.starts_with("3 of 4 routes"), "{}", done.detail);
}

#[test]
fn r12_a_route_of_several_that_cannot_be_written_fails_the_event_and_not_the_others() {
    let mut work = work(Response::UpdateIfDifferent, None);
    let _ = work.begin();
    let routes = |target: &str| {
        let target = interface(target);
        table(&[("192.0.2.0/24", &target), ("198.51.100.0/24", &target)])
    };
    let _ = work.on_reply(&routes(OTHER));
    let next = body(work.on_reply(&error(400, "InvalidParameterValue", "no")));
    assert!(next.contains("198.51.100.0"), "{next}");
    let _ = work.on_reply(&reply(200, "<ReplaceRouteResponse/>"));
    let why = work.on_reply(&routes(OWN)).unwrap_err();
    assert!(why.starts_with("1 of 2 routes could not be written: 192.0.2.0/24: Repl"), "{why}");
    // A lack of permission holds for all.
    let mut work = self::work(Response::UpdateIfDifferent, None);
    let _ = work.begin();
    let _ = work.on_reply(&routes(OTHER));
    let why = work.on_reply(&error(403, "UnauthorizedOperation", "no")).unwrap_err();
    assert!(why.contains("status 403: UnauthorizedOperation: no"), "{why}");
}

#[test]
fn a_write_that_is_not_seen_is_no_success() {
    let mut work = work(Response::UpdateIfDifferent, Some("192.0.2.0/24"));
    let _ = work.begin();
    let stays = table(&[("192.0.2.0/24", &interface(OTHER))]);
    let _ = work.on_reply(&stays);
    let _ = work.on_reply(&reply(200, "<ReplaceRouteResponse/>"));
    let mut reads = 0;
    let why = loop {
        match work.on_reply(&stays) {
            Ok(Step::Ask(ask)) => {
                assert!(!ask.after.is_zero());
                reads += 1;
            }
            Ok(Step::Over(done)) => panic!("{done:?}"),
            Err(why) => break why,
        }
    };
    assert_eq!(reads, READS_MAX - 1);
    assert!(why.contains("was written, and leads to eni-0fed"), "{why}");
}

#[test]
fn what_ec2_refuses_is_told_in_its_words_and_a_request_is_not_repeated() {
    let mut work = work(Response::UpdateIfDifferent, Some("192.0.2.0/24"));
    let why = work.on_reply(&error(400, "InvalidRouteTableID.NotFound", "It is gone")).unwrap_err();
    let text = "DescribeRouteTables: status 400: InvalidRouteTableID.NotFound: It is gone";
    assert_eq!(why, text);
    let long = "The signature does not match. The Canonical String was x-amz-security-token:abc";
    let why = work.on_reply(&error(403, "SignatureDoesNotMatch", long)).unwrap_err();
    assert!(!why.contains("abc") && why.contains("clock"), "{why}");
    for garbage in ["", "{}", "<html>", "<a><b/></a>", "\u{0}\u{1}"] {
        assert!(work.on_reply(&reply(200, garbage)).is_err(), "{garbage:?}");
    }
    let missing = work.on_reply(&table(&[("10.0.0.0/16", "<gatewayId>local</gatewayId>")]));
    assert!(missing.unwrap_err().contains("has no route 192.0.2.0/24"));
    let other = reply(200, &String::from_utf8_lossy(&table(&[]).body).replace("5678", "5679"));
    assert!(work.on_reply(&other).unwrap_err().contains("does not have the route table"));
}

#[test]
fn limits_pass_and_unknown_credentials_are_told_from_missing_permissions() {
    let limited = error(400, "Throttling", "Rate exceeded");
    assert!(may_pass(Provider::Aws, &limited) && !is_unknown(Provider::Aws, &limited));
    assert!(may_pass(Provider::Aws, &error(503, "RequestLimitExceeded", "")));
    let expired = error(400, "RequestExpired", "");
    assert!(!may_pass(Provider::Aws, &expired) && is_unknown(Provider::Aws, &expired));
    let denied = error(403, "UnauthorizedOperation", "");
    assert!(!may_pass(Provider::Aws, &denied) && !is_unknown(Provider::Aws, &denied));
}

#[test]
fn credentials_are_read_from_files_and_from_the_instance() {
    let file = "# c\n[default]\naws_access_key_id = A\naws_secret_access_key=B=\n[ other ]\n\
                aws_access_key_id=C\naws_secret_access_key=D\naws_session_token = E\n";
    let found = credentials::of_file(file, "default").unwrap();
    assert_eq!((&*found.key, &*found.secret, found.token), ("A", "B=", None));
    let found = credentials::of_file(file, "other").unwrap();
    assert_eq!(found.token.as_deref(), Some("E"));
    assert!(credentials::of_file(file, "none").unwrap_err().contains("\"none\""));
    assert!(credentials::of_file("[x]\naws_access_key_id=A", "x").is_err());
    let of_role = r#"{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"A","SecretAccessKey":"B",
        "Token":"C","Expiration":"2026-11-29T20:00:00Z"}"#;
    let (found, expires) = credentials::read_of_role(&reply(200, of_role)).unwrap();
    assert_eq!((&*found.key, expires), ("A", 1_795_982_400));
    let why = credentials::read_of_role(&reply(200, r#"{"SecretAccessKey":"B"}"#)).unwrap_err();
    assert!(!why.contains('B'), "{why}");
    assert!(credentials::read_role(&reply(404, "")).unwrap_err().contains("instance profile"));
    assert_eq!(credentials::of_role("a/b", None).target.split('/').next_back(), Some("a%2Fb"));
}
