use super::super::provider::Cloud;
use super::*;

fn parse(line: &[&str]) -> Result<Action, String> {
    let args: Vec<String> = line[1..].iter().map(|arg| (*arg).into()).collect();
    named(line[0]).unwrap().parse(&args)
}

fn ask(line: &[&str]) -> Request {
    match parse(line) {
        Ok(Action::Ask(request)) => request,
        other => panic!("{line:?}: {other:?}"),
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

#[test]
fn r24_the_scripts_have_these_names() {
    let expected = "create_node set_params clear_params show_node delete_node node_event ha_api";
    assert_eq!(names().join(" "), expected);
    assert_eq!(named("/usr/bin/node_event"), Some(Script::NodeEvent));
    assert_eq!(named("hax"), None);
}

#[test]
fn r07_every_script_has_help() {
    for script in Script::ALL {
        let Ok(Action::Help(text)) = parse(&[script.name(), "-i", "x", "-h"]) else { panic!() };
        assert!(text.starts_with(&format!("Usage: {} ", script.name())), "{text}");
        assert!(text.contains("Exit codes:"), "{text}");
    }
    let Ok(Action::Help(text)) = parse(&words("create_node -p gcp -h")) else { panic!() };
    for parameter in parameters::of(Provider::Gcp) {
        assert!(text.contains(&format!("\n  {:<11} {}", parameter.flag, parameter.help)), "{text}");
    }
    assert!(!text.contains("Parameters of aws"), "{text}");
    let Ok(Action::Help(text)) = parse(&words("create_node -h")) else { panic!() };
    assert!(text.contains("Parameters of aws") && text.contains("Parameters of linux"), "{text}");
}

#[test]
fn the_originals_command_lines_are_understood() {
    let line =
        "create_node -i 10 -t rtb-12345678 -rg us-east-1 -n eni-12345678 -r 10.0.0.0/8 -m primary";
    let Request::CreateNode { index, set } = ask(&words(line)) else { panic!() };
    assert_eq!((index.number(), set.provider, set.mode), (10, None, Some(Mode::Primary)));
    assert_eq!(set.parameters.len(), 4);
    assert_eq!(set.parameters["-rg"], "us-east-1".into());
    let line = "set_params -i 10 -p azusgov -g group -s subscription";
    let Request::SetParams { set, .. } = ask(&words(line)) else { panic!() };
    assert_eq!(set.provider, Some(Provider::Azure(Cloud::Government)));
    let Request::ClearParams { clear, .. } = ask(&words("clear_params -i 11 -m -r")) else {
        panic!()
    };
    assert_eq!(clear, Clear { mode: true, parameters: ["-r".into()].into() });
    assert_eq!(ask(&words("ha_api -c ping")), Request::Ping);
    assert_eq!(ask(&words("ha_api -c stop")), Request::Stop);
    assert_eq!(parse(&words("ha_api -c start")), Ok(Action::Start));
}

#[test]
fn a_value_may_have_anything_in_it() {
    let value = "two words, \"quotes\"\nand a line; -m $(x)";
    let Request::SetParams { set, .. } = ask(&["set_params", "-i", "1", "-t", value]) else {
        panic!()
    };
    assert_eq!(set.parameters["-t"], value.into());
}

#[test]
fn r12_events_are_of_one_node_of_several_or_of_all() {
    let index = |number| Index::new(number).unwrap();
    let event = |line: &str| ask(&words(line));
    let (nodes, event_) = (Nodes::One(index(7)), Event::PeerFail);
    let one = Request::NodeEvent { nodes, event: event_, wait: true };
    assert_eq!(event("node_event -i 7 -e peerFail"), one);
    let all = Request::NodeEvent { nodes: Nodes::All, event: Event::Revert, wait: false };
    assert_eq!(event("node_event -i all -e revert --no-wait"), all);
    let nodes = Nodes::Range(index(3), index(5));
    let some = Request::NodeEvent { nodes, event: Event::Verify, wait: true };
    assert_eq!(event("node_event -i 3 -mi 5 -e verify"), some);
}

#[test]
fn r22_what_is_no_index_is_refused() {
    for index in ["0", "1024", "-1", "x", "01", ""] {
        for script in Script::ALL.into_iter().filter(|script| *script != Script::HaApi) {
            let line = [script.name(), "-i", index, "-e", "revert"];
            let line = if script == Script::NodeEvent { &line[..] } else { &line[..3] };
            assert!(parse(line).unwrap_err().contains("-i"), "{line:?}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_command_line_is_said() {
    for (line, expected) in [
        ("create_node", "-i INDEX is missing"),
        ("create_node -i", "-i has no value"),
        ("create_node -i 1 -i 2", "-i is given twice"),
        ("create_node -i 1 -x y", "no parameter of create_node"),
        ("create_node -i 1 y", "\"y\" is no parameter"),
        ("create_node -i 1 -p vax", "no such provider"),
        ("create_node -i 1 -m third", "expected primary or secondary"),
        ("create_node -i 1 -p linux -rg x", "linux has no such parameter"),
        ("create_node -i 1 -p linux -n x", "no address"),
        ("clear_params -i 1 -r 10.0.0.0/8", "\"10.0.0.0/8\" is no parameter"),
        ("show_node -i 1 -m", "no parameter of show_node"),
        ("delete_node -i all", "an index is a number"),
        ("node_event -i 1", "-e EVENT is missing"),
        ("node_event -i 1 -e bogus", "expected peerFail, revert or verify"),
        ("node_event -i all -e peerFail", "not for all"),
        ("node_event -i 5 -mi 4 -e verify", "-mi 4 is below -i 5"),
        ("node_event -i 5 -mi 1024 -e verify", "-mi \"1024\""),
        ("ha_api", "-c COMMAND is missing"),
        ("ha_api -c restart", "expected start, stop or ping"),
    ] {
        let why = parse(&words(line)).unwrap_err();
        assert!(why.contains(expected), "{line}: {why}");
    }
}

#[test]
fn requests_survive_the_way() {
    for line in [
        "create_node -i 1 -p azchina -m secondary -t x",
        "set_params -i 1023 -r 10.0.0.0/8",
        "clear_params -i 1 -k -m",
        "show_node",
        "show_node -i 3",
        "delete_node -i 3",
        "node_event -i 3 -mi 9 -e peerFail",
        "node_event -i all -e verify --no-wait",
        "ha_api -c stop",
    ] {
        let request = ask(&words(line));
        let sent = request.encode();
        assert_eq!(serde_json::from_str::<Request>(&sent).unwrap(), request, "{sent}");
    }
}
