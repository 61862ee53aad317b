//! The guarantees of the bridge, checked from the other side of the library.

use std::time::Duration;

use hax_core::base::fid::Fid;
use hax_core::ha::message::Body;
use hax_core::ha::note::{Note, ObjectState};
use hax_driver::libmotr::message;
use motr_sys::fake::Link;

use super::World;
use super::consul::Fault;

const CONFD: usize = 0;
const IOS: usize = 1;

impl World {
    /// Begins a life of a process and returns its link.
    fn linked(&mut self, i: usize) -> Link {
        self.start(i);
        self.run(Duration::from_millis(20));
        self.check();
        self.peers[i].link.expect("it has its link")
    }

    /// Returns the notes that were sent over a link since the last look.
    fn notes(&self, link: Link) -> Vec<Note> {
        let sent =
            (0..self.library.unseen(link)).map(|_| message::read(&self.library.sent(link)).body);
        let notes = sent.filter_map(|body| match body {
            Body::Nvec(nvec) => Some(nvec.notes),
            _ => None,
        });
        notes.flatten().collect()
    }
}

#[test]
fn the_others_hear_that_a_life_is_over_before_the_next_has_its_entrypoint() {
    let mut world = World::new(1);
    world.library.prompt(true);
    let confd = world.linked(CONFD);
    let old = world.linked(IOS);
    world.event(IOS);
    world.run(Duration::from_millis(20));
    world.check();
    world.library.prompt(false);
    world.start(IOS);
    world.run(Duration::from_millis(20));
    let failed = Note { fid: world.peers[IOS].fid, state: ObjectState::Failed };
    assert!(world.notes(confd).contains(&failed));
    world.check();
    assert_eq!(world.peers[IOS].link, None, "it waits for them");
    // The link of the ended life is not waited for.
    assert_eq!(world.library.owed(old), 0);
    while world.library.owed(confd) > 0 {
        world.library.settle(confd, true);
    }
    world.run(Duration::from_millis(1));
    world.check();
    assert!(world.peers[IOS].link.is_some());
    world.end();
}

#[test]
fn nothing_is_acknowledged_that_consul_does_not_hold() {
    let mut world = World::new(2);
    world.library.prompt(true);
    let link = world.linked(IOS);
    for fault in [Fault::Refuses, Fault::Fails, Fault::Hangs] {
        world.consul.fault = Some(fault);
        world.event(IOS);
        let tag = world.peers[IOS].event.expect("it is said");
        world.run(Duration::from_secs(7));
        assert!(world.library.is_held(link, tag), "{fault:?}");
        world.consul.fault = None;
        world.run(Duration::from_secs(20));
        assert!(!world.library.is_held(link, tag), "{fault:?}");
        world.check();
    }
    world.end();
}

#[test]
fn a_question_is_held_until_its_answer_is_delivered() {
    let mut world = World::new(3);
    let link = world.linked(CONFD);
    world.question(CONFD, 7, vec![Fid::process(2), Fid::process(999)]);
    world.run(Duration::from_millis(20));
    let asked = world.peers[CONFD].questions[0].tag;
    assert_eq!((world.library.unseen(link), world.library.owed(link)), (1, 1));
    assert!(world.library.is_held(link, asked));
    world.check();
    world.library.settle(link, true);
    world.run(Duration::from_millis(1));
    assert!(!world.library.is_held(link, asked));
    world.end();
}
