//! Tests of the glue alone.

use std::sync::Arc;

use futures_lite::future::block_on;
use hax_core::base::errno::Errno;
use hax_core::base::fid::Fid;
use hax_core::base::id::{LinkId, SendId};
use hax_core::base::time::{Instant, Next, Now};
use hax_core::bridge::config;
use hax_core::consul::port::{Command as ConsulCommand, Reply, Unanswered};
use hax_core::ha::motr::{Command, Event};
use hax_core::ha::note::{NvecKind, ObjectState};
use hax_core::ha::process::ProcessEventKind;
use hax_core::machine::{Input, Machine as _, Output};
use hax_driver::libmotr::{self, Config, Libmotr, LibraryNode, StopOutcome};
use motr_sys::fake::FakeLibrary;

use crate::rig::{OTHER, OWN, PEER, Rig, SERVICES, entrypoint, event, key, limit, states};

#[test]
fn a_process_gets_its_entrypoint_and_a_link() {
    let rig = Rig::new();
    let request = rig.library.ask(key(PEER), 7, true);
    let entry = rig.asked(PEER, true);
    rig.reply(entry, Ok(entrypoint()));
    let reply = rig.library.reply(request);
    let endpoint = |key: u64| format!("inet:tcp:10.0.0.1@{key}");
    let confds = [11, 12].map(|n| (key(Fid::service(n)), endpoint(n)));
    assert_eq!((reply.rc, reply.quorum, reply.confds), (0, 2, confds.into()));
    assert_eq!((reply.rm, reply.rm_endpoint), (key(Fid::service(13)), Some(endpoint(13))));
    assert!(matches!(rig.event(), Event::LinkUp { process: PEER, reconnected: false, .. }));
    // A process that already knows us asks again.
    rig.library.ask(key(PEER), 7, false);
    let entry = rig.asked(PEER, false);
    rig.reply(entry, Ok(entrypoint()));
    assert!(matches!(rig.event(), Event::LinkReused { entry: reused, .. } if reused == entry));
    // A process that knew us before we started asks too.
    rig.library.ask(key(OTHER), 8, false);
    let entry = rig.asked(OTHER, false);
    rig.reply(entry, Ok(entrypoint()));
    assert!(matches!(rig.event(), Event::LinkUp { process: OTHER, reconnected: true, .. }));
    rig.stop();
}

#[test]
fn a_process_that_has_to_ask_again_has_no_link_yet() {
    let rig = Rig::new();
    let request = rig.library.ask(key(PEER), 7, true);
    let entry = rig.asked(PEER, true);
    rig.reply(entry, Err(Errno::EAGAIN));
    assert_eq!(rig.library.reply(request).rc, -11);
    rig.library.ask(key(PEER), 7, false);
    let again = rig.asked(PEER, false);
    rig.reply(again, Ok(entrypoint()));
    assert!(matches!(rig.event(), Event::LinkUp { entry, .. } if entry == again));
    rig.stop();
}

#[test]
fn a_message_is_the_bridge_s_until_it_acknowledges_it() {
    let rig = Rig::new();
    let (link, peer) = rig.link(PEER, 7);
    let said =
        [event(ProcessEventKind::Started), states(NvecKind::Get, 1024, ObjectState::Unknown)];
    let tags: Vec<u64> = said.iter().map(|message| rig.say(peer, message)).collect();
    let heard: Vec<_> = said
        .iter()
        .map(|said| match rig.event() {
            Event::Received { link: over, msg, message } => {
                assert_eq!((over, &*message), (link, said));
                msg
            }
            event => panic!("{event:?} instead of a message"),
        })
        .collect();
    // The order of acknowledgements is free, and a repeated acknowledgement counts once.
    rig.motr.execute(Command::Ack { link, msg: heard[1] });
    rig.library.acknowledged(peer, tags[1]);
    assert!(rig.library.is_held(peer, tags[0]));
    for _ in 0..2 {
        rig.motr.execute(Command::Ack { link, msg: heard[0] });
    }
    rig.library.acknowledged(peer, tags[0]);
    rig.stop();
}

#[test]
fn a_broadcast_reaches_every_link_and_is_settled_for_each() {
    let rig = Rig::new();
    let links = [rig.link(PEER, 7), rig.link(OTHER, 8)];
    let news = states(NvecKind::Set, 3, ObjectState::Online);
    rig.send(9, &[links[0].0, LinkId(77), links[1].0], news.clone());
    for (_, peer) in links {
        assert_eq!(libmotr::message::read(&rig.library.sent(peer)), news);
    }
    rig.library.settle(links[1].1, true);
    assert_eq!(rig.event(), Event::Delivered { link: links[1].0, send: SendId(9) });
    rig.library.settle(links[0].1, false);
    assert_eq!(rig.event(), Event::Undelivered { link: links[0].0, send: SendId(9) });
    rig.stop();
}

#[test]
fn what_is_delivered_at_once_is_not_lost() {
    let rig = Rig::new();
    rig.library.prompt(true);
    let (link, _) = rig.link(PEER, 7);
    for send in 0..100 {
        rig.send(send, &[link], states(NvecKind::Set, 1, ObjectState::Online));
    }
    for send in 0..100 {
        assert_eq!(rig.event(), Event::Delivered { link, send: SendId(send) });
    }
    rig.stop();
}

#[test]
fn a_restarted_process_loses_the_link_of_its_last_life_and_not_the_new_one() {
    let rig = Rig::new();
    let (old, peer) = rig.link(PEER, 7);
    rig.send(1, &[old], states(NvecKind::Set, 1, ObjectState::Online));
    rig.say(peer, &event(ProcessEventKind::Stopping));
    assert!(matches!(rig.event(), Event::Received { .. }));
    for life in [8, 9] {
        rig.library.ask(key(PEER), life, true);
        let mut events = vec![];
        let entry = loop {
            match rig.event() {
                Event::Asked(asked) => break asked.entry,
                event => events.push(event),
            }
        };
        rig.reply(entry, Ok(entrypoint()));
        while !events.iter().any(|event| matches!(event, Event::LinkUp { .. }))
            || !events.iter().any(|event| matches!(event, Event::LinkClosed { .. }))
        {
            events.push(rig.event());
        }
        let place = |wanted: fn(&Event) -> bool| events.iter().position(wanted).unwrap();
        let down = place(|event| matches!(event, Event::LinkDown { .. }));
        let closed = place(|event| matches!(event, Event::LinkClosed { .. }));
        assert!(down < closed, "{events:?}");
        if life == 8 {
            let owed = Event::Undelivered { link: old, send: SendId(1) };
            let owed = events.iter().position(|event| *event == owed).unwrap();
            assert!(owed < closed, "{events:?}");
        }
    }
    // The new link is in use.
    let new = rig.library.link(key(PEER), 9);
    rig.say(new, &event(ProcessEventKind::Starting));
    let Event::Received { link, msg, .. } = rig.event() else { panic!("it is not heard") };
    rig.motr.execute(Command::Ack { link, msg });
    rig.stop();
}

/// The library disconnects all links of a process at once, and a process aborts if it loses its new link.
#[test]
fn the_library_lets_go_of_the_last_life_before_the_next_has_its_reply() {
    let rig = Rig::new();
    let (link, old) = rig.link(PEER, 1);
    rig.library.withhold(true);
    let request = rig.library.ask(key(PEER), 1, true);
    assert_eq!(rig.event(), Event::LinkDown { link });
    let entry = rig.asked(PEER, true);
    rig.reply(entry, Ok(entrypoint()));
    rig.motr.barrier().recv_blocking().unwrap();
    assert_eq!(rig.library.replied(request), None);
    rig.library.withhold(false);
    assert_eq!(rig.library.reply(request).rc, 0);
    rig.library.disconnected(old);
    let new = rig.library.link(key(PEER), 1);
    assert!(new != old && rig.library.links() == 2);
    rig.say(new, &event(ProcessEventKind::Starting));
    let heard = |event: Event| match event {
        Event::Received { link, msg, .. } => Some((link, msg)),
        _ => None,
    };
    let (link, msg) = (0..4).find_map(|_| heard(rig.event())).expect("it is heard");
    rig.motr.execute(Command::Ack { link, msg });
    rig.stop();
}

/// The reply to its request makes a link, and nothing would ever disconnect it. The next life has the same
/// pid, as it is in containers.
#[test]
fn a_life_that_ended_while_it_waited_leaves_no_link() {
    let rig = Rig::new();
    let ended = rig.library.ask(key(PEER), 1, true);
    let too_late = rig.asked(PEER, true);
    let request = rig.library.ask(key(PEER), 1, true);
    let entry = rig.asked(PEER, true);
    assert_eq!(rig.library.reply(ended).rc, -11);
    rig.reply(too_late, Ok(entrypoint()));
    rig.reply(entry, Err(Errno::EAGAIN));
    assert_eq!(rig.library.reply(request).rc, -11);
    rig.library.ask(key(PEER), 1, false);
    let entry = rig.asked(PEER, false);
    rig.reply(entry, Ok(entrypoint()));
    assert!(matches!(rig.event(), Event::LinkUp { process: PEER, .. }));
    assert_eq!(rig.library.links(), 2, "our own and that of the life");
    let peer = rig.library.link(key(PEER), 1);
    let tag = rig.say(peer, &event(ProcessEventKind::Started));
    let Event::Received { link, msg, .. } = rig.event() else { panic!("it is not heard") };
    rig.motr.execute(Command::Ack { link, msg });
    rig.library.acknowledged(peer, tag);
    rig.stop();
}

#[test]
fn a_link_that_the_library_takes_away_is_given_up() {
    let rig = Rig::new();
    let (link, peer) = rig.link(PEER, 7);
    rig.say(peer, &event(ProcessEventKind::Started));
    let Event::Received { msg, .. } = rig.event() else { panic!("it is not heard") };
    rig.library.fail(key(PEER));
    assert_eq!(rig.event(), Event::LinkDown { link });
    // The acknowledgement is too late, so the library must not be called: the fake would notice.
    rig.motr.execute(Command::Ack { link, msg });
    rig.send(1, &[link], event(ProcessEventKind::Started));
    let mut events = vec![rig.event()];
    if !matches!(events[0], Event::LinkClosed { .. }) {
        events.push(rig.event());
    }
    assert_eq!(events.last(), Some(&Event::LinkClosed { link }));
    rig.library.disconnected(peer);
    rig.send(2, &[link], event(ProcessEventKind::Started));
    rig.stop();
}

#[test]
fn a_stop_with_dead_peers_ends() {
    let rig = Rig::new();
    let links = [rig.link(PEER, 7).0, rig.link(OTHER, 8).0];
    // The peers do not receive the message.
    rig.send(1, &links, states(NvecKind::Set, 1024, ObjectState::Online));
    rig.stop();
}

/// The library keeps such a link for ever, so the bridge would keep undelivered messages for ever.
#[test]
fn f10_a_process_that_has_said_that_it_stopped_is_away() {
    let rig = Rig::new();
    let (link, peer) = rig.link(PEER, 7);
    rig.say(peer, &event(ProcessEventKind::Stopped));
    let Event::Received { msg, .. } = rig.event() else { panic!("it is not heard") };
    rig.motr.execute(Command::Ack { link, msg });
    assert_eq!(rig.event(), Event::LinkDown { link });
    // A further message shows that the process lives.
    rig.say(peer, &event(ProcessEventKind::Started));
    assert_eq!(rig.event(), Event::LinkBack { link });
    let Event::Received { msg, .. } = rig.event() else { panic!("it is not heard") };
    rig.motr.execute(Command::Ack { link, msg });
    rig.stop();
}

/// A running process would take an empty entrypoint for the end of the cluster, and would exit.
#[test]
fn f10_a_stop_has_who_runs_ask_again() {
    let rig = Rig::new();
    let runs = rig.library.ask(key(PEER), 7, false);
    rig.asked(PEER, false);
    let starts = rig.library.ask(key(OTHER), 8, true);
    rig.asked(OTHER, true);
    rig.motr.execute(Command::Stop);
    assert_eq!(rig.library.reply(runs).rc, -11);
    assert_eq!(rig.library.reply(starts).rc, 0);
    assert_eq!(block_on(rig.motr.ended()), StopOutcome::Stopped);
    rig.library.finished();
}

#[test]
fn a_stop_before_the_start_has_ended_ends_both() {
    let rig = Rig::begin(FakeLibrary::new());
    rig.asked(OWN, true);
    rig.stop();
}

#[test]
fn a_start_that_fails_says_why_and_can_be_tried_again() {
    let library = FakeLibrary::new();
    library.refuse_start(98);
    let rig = Rig::begin(library);
    let ended = block_on(rig.motr.ended());
    let endpoint = "inet:tcp:127.0.0.1@22001".into();
    assert_eq!(ended, StopOutcome::Start { endpoint, errno: 98 });
    rig.library.finished();
    let rig = Rig::begin(rig.library);
    rig.admit();
    rig.stop();
}

/// A bridge on the library, with a Consul that refuses every call; the time advances with each input.
struct Host {
    machine: LibraryNode,
    now: u64,
    refused: Vec<Input>,
}

impl Host {
    fn feed(&mut self, input: Input) -> Next {
        self.now += 100_000;
        let now = Now { mono: Instant::from_micros(self.now), ..Now::default() };
        let mut out = Vec::new();
        let next = self.machine.handle(now, input, &mut out);
        for output in out {
            if let Output::Consul(ConsulCommand::Call(call)) = output {
                let result = Err(Unanswered::Refused);
                self.refused.push(Input::Consul(Reply { id: call.id, result }));
            }
        }
        next
    }

    fn step(&mut self) -> Next {
        let input = self.refused.pop().unwrap_or(Input::Tick);
        self.feed(input)
    }
}

#[test]
fn the_bridge_answers_and_stops_through_the_library() {
    let library = FakeLibrary::new();
    let (woken, wakes) = async_channel::bounded(64);
    let wake = move || {
        let _ = woken.try_send(());
    };
    let config = Config::of(OWN, SERVICES, "inet:tcp:127.0.0.1@22001");
    let motr = Arc::new(Libmotr::start(library.ha(), library.spiel(), config, wake));
    let request = library.ask(key(PEER), 7, true);
    let bridge = config::Config::new(OWN, "node", 1);
    let machine = LibraryNode::new(bridge, Arc::clone(&motr));
    let mut host = Host { machine, now: 0, refused: vec![] };
    let replied = || library.replied(request);
    assert!(limit(|| host.step() == Next::Exit || replied().is_some()), "no reply");
    assert_eq!(replied().map(|reply| reply.rc), Some(-11), "Consul knows nothing");
    assert!(wakes.try_recv().is_ok(), "nobody was woken");
    // Our own start waits for a successful reply; the stop sends one.
    let mut next = host.feed(Input::Stop);
    assert!(
        limit(|| next == Next::Exit || {
            next = host.step();
            false
        }),
        "it does not exit"
    );
    assert_eq!(block_on(motr.ended()), StopOutcome::Stopped);
    library.finished();
}
