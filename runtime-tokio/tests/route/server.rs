//! Tests of the server: its file, its life and its end.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::time::Duration;

use rustix::process::Signal;

use crate::hax::HAX;
use crate::router::{Router, said};

const NODE: &str = "-p consul -t table -r 192.0.2.0/24 -n 10.0.0.2";

#[test]
fn r04_clients_and_server_talk_over_pipes() {
    let router = Router::serving("pipes");
    let found = fs::metadata(router.dir().join("requests")).unwrap();
    assert!(found.file_type().is_fifo());
}

/// A client has 2 s for its request. The time begins with the client, not with the server.
#[test]
fn r04_a_server_that_nobody_has_asked_for_long_answers() {
    let router = Router::serving("idle");
    router.ok("ha_api -c ping");
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(Duration::from_millis(2_500));
    router.ok("ha_api -c ping");
}

#[test]
fn r19_what_was_acknowledged_outlives_kill_9() {
    let mut router = Router::serving("kill");
    for round in 0..5_u16 {
        // Scripts run until the server is killed during their requests.
        let acknowledged: Vec<u16> = std::thread::scope(|scope| {
            let running = scope.spawn(|| {
                let indexes = round * 100 + 1..=round * 100 + 100;
                let create =
                    |index: &u16| router.run(&format!("create_node -i {index} {NODE}")).0 == 0;
                indexes.take_while(create).collect()
            });
            let pid = rustix::process::Pid::from_raw(router.pid().cast_signed()).unwrap();
            while router.run("show_node").1.lines().count() < usize::from(round) * 3 + 3 {}
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
            running.join().unwrap()
        });
        assert_eq!(router.ended(), None);
        router.serve();
        let shown = router.ok("show_node");
        for index in acknowledged {
            assert!(shown.contains(&format!("\"index\":{index},")), "{index} is lost");
        }
    }
}

#[test]
fn a_signal_keeps_everything() {
    let mut router = Router::serving("signal");
    router.ok(&format!("create_node -i 7 {NODE}"));
    assert_eq!(router.end(Signal::TERM), Some(0));
    assert!(!router.dir().join("requests").exists());
    assert_eq!(router.run("ha_api -c ping").0, 4);
    router.serve();
    router.ok("show_node -i 7");
}

#[test]
fn r16_r17_ha_api_starts_pings_and_stops() {
    let router = Router::new("ha-api");
    assert_eq!(router.run("ha_api -c ping").0, 4);
    router.ok("ha_api -c start");
    router.ok("ha_api -c start");
    router.ok("ha_api -c ping");
    router.ok(&format!("create_node -i 7 {NODE}"));
    router.ok("ha_api -c stop");
    // The server has answered and is ending.
    while router.dir().join("requests").exists() {
        std::thread::yield_now();
    }
    let mut names: Vec<_> =
        fs::read_dir(router.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.retain(|name| name != "log" && name != "log.old");
    assert_eq!(names, ["nodes.json.bak"]);
    router.ok("ha_api -c start");
    assert_eq!(router.ok("show_node"), "");
    router.ok("ha_api -c stop");
}

#[test]
fn a_second_server_in_one_folder_is_refused() {
    let router = Router::serving("second");
    let (code, text) = said(&mut router.command(HAX, "route serve"));
    assert!(code == 3 && text.contains("is served by another"), "{text}");
    router.ok("ha_api -c ping");
}

#[test]
fn r19_a_file_that_cannot_be_used_is_told_and_kept() {
    let router = Router::new("damaged");
    fs::create_dir(router.dir()).unwrap();
    for content in ["{\"hax_route\":2,\"nodes\":[]}\n", "{'index': 7}\n"] {
        let path = router.dir().join("nodes.json");
        fs::write(&path, content).unwrap();
        let (code, text) = said(&mut router.command(HAX, "route serve"));
        assert!(code == 1 && text.contains("cannot use the file"), "{text}");
        assert_eq!(fs::read_to_string(path).unwrap(), content);
    }
}

#[test]
fn a_file_in_the_pipe_s_place_is_told() {
    let router = Router::new("no-pipe");
    fs::create_dir(router.dir()).unwrap();
    fs::write(router.dir().join("requests"), "").unwrap();
    let (code, text) = said(&mut router.command(HAX, "route serve"));
    assert!(code == 3 && text.contains("is no pipe"), "{text}");
}

#[test]
fn r21_the_server_answers_while_a_request_hangs() {
    let router = Router::serving("hangs");
    // A client that has announced itself and writes no request.
    let token = hax_core::fifo::Token::new("hangs").unwrap();
    for name in [token.request_pipe(), token.answer_pipe()] {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, router.dir().join(name), mode).unwrap();
    }
    let open = |name: String| {
        fs::OpenOptions::new().read(true).write(true).open(router.dir().join(name)).unwrap()
    };
    let _held = (open(token.request_pipe()), open(token.answer_pipe()));
    fs::write(router.dir().join("requests"), token.announcement()).unwrap();
    let asked = hax_driver::fifo::ask(
        &router.dir(),
        hax_core::route::request::Request::Ping.encode().as_bytes(),
        Duration::from_secs(1),
    );
    assert!(asked.is_ok(), "{asked:?}");
}

/// Returns the redundancy nodes in an answer, without what changes with time.
fn known(nodes: &serde_json::Value) -> Vec<String> {
    let node = |node: &serde_json::Value| {
        format!("{} {} {} {}", node["index"], node["provider"], node["mode"], node["parameters"])
    };
    nodes.as_array().unwrap().iter().map(node).collect()
}

#[test]
fn r23_scripts_programs_and_http_see_the_same() {
    let http = format!("127.0.0.1:{}", hax_sim::real::port());
    let router = Router::serving_with("clients", &format!("--http {http}"));
    router.ok(&format!("create_node -i 7 {NODE} -m primary"));
    router.ok("create_node -i 9 -p linux -t 100 -r 2001:db8::/32 -n 2001:db8:1::1");
    let lines = router.ok("show_node");
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let by_script = known(&lines.into());
    assert_eq!(by_script.len(), 2, "{by_script:?}");
    let request = hax_core::route::request::Request::Status.encode();
    let within = Duration::from_secs(10);
    let answer = hax_driver::fifo::ask(&router.dir(), request.as_bytes(), within).unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    let by_program: serde_json::Value =
        serde_json::from_str(answer["text"].as_str().unwrap()).unwrap();
    assert_eq!(known(&by_program["nodes"]), by_script);
    let http = http.parse().unwrap();
    let reply = hax_sim::real::client::request(http, within, "GET", "/v1/route", b"").unwrap();
    let by_http: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(known(&by_http["nodes"]), by_script);
}
