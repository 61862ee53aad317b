//! What real processes tell over the socket for instances.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::cluster::{Cluster, Node, said};
use crate::common::program::{command, holds};

/// Returns the type of a script that speaks with `hax`, which is `$0` in it.
fn speaks(script: &str) -> String {
    let hax = command(&[]).get_program().to_str().unwrap().to_owned();
    let argv = json!(["/bin/sh", "-ec", script, hax]);
    format!(
        "type = \"speaks\"\nready = \"notify\"\ncommand = {argv}\n[restart]\nstable = \"1s\"\n[schema]\nid = \"s\"\nkinds = [\"db\"]\n"
    )
}

fn shown(node: &Node) -> Value {
    node.instances("speaks").remove("n1").unwrap()
}

/// Sends a request over the socket for instances, and returns the answer.
fn request(node: &Node, method: &str, path: &str, body: &str) -> String {
    let mut socket = UnixStream::connect(node.path("instance.sock")).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    socket.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn h15_h24_a_process_tells_what_it_holds_and_that_it_ends() {
    let Some(mut cluster) = Cluster::start(1) else { return };
    let node = &mut cluster.nodes[0];
    let mode = fs::metadata(node.path("instance.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666, "instances run as any user");
    let go = node.path("go");
    node.define(
        "speaks",
        &speaks(&format!(
            "\"$0\" service tell acquired db/one --shared; \"$0\" service tell ready
             while [ ! -e {go} ]; do sleep 0.1; done
             \"$0\" service tell released db/one; \"$0\" service tell stopping 'all is said'; exit 3"
        )),
    );
    let out = node.done(&["start", "speaks"]);
    assert!(out.contains("running"), "{out}");
    assert_eq!(shown(node)["resources"], json!({ "db/one": "shared" }));
    // The voice of an instance outlives hax; what it says meanwhile waits.
    node.kill_hax();
    fs::write(&go, "").unwrap();
    node.start_hax();
    assert!(holds(|| shown(node)["state"] == "absent"), "{}", shown(node));
    assert!(
        node.done(&["why", "speaks"]).contains("all is said"),
        "{}",
        node.done(&["why", "speaks"])
    );
    assert!(holds(|| shown(node)["wanted"]["want"] == "resting"), "{}", shown(node));
}

#[test]
fn h17_h18_a_process_that_asks_hears_what_is_to_become_of_it() {
    let Some(cluster) = Cluster::start(1) else { return };
    let node = &cluster.nodes[0];
    let answer = node.path("answer");
    // A life after an answer is well. The stop may come before the answer is in its place.
    node.define(
        "speaks",
        &speaks(&format!(
            "\"$0\" service tell ready; if [ -e {answer} ]; then exec sleep 1000; fi
             \"$0\" service tell failed 'no disk' --wait > {answer}.new; mv {answer}.new {answer}; exec sleep 1000"
        )),
    );
    node.done(&["start", "speaks"]);
    assert!(holds(|| fs::read_to_string(&answer).is_ok_and(|said| said.starts_with("restart"))));
    assert!(holds(|| {
        let one = shown(node);
        one["state"] == "running" && one["wanted"]["serial"].as_u64() >= Some(2)
    }));
}

#[test]
fn the_socket_for_instances_has_one_path_and_wants_a_proof() {
    let Some(cluster) = Cluster::start(1) else { return };
    let node = &cluster.nodes[0];
    for (method, path) in
        [("GET", "/v1/services"), ("GET", "/"), ("POST", "/v1/types"), ("GET", "/metrics")]
    {
        let answer = request(node, method, path, "");
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
    let forged = r#"{"instance":"speaks.n1.1.1:00","tell":"ready"}"#;
    let answer = request(node, "POST", "/v1/tell", forged);
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let outside = command(&["service", "tell", "ready"]).output().unwrap();
    assert_eq!(outside.status.code(), Some(2));
    assert!(said(&outside).contains("HAX_SOCKET is not set"), "{}", said(&outside));
    // A secret is in no list.
    node.define("speaks", &speaks("\"$0\" service tell ready; exec sleep 1000"));
    node.done(&["start", "speaks"]);
    let list =
        command(&["keeper", "list", "--json", "--dir", &node.path("keeper")]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(list.contains("speaks") && !list.contains("capability"), "{list}");
}

#[test]
fn h34_a_message_reaches_the_program_that_delivers_it_with_what_it_carries() {
    let Some(cluster) = Cluster::start(1) else { return };
    let node = &cluster.nodes[0];
    let script = "cat; echo $HAX_MESSAGE of $MAINPID; echo no >&2; exit $1";
    let message = |code| json!(["/bin/sh", "-c", script, "sh", code]);
    let text = speaks("\"$0\" service tell ready; exec sleep 1000");
    let (well, ill) = (message("0"), message("3"));
    node.define(
        "speaks",
        &format!("{text}\n[message.rotate]\ncommand = {well}\n[message.break]\ncommand = {ill}\n"),
    );
    node.done(&["start", "speaks"]);
    let (pid, input) =
        (shown(node)["pid"].clone(), node.file("input", "carried ").display().to_string());
    let out = node.done(&["send", "speaks", "rotate", "--input", &input]);
    assert_eq!(out, format!("carried rotate of {pid}\n"));
    let failed = node.service(&["send", "speaks", "break"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        said(&failed).contains("has ended with 3") && said(&failed).contains("no"),
        "{}",
        said(&failed)
    );
    let unknown = node.service(&["send", "speaks", "dance"]);
    assert!(said(&unknown).contains("break, rotate, check, status"), "{}", said(&unknown));
    assert!(node.done(&["send", "speaks", "status"]).starts_with("running"));
    node.hax.as_ref().unwrap().says(&["status of speaks."]);
}
