use super::*;

#[test]
fn r03_an_event_acts_on_its_node_and_on_no_other() {
    let mut bench = Bench::new();
    bench.linux(7, "");
    bench.linux(8, " -dev eth1");
    let client = bench.ask("node_event -i 8 -e peerFail");
    let jobs: Vec<_> = bench.handlers.values().collect();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].parameters["device"], "eth1".into());
    assert_eq!(jobs[0].response, Response::UpdateIfDifferent);
    assert!(!bench.answers.contains_key(&client), "it is answered when it is worked");
    bench.work(1);
    assert_eq!(bench.answer(client), (0, "node 8: peerFail: it leads here now".into()));
}

#[test]
fn r05_nodes_are_managed_while_events_are_worked() {
    let mut bench = Bench::new();
    bench.linux(7, "");
    let event = bench.ask("node_event -i 7 -e verify");
    bench.linux(8, "");
    assert_eq!(bench.run("set_params -i 7 -n 10.0.0.9").0, 0);
    bench.work(1);
    assert_eq!(bench.answer(event).0, 0);
}

#[test]
fn r14_a_revert_on_a_secondary_does_nothing() {
    let mut bench = Bench::new();
    bench.linux(7, "");
    let (code, text) = bench.run("node_event -i 7 -e revert");
    assert_eq!((code, bench.handlers.len()), (0, 0), "{text}");
    bench.run("set_params -i 7 -m primary");
    bench.ask("node_event -i 7 -e revert");
    assert_eq!(bench.handlers.len(), 1);
}

#[test]
fn r12_an_event_that_cannot_be_worked_fails() {
    let mut bench = Bench::new();
    assert_eq!(bench.run("node_event -i 99 -e peerFail"), (7, "there is no node 99".into()));
    bench.linux(7, "");
    bench.run("clear_params -i 7 -n");
    let (code, text) = bench.run("node_event -i 7 -e peerFail");
    assert!(code == 7 && text.contains("lacks -n"), "{text}");
    assert_eq!(bench.run("node_event -i all -e verify").0, 7);
}

#[test]
fn r21_what_a_handler_says_and_how_it_ends_decides() {
    let ok = r#"{"outcome": "unchanged", "detail": "x"}"#;
    for (said, status, expected) in [
        (ok, Ended::Code(0), 0),
        (ok, Ended::Code(1), 7),
        (ok, Ended::Signal(9), 7),
        ("", Ended::Code(0), 7),
        ("garbage \u{fffd}\n", Ended::Code(0), 7),
        (r#"{"outcome": "failed", "detail": "x"}"#, Ended::Code(1), 7),
        (r#"{"outcome": "failed", "detail": "x"}"#, Ended::Code(0), 7),
    ] {
        let mut bench = Bench::new();
        bench.linux(7, "");
        let client = bench.ask("node_event -i 7 -e verify");
        bench.end(ExecId(1), said, status);
        assert_eq!(bench.answer(client).0, expected, "{said} {status:?}");
    }
}

#[test]
fn r21_a_handler_that_is_not_started_or_takes_too_long_fails_its_event() {
    let mut bench = Bench::new();
    bench.linux(7, "");
    let client = bench.ask("node_event -i 7 -e verify");
    let (id, why) = (ExecId(1), exec::Refusal::Missing);
    bench.hand(Input::Exec(exec::Event::Refused { id, why }));
    assert_eq!(bench.answer(client).0, 7);
    let client = bench.ask("node_event -i 7 -e verify");
    let (id, unheard) = (ExecId(2), exec::Unheard::default());
    let (status, cause) = (Ended::Signal(15), Cause::Deadline);
    bench.hand(Input::Exec(exec::Event::Exited { id, status, cause, unheard }));
    let (code, text) = bench.answer(client);
    assert!(code == 7 && text.contains("too long"), "{text}");
}

#[test]
fn r21_events_of_one_node_are_worked_one_after_another() {
    let mut bench = Bench::new();
    bench.linux(7, " -m primary");
    bench.linux(8, "");
    let clients = [
        bench.ask("node_event -i 7 -e peerFail"),
        bench.ask("node_event -i 7 -e revert"),
        bench.ask("node_event -i 7 -e revert"),
        bench.ask("node_event -i 8 -e peerFail"),
    ];
    let running =
        |bench: &Bench| bench.handlers.values().map(|job| job.event.name()).collect::<Vec<_>>();
    assert_eq!(running(&bench), ["peerFail", "peerFail"], "one of each node");
    bench.work(1);
    assert_eq!(running(&bench), ["peerFail", "revert"]);
    bench.work(3);
    // Two equal waiting events were merged.
    assert_eq!(running(&bench), ["peerFail"]);
    bench.work(2);
    clients.into_iter().for_each(|client| assert_eq!(bench.answer(client).0, 0));
}

#[test]
fn events_that_wait_are_bounded() {
    let mut bench = Bench::new();
    bench.linux(7, "");
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(bench.ask("node_event -i 7 -e verify"));
        clients.push(bench.ask("node_event -i 7 -e peerFail"));
    }
    let refused = clients.iter().filter(|client| bench.answers.contains_key(client)).count();
    // One event runs and eight wait, the last of them a verify. Of the others, each verify is merged with it,
    // and each peerFail is refused.
    assert_eq!(refused, 6);
}

#[test]
fn handlers_that_run_are_bounded_and_none_is_forgotten() {
    let mut bench = Bench::new();
    (1..=100).for_each(|index| bench.linux(index, ""));
    let client = bench.ask("node_event -i 1 -mi 100 -e verify");
    assert_eq!(bench.handlers.len(), 64);
    for id in 1..=100 {
        assert!(!bench.answers.contains_key(&client));
        bench.work(id);
    }
    let (code, text) = bench.answer(client);
    assert_eq!((code, text.lines().count()), (0, 100));
}

#[test]
fn an_event_for_which_nobody_waits_is_worked_too() {
    let mut bench = Bench::new();
    bench.linux(7, "");
    assert_eq!(bench.run("node_event -i 7 -e peerFail --no-wait").0, 0);
    bench.work(1);
    let (_, text) = bench.run("show_node -i 7");
    assert!(text.contains("it leads here now"), "{text}");
}

#[test]
fn a_stop_does_not_wait_for_handlers_for_ever() {
    let mut bench = Bench::new();
    bench.linux(7, "");
    bench.ask("node_event -i 7 -e verify");
    bench.hand(Input::Stop);
    let Next::WaitUntil { at, .. } = bench.next else { panic!("it waits") };
    bench.at = at.as_micros();
    bench.hand(Input::Tick);
    assert_eq!(bench.killed, [ExecId(1)]);
}
