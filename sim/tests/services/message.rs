//! Messages to instances.

use hax_core::exec::{self, Status};
use hax_core::http::port::Trust;
use hax_core::machine::Input;
use serde_json::{Value, json};

use super::field::Field;
use super::seen::with_web;

fn with_rotate() -> Field {
    let rotate = json!({ "rotate": { "command": ["/usr/lib/hax/services/rotate", "{node}"] } });
    with_web(
        2,
        &json!({ "message": rotate, "check": { "exec": ["/usr/lib/hax/look", "web-check"] } }),
    )
}

fn send(field: &mut Field, message: &str) -> (u16, Value) {
    field.call(0, "POST", &format!("/v1/services/web/send/{message}"), "x")
}

#[test]
fn h34_a_message_of_the_type_is_delivered_by_its_program() {
    let mut field = with_rotate();
    let (status, answer) = send(&mut field, "rotate");
    assert_eq!((status, &answer["exit"]), (200, &json!(0)));
    let sent = field.nodes[0].helpers.values().find(|argv| argv[0].ends_with("rotate"));
    assert_eq!(sent.unwrap()[1], "n1");
    field.nodes[0].probes.insert("n1".into(), 3);
    let (status, answer) = send(&mut field, "rotate");
    assert_eq!((status, &answer["exit"]), (200, &json!(3)), "that is the program's word");
    assert_eq!((field.state(0, "web"), field.starts(0, "web")), ("running".into(), 1));
}

#[test]
fn h34_a_message_that_the_type_does_not_have_is_not_supported_and_harms_nothing() {
    let mut field = with_rotate();
    let (status, answer) = send(&mut field, "dance");
    assert_eq!(status, 404);
    let why = answer["error_message"].as_str().unwrap();
    assert!(why.contains("does not support") && why.contains("rotate, check, status"), "{why}");
    assert_eq!(field.call(0, "POST", "/v1/services/none/send/rotate", "").0, 404);
    assert_eq!(field.call(0, "GET", "/v1/services/web/send/rotate", "").0, 405);
    let (status, answer) = field.call(0, "POST", "/v1/services/web/send/rotate?node=n2", "");
    assert_eq!(status, 409, "{answer}");
    assert!(answer.to_string().contains("the hax of n2"), "{answer}");
    field.ask("stop", "web", None);
    field.until_state(0, "web", "absent");
    assert_eq!(send(&mut field, "rotate").0, 409);
    let id = field.http_of(0, "POST", "/v1/services/web/send/rotate", "", Trust::Local);
    field.run(100);
    assert_eq!(field.nodes[0].responses[&id].status, 403);
}

#[test]
fn h33_every_type_answers_check_and_status() {
    let mut field = with_rotate();
    assert_eq!(send(&mut field, "check").1["exit"], 0);
    field.nodes[0].probes.insert("web-check".into(), 1);
    assert_eq!(send(&mut field, "check").1["exit"], 1);
    field.nodes[0].probes.clear();
    let before = field.saw(0, "StatusOf");
    let (status, answer) = send(&mut field, "status");
    assert_eq!(status, 200);
    assert!(answer["pid"].is_u64() && answer["state"].is_string(), "{answer}");
    assert_eq!(field.saw(0, "StatusOf"), before + 1, "it is in the log at once");
}

#[test]
fn a_message_under_way_is_answered_when_hax_stops() {
    let mut field = with_rotate();
    let id = field.http(0, "POST", "/v1/services/web/send/rotate", "");
    field.hand(0, Input::Stop);
    assert_eq!(field.nodes[0].responses[&id].status, 503);
    // Its program may end later.
    let (id, cause) = (*field.nodes[0].helpers.keys().next_back().unwrap(), exec::Cause::Killed);
    let (status, unheard) = (Status::Signal(15), exec::Unheard::default());
    field.hand(0, Input::Exec(exec::Event::Exited { id, status, cause, unheard }));
}
