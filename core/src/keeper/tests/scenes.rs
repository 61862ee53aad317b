//! Tests of single behaviours.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use super::host::{CLIENT, Host, WATCHER, id};
use crate::base::time::Next;
use crate::exec::Status;
use crate::keeper::answer::{Answer, Cause, Code, State, What};
use crate::keeper::record::RecordFile;
use crate::keeper::request::tests::start;
use crate::keeper::request::{Ask, Counted, Start};
use crate::keeper::{ClientId, Input};

const SECOND: u64 = 1_000_000;

fn begin(host: &mut Host, start: Start) -> Result<Answer, Code> {
    host.ask(Ask::Start(Box::new(start))).unwrap().map_err(|error| error.code)
}

fn stop(host: &mut Host, name: &str) -> Result<Answer, Code> {
    host.ask(Ask::Stop { instance: id(name) }).unwrap().map_err(|error| error.code)
}

fn counted(host: &Host, name: &str, seconds: u64) -> Start {
    let until_us = host.now.as_micros() + seconds * SECOND;
    Start { counted: Some(Counted { until_us, grace_ms: 500, fence: 3 }), ..start(name, name) }
}

/// Returns a host with one running instance and a watcher.
fn running(start: Start) -> Host {
    let mut host = Host::new();
    host.ask_as(WATCHER, Ask::Watch);
    begin(&mut host, start).unwrap();
    host
}

#[test]
fn an_intent_is_written_before_the_start_and_the_start_is_answered_after_it() {
    let mut host = Host::new();
    host.ask_as(WATCHER, Ask::Watch);
    let Ok(Answer::Started { instance, already: false }) = begin(&mut host, start("a", "n")) else {
        panic!()
    };
    assert_eq!((instance.state, instance.asked_by, instance.generation), (State::Running, 5, 1));
    assert_eq!(host.trace[0], "write a/intent");
    assert!(host.trace[1].starts_with("a runs: process 101, asked for by user 5"));
    assert_eq!(host.events(), ["started a"]);
}

#[test]
fn h04_of_many_starts_of_one_service_one_runs_and_the_others_are_told_which() {
    let mut host = running(start("a0", "n"));
    for n in 1..50 {
        let answer = host.ask(Ask::Start(Box::new(start(&format!("a{n}"), "n"))));
        let error = answer.unwrap().unwrap_err();
        assert_eq!((error.code, error.holder), (Code::NameHeld, Some(id("a0"))));
    }
    // A repeated start with the same parameters refers to the same instance.
    let Ok(Answer::Started { instance, already: true }) = begin(&mut host, start("a0", "n")) else {
        panic!()
    };
    assert_eq!(instance.pid, Some(101));
    assert_eq!(host.groups.values().filter(|group| group.is_there()).count(), 1);
}

#[test]
fn h41_a_name_is_free_once_its_holder_has_ended() {
    let mut host = running(start("a", "db"));
    assert_eq!(begin(&mut host, start("b", "db")), Err(Code::NameHeld));
    assert_eq!(stop(&mut host, "a"), Ok(Answer::Done));
    assert!(begin(&mut host, start("b", "db")).is_ok());
}

#[test]
fn h10_the_name_of_an_instance_is_used_once() {
    let mut host = running(start("a", "n"));
    let other = Start { umask: 0, ..start("a", "m") };
    assert_eq!(begin(&mut host, other), Err(Code::Used));
    stop(&mut host, "a").unwrap();
    assert_eq!(begin(&mut host, start("a", "n")), Err(Code::Used));
    host.ask(Ask::Forget { instance: id("a") });
    assert!(begin(&mut host, start("a", "n")).is_ok(), "whoever forgets it answers for that");
}

#[test]
fn h42_a_stop_and_a_forget_may_be_repeated() {
    let mut host = running(start("a", "n"));
    for _ in 0..3 {
        assert_eq!(stop(&mut host, "a"), Ok(Answer::Done));
    }
    for _ in 0..3 {
        assert_eq!(host.ask(Ask::Forget { instance: id("a") }), Some(Ok(Answer::Done)));
    }
    assert_eq!(stop(&mut host, "a"), Err(Code::Unknown));
    let ended = "exited a Some(Signal(15)) Some(Stop)";
    assert_eq!(host.events(), ["started a", "stopping a", ended, "forgotten a"]);
    assert!(host.files.is_empty());
}

#[test]
fn h23_what_cannot_be_started_leaves_nothing_behind() {
    let mut host = Host::new();
    host.broken.insert(id("a"));
    let error = host.ask(Ask::Start(Box::new(start("a", "n")))).unwrap().unwrap_err();
    assert_eq!((error.code, &*error.text), (Code::NotStarted, "there is no such program"));
    assert!(host.views().is_empty() && host.files.is_empty());
    host.is_full = true;
    assert_eq!(begin(&mut host, start("b", "n")), Err(Code::NotStored));
    host.is_full = false;
    assert!(host.groups.values().all(|group| !group.is_there()) && host.views().is_empty());
    assert!(begin(&mut host, start("b", "n")).is_ok());
}

#[test]
fn h25_an_end_is_told_once_and_kept_until_it_is_forgotten() {
    let mut host = running(start("a", "n"));
    host.ended(&id("a"), Status::Signal(9));
    let told = "exited a Some(Signal(9)) Some(Itself)";
    assert_eq!(host.events(), ["started a", told]);
    host.kill_keeper();
    host.start_keeper();
    let view = host.view("a");
    assert_eq!((view.state, view.status), (State::Ended, Some(Status::Signal(9))));
    assert_eq!(host.ask(Ask::Forget { instance: id("a") }), Some(Ok(Answer::Done)));
    host.kill_keeper();
    host.start_keeper();
    assert!(host.views().is_empty());
}

#[test]
fn one_that_does_not_stop_is_killed_when_its_time_is_over() {
    let mut host = running(start("a", "n"));
    host.groups.get_mut(&id("a")).unwrap().is_deaf = true;
    stop(&mut host, "a").unwrap();
    host.pass(10 * SECOND - 1);
    assert_eq!(host.view("a").state, State::Stopping);
    host.pass(1);
    let view = host.view("a");
    assert_eq!((view.status, view.cause), (Some(Status::Signal(9)), Some(Cause::Stop)));
    assert_eq!(host.next, Next::Wait, "no timer is left");
}

#[test]
fn a_kill_does_not_wait_and_makes_a_stop_faster() {
    let mut host = running(start("a", "n"));
    host.groups.get_mut(&id("a")).unwrap().is_deaf = true;
    stop(&mut host, "a").unwrap();
    host.ask(Ask::Kill { instance: id("a") });
    assert_eq!(host.view("a").cause, Some(Cause::Kill));
    assert_eq!(host.view("a").state, State::Ended);
}

#[test]
fn what_hangs_is_killed_again_and_told_once() {
    let mut host = running(start("a", "n"));
    host.groups.get_mut(&id("a")).unwrap().hangs = true;
    host.ask(Ask::Kill { instance: id("a") });
    host.pass(30 * SECOND);
    let count = |part: &str| host.trace.iter().filter(|line| line.contains(part)).count();
    assert_eq!((count("kill a"), count("hangs")), (7, 1));
    host.groups.get_mut(&id("a")).unwrap().hangs = false;
    host.pass(5 * SECOND);
    assert_eq!(host.view("a").state, State::Ended);
}

#[test]
fn a_stop_by_a_command_runs_it_instead_of_the_signal() {
    let mut by_command = start("a", "n");
    by_command.stop.command = ["/bin/stop".into()].into();
    let mut host = running(by_command);
    stop(&mut host, "a").unwrap();
    assert!(host.trace.contains(&"run stop a".into()));
    assert!(!host.trace.iter().any(|line| line.starts_with("signal")));
}

#[test]
fn h05_what_a_main_process_leaves_behind_is_killed_unless_it_forks() {
    for forks in [false, true] {
        let mut host = running(Start { forks, ..start("a", "n") });
        host.forks(&id("a"));
        let other = host.groups[&id("a")].other;
        host.ended(&id("a"), Status::Code(0));
        if !forks {
            host.pass(SECOND);
            assert_eq!(host.view("a").status, Some(Status::Code(0)));
            assert!(!host.groups[&id("a")].is_there());
            continue;
        }
        let view = host.view("a");
        assert_eq!((view.state, view.pid), (State::Running, other.map(|other| other.pid)));
        // The instance ends with its last process.
        host.ended(&id("a"), Status::Code(4));
        assert_eq!(host.view("a").status, Some(Status::Code(4)));
    }
}

#[test]
fn one_that_forks_and_fails_is_not_followed() {
    let mut host = running(Start { forks: true, ..start("a", "n") });
    host.forks(&id("a"));
    host.ended(&id("a"), Status::Code(1));
    host.pass(SECOND);
    assert_eq!(host.view("a").status, Some(Status::Code(1)));
    assert!(!host.groups[&id("a")].is_there());
}

#[test]
fn what_is_left_and_cannot_be_killed_is_given_up_after_a_while() {
    let mut host = running(start("a", "n"));
    host.forks(&id("a"));
    host.groups.get_mut(&id("a")).unwrap().hangs = true;
    host.ended(&id("a"), Status::Code(0));
    host.pass(4 * SECOND);
    assert_eq!(host.view("a").state, State::Stopping);
    host.pass(2 * SECOND);
    let view = host.view("a");
    assert!(view.left && view.state == State::Ended);
}

#[test]
fn a_counted_one_that_is_not_renewed_is_stopped_and_killed() {
    let mut host = Host::new();
    let start = counted(&host, "a", 2);
    begin(&mut host, start).unwrap();
    host.groups.get_mut(&id("a")).unwrap().is_deaf = true;
    host.pass(2 * SECOND - 1);
    assert_eq!(host.view("a").state, State::Running);
    host.pass(1);
    assert_eq!(host.view("a").state, State::Stopping);
    assert!(host.trace.contains(&"signal a 15 all=true".into()));
    host.pass(SECOND / 2);
    let view = host.view("a");
    assert_eq!((view.state, view.cause), (State::Ended, Some(Cause::Deadline)));
}

#[test]
fn a_renewed_one_lives_and_a_deadline_never_moves_back() {
    let mut host = Host::new();
    let start = counted(&host, "a", 2);
    begin(&mut host, start).unwrap();
    let until = host.view("a").until_us.unwrap();
    for (moved, expected) in [(until + SECOND, until + SECOND), (until, until + SECOND)] {
        let deadlines = [(id("a"), moved), (id("b"), moved)].into();
        let answer = host.ask(Ask::Renew { deadlines });
        assert_eq!(answer, Some(Ok(Answer::Renewed { refused: [id("b")].into() })));
        assert_eq!(host.view("a").until_us, Some(expected));
    }
    host.pass(2 * SECOND);
    assert_eq!(host.view("a").state, State::Running);
    // A renewal after the deadline changes nothing.
    host.pass(SECOND);
    let deadlines = [(id("a"), until + 9 * SECOND)].into();
    let answer = host.ask(Ask::Renew { deadlines });
    assert_eq!(answer, Some(Ok(Answer::Renewed { refused: [id("a")].into() })));
    let late = Start {
        counted: Some(Counted { until_us: until, grace_ms: 0, fence: 1 }),
        ..counted(&host, "l", 1)
    };
    assert_eq!(begin(&mut host, late), Err(Code::Late));
}

#[test]
fn a_keeper_that_was_frozen_beyond_a_deadline_kills_at_once() {
    let mut host = Host::new();
    let start = counted(&host, "a", 2);
    begin(&mut host, start).unwrap();
    host.groups.get_mut(&id("a")).unwrap().is_deaf = true;
    // The keeper does not run during this time.
    host.now = host.now.after(core::time::Duration::from_secs(10));
    host.input(Input::Tick);
    assert_eq!(host.view("a").state, State::Ended);
    assert!(!host.trace.iter().any(|line| line.starts_with("signal")), "{:?}", host.trace);
}

#[test]
fn a_renewal_holds_in_the_next_life_of_the_keeper() {
    let mut host = Host::new();
    let start = counted(&host, "a", 2);
    begin(&mut host, start).unwrap();
    let until = host.view("a").until_us.unwrap() + 3 * SECOND;
    host.ask(Ask::Renew { deadlines: [(id("a"), until)].into() });
    host.kill_keeper();
    host.start_keeper();
    let view = host.view("a");
    assert_eq!((view.until_us, view.adopted, view.generation), (Some(until), true, 1));
    host.pass(5 * SECOND);
    assert_eq!(host.view("a").state, State::Ended);
}

#[test]
fn a_stop_that_was_answered_goes_on_in_the_next_life_of_the_keeper() {
    let mut host = running(start("a", "n"));
    host.groups.get_mut(&id("a")).unwrap().is_deaf = true;
    stop(&mut host, "a").unwrap();
    host.pass(4 * SECOND);
    host.kill_keeper();
    host.start_keeper();
    assert_eq!(host.view("a").state, State::Stopping);
    host.pass(6 * SECOND);
    let view = host.view("a");
    assert_eq!((view.state, view.cause), (State::Ended, Some(Cause::Stop)));
}

#[test]
fn what_ended_while_no_keeper_ran_is_known_to_have_ended_and_no_more() {
    let mut host = running(start("a", "n"));
    host.kill_keeper();
    host.groups.get_mut(&id("a")).unwrap().main = None;
    host.start_keeper();
    let view = host.view("a");
    assert_eq!((view.state, view.status), (State::Ended, Some(Status::Unknown)));
    assert_eq!(view.cause, Some(Cause::Itself));
    assert!(host.files[&id("a")].contains_key(&RecordFile::Ended));
}

#[test]
fn what_a_main_process_left_while_no_keeper_ran_is_killed_or_followed() {
    for forks in [false, true] {
        let mut host = running(Start { forks, ..start("a", "n") });
        host.forks(&id("a"));
        host.kill_keeper();
        host.groups.get_mut(&id("a")).unwrap().main = None;
        host.start_keeper();
        host.pass(SECOND);
        assert_eq!(host.groups[&id("a")].is_there(), forks);
        let state = if forks { State::Running } else { State::Ended };
        assert_eq!(host.view("a").state, state);
    }
}

#[test]
fn after_a_reboot_everything_has_ended_by_that() {
    let mut host = running(start("a", "n"));
    host.reboot();
    let view = host.view("a");
    assert_eq!((view.state, view.cause), (State::Ended, Some(Cause::Reboot)));
    assert!(begin(&mut host, start("b", "n")).is_ok());
}

#[test]
fn no_more_are_kept_than_there_is_room_for() {
    let mut host = Host::new();
    for n in 0..8 {
        begin(&mut host, start(&format!("a{n}"), &format!("n{n}"))).unwrap();
    }
    assert_eq!(begin(&mut host, start("b", "m")), Err(Code::TooMany));
    stop(&mut host, "a0").unwrap();
    assert_eq!(begin(&mut host, start("b", "m")), Err(Code::TooMany), "its end is kept");
    host.ask(Ask::Forget { instance: id("a0") });
    assert!(begin(&mut host, start("b", "m")).is_ok());
}

#[test]
fn a_client_that_is_not_understood_is_answered_and_no_more() {
    let mut host = Host::new();
    for (body, code) in [(&b"{"[..], Code::Malformed), (br#"{"v":9,"id":7}"#, Code::Version)] {
        host.input(Input::Frame { client: CLIENT, user: 0, body: body.into() });
        let Some((_, message)) = host.sent.last() else { panic!() };
        let What::Error(error) = &message.what else { panic!() };
        assert_eq!(error.code, code);
    }
    assert_eq!(host.ask(Ask::Forget { instance: id("x") }), Some(Ok(Answer::Done)));
    let signal = Ask::Signal { instance: id("x"), signal: 1 };
    assert_eq!(host.ask(signal).unwrap().unwrap_err().code, Code::Unknown);
}

#[test]
fn one_that_lives_is_not_forgotten_and_one_that_has_ended_gets_no_signal() {
    let mut host = running(start("a", "n"));
    let forget = || Ask::Forget { instance: id("a") };
    let signal = || Ask::Signal { instance: id("a"), signal: 1 };
    assert_eq!(host.ask(forget()).unwrap().unwrap_err().code, Code::Lives);
    host.groups.get_mut(&id("a")).unwrap().is_deaf = true;
    assert_eq!(host.ask(signal()), Some(Ok(Answer::Done)));
    assert!(host.trace.contains(&"signal a 1 all=false".into()));
    host.ended(&id("a"), Status::Code(0));
    assert_eq!(host.ask(signal()).unwrap().unwrap_err().code, Code::NotRunning);
}

#[test]
fn h06_whoever_watches_is_shown_all_and_told_what_follows() {
    let mut host = running(start("a", "n"));
    let other = ClientId(9);
    host.ask_as(other, Ask::Watch);
    let told = |host: &Host| host.sent.iter().filter(|(client, _)| *client == other).count();
    assert_eq!(told(&host), 1);
    host.input(Input::Dropped { instance: id("a"), bytes: 30 });
    assert_eq!(told(&host), 2);
    host.input(Input::Closed { client: other });
    host.ended(&id("a"), Status::Code(0));
    assert_eq!(told(&host), 2);
    assert_eq!(host.view("a").dropped, 30);
    let all: Vec<_> = host.events();
    assert_eq!(all, ["started a", "dropped a 30", "exited a Some(Code(0)) Some(Itself)"]);
}
