//! Clients that behave, clients that do not, and daemons that go.

use super::*;

const A: ClientId = ClientId(1);
const B: ClientId = ClientId(2);

fn at(ms: u32) -> Instant {
    Instant::default().after(Duration::from_millis(ms.into()))
}

fn served(clients_max: usize) -> Pipes {
    let mut pipes = Pipes::new(clients_max);
    pipes.serve();
    pipes
}

/// All that happens when each request is answered at once with what it says.
fn echo(pipes: &mut Pipes) -> Vec<(u64, SimEvent)> {
    let mut seen = Vec::new();
    while let Some(at) = pipes.next_at() {
        while let Some(happening) = pipes.pop(at) {
            if let SimEvent::Asked(_, Request { id, body }) = &happening {
                pipes.respond(at, &Response { id: *id, body: body.clone() });
            }
            seen.push((at.as_micros() / 1000, happening));
        }
    }
    assert_eq!(pipes.waiting().count(), 0);
    seen
}

fn add_client(pipes: &mut Pipes, id: ClientId, body: &[u8], behavior: Behavior) {
    pipes.add_client(at(0), id, frame(body).into(), behavior);
}

fn answered(seen: &[(u64, SimEvent)], id: ClientId, body: &[u8]) -> bool {
    let is_it = |(_, one): &(u64, SimEvent)| matches!(one, SimEvent::Answered(of, said) if *of == id && said == body);
    seen.iter().filter(|one| is_it(one)).count() == 1
}

#[test]
fn a_client_is_answered_whatever_the_others_do() {
    for fate in 0..8 {
        for more in [0, 1, 2, 3, 7, 900] {
            let mut first = Some(fate);
            let behavior = Behavior::drawn(12, |n| first.take().unwrap_or(more).min(n - 1));
            let mut pipes = served(1);
            add_client(&mut pipes, A, b"whatever", behavior.clone());
            add_client(&mut pipes, B, b"hello", Behavior::PROMPT);
            let seen = echo(&mut pipes);
            assert!(answered(&seen, B, b"hello"), "{behavior:?}: {seen:?}");
            let in_time = behavior.is_in_time(12);
            assert!(!in_time || answered(&seen, A, b"whatever"), "{behavior:?}: {seen:?}");
        }
    }
}

#[test]
fn half_a_request_and_a_malformed_one_are_the_end() {
    let half = Behavior { part: 5, pause: 2 * WITHIN, ..Behavior::PROMPT };
    let mut pipes = served(9);
    add_client(&mut pipes, A, b"12345", half);
    pipes.add_client(at(0), B, Bytes::from_static(b"\xff\xff\xff\xffgarbage"), Behavior::PROMPT);
    let expected = [(2, SimEvent::Ended(B)), (2_001, SimEvent::Ended(A))];
    assert_eq!(echo(&mut pipes), expected);
}

#[test]
fn a_long_answer_is_owed_to_those_who_read_it_in_time() {
    let long = vec![b'x'; 2 * PIPE];
    for (reads_after, gets) in [(LATENCY, true), (WITHIN / 2, true), (2 * WITHIN, false)] {
        let behavior = Behavior { reads_after, ..Behavior::PROMPT };
        assert_eq!(behavior.is_in_time(long.len()), gets);
        let mut pipes = served(9);
        add_client(&mut pipes, A, &long, behavior);
        assert_eq!(answered(&echo(&mut pipes), A, &long), gets, "{reads_after:?}");
    }
}

#[test]
fn who_has_no_answer_when_the_daemon_goes_sees_its_end() {
    let mut pipes = served(1);
    add_client(&mut pipes, A, b"one", Behavior::PROMPT);
    add_client(&mut pipes, B, b"two", Behavior::PROMPT);
    let asked = pipes.pop(at(2));
    assert!(matches!(asked, Some(SimEvent::Asked(A, _))), "{asked:?}");
    pipes.daemon_killed(at(2));
    pipes.respond(at(2), &Response { id: FifoId(1), body: Bytes::new() });
    assert_eq!(echo(&mut pipes), [(3, SimEvent::Ended(A)), (3, SimEvent::Ended(B))]);
    // Nobody serves.
    add_client(&mut pipes, A, b"one", Behavior::PROMPT);
    assert_eq!(echo(&mut pipes), [(1, SimEvent::Ended(A))]);
}

#[test]
fn an_answer_that_is_there_outlives_the_machine() {
    for long in [1, 2 * PIPE] {
        let body = vec![b'x'; long];
        let behavior = Behavior { reads_after: WITHIN / 2, ..Behavior::PROMPT };
        let mut pipes = served(1);
        add_client(&mut pipes, A, &body, behavior);
        assert!(pipes.pop(at(2)).is_some());
        pipes.respond(at(2), &Response { id: FifoId(1), body: body.clone().into() });
        pipes.machine_exited(at(2));
        assert!(answered(&echo(&mut pipes), A, &body));
    }
}

#[test]
fn a_client_that_is_drawn_is_harmless_by_itself() {
    assert_eq!(Behavior::drawn(100, |_| 0), Behavior::PROMPT);
}
