//! A test with a thousand instances at once.

use hax_core::keeper::answer::{Answer, State};
use hax_core::keeper::request::Ask;
use serde_json::json;

use crate::common::program::holds;
use crate::world::{World, id, start};

const MANY: usize = 1000;

#[test]
fn h28_a_thousand_instances_are_started_adopted_and_stopped() {
    let mut world = World::in_memory(&[]);
    let mut client = world.client();
    for n in 0..MANY {
        let start = start(&format!("a{n}"), &["/bin/sleep", "1000"], &json!({}));
        let answer = client.ask(Ask::Start(Box::new(start))).unwrap();
        assert!(matches!(answer, Answer::Started { .. }));
    }
    let pids = |world: &World| {
        let running = world.views().into_iter().filter(|(_, view)| view.state == State::Running);
        running.map(|(name, view)| (name, view.pid.unwrap())).collect::<Vec<_>>()
    };
    let before = pids(&world);
    assert_eq!(before.len(), MANY);
    world.restart();
    assert_eq!(pids(&world), before);
    let mut client = world.client();
    for n in 0..MANY {
        assert_eq!(client.ask(Ask::Stop { instance: id(&format!("a{n}")) }).unwrap(), Answer::Done);
    }
    let is_over = || world.views().values().all(|view| view.state == State::Ended);
    assert!(holds(is_over));
    assert_eq!(world.leaks().1, 0);
    for n in 0..MANY {
        client.ask(Ask::Forget { instance: id(&format!("a{n}")) }).unwrap();
    }
    assert!(world.views().is_empty());
}
