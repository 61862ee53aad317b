//! A test of its own process: it leaves the library as it is.
#![cfg(feature = "libmotr")]

use std::sync::Arc;

use futures_lite::future::block_on;
use hax_core::base::fid::Fid;
use hax_core::ha::motr::{Command, Event};
use hax_driver::libmotr::{Config, Libmotr, StopOutcome};
use motr_sys::fake::FakeLibrary;

#[test]
fn what_is_not_worked_is_not_acknowledged_by_a_stop() {
    let lab = FakeLibrary::new();
    let (own, peer) = (Fid::process(1), Fid::process(2));
    let config = Config {
        endpoint: "inet:tcp:127.0.0.1@22001".into(),
        process: own,
        ha_service: Fid::service(1),
        rm_service: Fid::service(2),
    };
    let motr = Libmotr::start(lab.ha(), lab.spiel(), config, || {});
    let events = motr.events();
    let event = || events.recv_blocking().unwrap();
    let admit = || {
        let Event::Asked(asked) = event() else { panic!("nobody asks") };
        motr.execute(Command::Reply { entry: asked.entry, reply: Ok(Arc::default()) });
    };
    admit();
    assert!(matches!(event(), Event::LinkUp { process, .. } if process == own));
    lab.own_link();
    let key = (peer.container, peer.key);
    lab.ask(key, 7, true);
    admit();
    assert!(matches!(event(), Event::LinkUp { .. }));
    let link = lab.link(key, 7);
    let tag = lab.say(link, |message| message.hm_data.hed_type = 9).unwrap();
    assert!(matches!(event(), Event::Received { .. }));
    motr.execute(Command::Stop);
    assert_eq!(block_on(motr.ended()), StopOutcome::Left(1));
    assert!(lab.is_held(link, tag));
}
