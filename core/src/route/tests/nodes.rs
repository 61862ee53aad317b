use alloc::vec;

use super::*;

#[test]
fn r08_what_is_created_is_in_the_file_before_it_is_answered() {
    let mut bench = Bench::new();
    let client =
        bench.ask("create_node -i 7 -p linux -t 100 -r 192.0.2.0/24 -n 10.0.0.2 -m primary");
    assert!(!bench.answers.contains_key(&client));
    assert!(bench.run("show_node -i 7").0 == 3 || bench.files.contains_key(FILE));
    bench.disk();
    assert_eq!(bench.answer(client), (0, "node 7: created".into()));
    let table = stored::read(&bench.files[FILE]).unwrap();
    assert_eq!(table.iter().count(), 1);
    let (code, text) = bench.run("show_node -i 7");
    assert_eq!(code, 0);
    for part in ["\"index\":7", "\"mode\":\"primary\"", "\"nextHop\":\"10.0.0.2\""] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn r11_a_node_is_deleted_twice_without_an_error() {
    let mut bench = Bench::new();
    bench.linux(7, "");
    assert_eq!(bench.run("delete_node -i 7"), (0, "node 7: deleted".into()));
    assert_eq!(bench.run("delete_node -i 7").0, 0);
    assert_eq!(bench.run("show_node -i 7").0, 3);
}

#[test]
fn r09_r10_what_cannot_be_changed_has_its_exit_code() {
    let mut bench = Bench::new();
    assert_eq!(bench.run("set_params -i 7 -n 10.0.0.2").0, 3);
    assert_eq!(bench.run("clear_params -i 7 -m").0, 3);
    bench.linux(7, "");
    // The flag belongs to another provider. Only the server can detect this.
    assert_eq!(bench.run("set_params -i 7 -rg us-east-1").0, 2);
    assert_eq!(bench.run("set_params -i 7 -n nowhere").0, 2);
    assert_eq!(bench.run("set_params -i 7 -p aws").0, 3);
    assert_eq!(bench.run("create_node -i 8 -t 100").0, 2);
}

#[test]
fn r19_what_was_acknowledged_outlives_a_kill() {
    let mut bench = Bench::new();
    bench.linux(7, "");
    bench.linux(8, "");
    bench.run("delete_node -i 7");
    bench.run("set_params -i 8 -n 10.0.0.9");
    // This request is not acknowledged.
    bench.ask("delete_node -i 8");
    let mut bench = bench.restart();
    assert_eq!(bench.run("show_node -i 7").0, 3);
    assert!(bench.run("show_node -i 8").1.contains("10.0.0.9"));
}

#[test]
fn r19_a_write_that_fails_takes_back_what_it_was_for_and_is_mended() {
    let mut bench = Bench::new();
    bench.linux(7, "");
    let first = bench.ask("delete_node -i 7");
    let second = bench.ask("create_node -i 8 -p linux -t 1 -r 10.0.0.0/8 -n 10.0.0.2");
    // The disk has the new content, but reports a failure.
    let Some(file::Command::Write(write)) = bench.pending.front() else { panic!() };
    let (path, content) = (write.path.clone(), write.content.clone());
    bench.files.insert(path, content);
    bench.disk_once(Some(Errno(28)));
    assert_eq!((bench.answer(first).0, bench.answer(second).0), (4, 3));
    assert!(bench.answer(first).1.contains("ENOSPC"), "{:?}", bench.answer(first));
    assert_eq!(bench.run("show_node -i 7").0, 0);
    let Next::WaitUntil { at, .. } = bench.next else { panic!("it is tried again") };
    bench.at = at.as_micros();
    bench.hand(Input::Tick);
    bench.disk();
    let mut bench = bench.restart();
    assert_eq!(bench.run("show_node -i 7").0, 0);
    assert_eq!(bench.run("show_node -i 8").0, 3);
}

#[test]
fn r19_a_file_that_cannot_be_used_is_left_as_it_is() {
    for content in
        ["{\"hax_route\":2}\n", "garbage", "{\"hax_route\":1,\"nodes\":1,\"crc32\":7}\n{}"]
    {
        let files = BTreeMap::from([(FILE.into(), Bytes::from(content))]);
        let mut bench = Bench::on(files.clone());
        let early = bench.ask("ha_api -c ping");
        bench.disk();
        assert_eq!(bench.next, Next::Exit);
        assert!(bench.server.is_unusable());
        assert_eq!((bench.answer(early).0, &bench.files), (4, &files));
    }
}

#[test]
fn r16_the_server_answers_a_ping_once_it_serves() {
    let mut bench = Bench::on(BTreeMap::new());
    let early = bench.ask("ha_api -c ping");
    assert!(!bench.answers.contains_key(&early));
    bench.disk();
    assert_eq!(bench.answer(early).0, 0);
}

#[test]
fn r17_a_stop_by_ha_api_deletes_all_state() {
    let mut bench = Bench::new();
    bench.linux(7, "");
    let event = bench.ask("node_event -i 7 -e verify");
    let waits = bench.ask("node_event -i 7 -e peerFail");
    let stop = bench.ask("ha_api -c stop");
    assert_eq!(bench.killed, [ExecId(1)]);
    assert_eq!(bench.answer(waits).0, 7);
    bench.disk();
    assert_eq!(bench.answer(stop).0, 0);
    assert_ne!(bench.next, Next::Exit, "a handler runs");
    let (id, unheard) = (ExecId(1), exec::Unheard::default());
    let (status, cause) = (Ended::Signal(15), Cause::Killed);
    bench.hand(Input::Exec(exec::Event::Exited { id, status, cause, unheard }));
    assert_eq!((bench.answer(event).0, bench.next), (7, Next::Exit));
    assert!(!bench.files.contains_key(FILE));
    assert_eq!(stored::read(&bench.files["/dir/nodes.json.bak"]).unwrap().len(), 1);
    let mut bench = bench.restart();
    assert_eq!(bench.run("show_node"), (0, String::new()));
}

#[test]
fn r17_a_stop_that_cannot_delete_says_so_and_goes_on() {
    let mut bench = Bench::new();
    bench.linux(7, "");
    let stop = bench.ask("ha_api -c stop");
    bench.disk_once(Some(Errno(30)));
    assert_eq!(bench.answer(stop).0, 4);
    bench.disk();
    assert_eq!(bench.run("show_node -i 7").0, 0);
}

/// A bug that the World found: the signal was lost, and the server continued to run.
#[test]
fn r17_a_signal_ends_a_server_that_cannot_delete_its_state() {
    let mut bench = Bench::new();
    bench.linux(1, "");
    let stop = bench.ask("ha_api -c stop");
    bench.hand(Input::Stop);
    bench.disk_once(Some(Errno::EAGAIN));
    assert_eq!(bench.answer(stop).0, 4);
    assert_eq!(bench.server.status().text, "Stopping");
    bench.disk();
    assert_eq!(bench.next, Next::Exit);
    let mut bench = bench.restart();
    assert_eq!(bench.run("show_node -i 1").0, 0);
}

#[test]
fn a_stop_by_a_signal_keeps_everything_and_finishes_what_was_begun() {
    let mut bench = Bench::new();
    bench.linux(7, "");
    let event = bench.ask("node_event -i 7 -e verify");
    let change = bench.ask("delete_node -i 7");
    bench.hand(Input::Stop);
    let late = bench.ask("show_node");
    assert_eq!(bench.answer(late).0, 3);
    bench.disk();
    assert_eq!(bench.answer(change).0, 0);
    bench.work(1);
    assert_eq!((bench.answer(event).0, bench.next), (0, Next::Exit));
}

#[test]
fn what_is_no_request_is_refused() {
    let mut bench = Bench::new();
    for body in [
        &b""[..],
        b"\xff",
        b"{}",
        b"{\"request\":\"fly\"}",
        b"[]",
        b"{\"request\":\"delete_node\",\"index\":1024}",
    ] {
        let client = bench.send(Bytes::from_static(body));
        assert_eq!(bench.answer(client).0, 2, "{body:?}");
    }
}

#[test]
fn r23_the_state_is_shown_over_http() {
    let mut bench = Bench::new();
    bench.linux(7, "");
    for (nth, target) in ["/v1/route", "/healthz", "/readyz", "/nothing"].into_iter().enumerate() {
        let (id, method, target) = (HttpId(nth as u64), "GET".into(), target.into());
        let request =
            port::Request { id, method, target, body: Bytes::new(), trust: port::Trust::Local };
        bench.hand(Input::Http(Box::new(request)));
    }
    let statuses: Vec<u16> = bench.http.iter().map(|response| response.status).collect();
    assert_eq!(statuses, vec![200, 200, 200, 404]);
    let shown: serde_json::Value = serde_json::from_slice(&bench.http[0].body).unwrap();
    assert_eq!(shown["nodes"][0]["parameters"]["nextHop"], "10.0.0.2");
    let over_pipes = bench.send(Request::Status.encode());
    assert_eq!(bench.answer(over_pipes).1.to_string().as_bytes(), &bench.http[0].body[..]);
}

#[test]
fn the_default_provider_is_that_of_nodes_without_one() {
    let mut bench = Bench::new();
    bench.default_provider = Some(Provider::Aws);
    bench.server = Bench::server(bench.default_provider);
    bench.hand(Input::Tick);
    bench.disk();
    let line = "create_node -i 10 -t rtb-12345678 -rg us-east-1 -n eni-12345678 -m primary";
    assert_eq!(bench.run(line).0, 0);
    bench.ask("node_event -i 10 -e peerFail");
    let job = bench.handlers.values().next().unwrap();
    assert_eq!((job.provider, &*job.parameters["eniId"]), (Provider::Aws, "eni-12345678"));
}
