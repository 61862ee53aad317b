//! A test of its own process: it leaves the library as it is.
#![cfg(feature = "libmotr")]

use std::sync::Arc;

use futures_lite::future::block_on;
use hax_core::base::fid::Fid;
use hax_core::base::id::SpielId;
use hax_core::ha::motr::{Command, Event};
use hax_core::ha::spiel::{Call, Op};
use hax_driver::libmotr::{Config, Libmotr, StopOutcome};
use motr_sys::fake::FakeLibrary;

/// The library asserts where whoever reads the configuration is given an empty entrypoint, as all are that
/// start when hax stops.
#[test]
fn f10_a_stop_while_the_configuration_is_read_leaves_the_library_as_it_is() {
    let lab = FakeLibrary::new();
    let own = Fid::process(1);
    let config = Config {
        endpoint: "inet:tcp:127.0.0.1@22001".into(),
        process: own,
        ha_service: Fid::service(1),
        rm_service: Fid::service(2),
    };
    let motr = Libmotr::start(lab.ha(), lab.spiel(), config, || {});
    let events = motr.events();
    let event = || events.recv_blocking().unwrap();
    let asked = || match event() {
        Event::Asked(asked) => asked.entry,
        event => panic!("{event:?} instead of a request"),
    };
    motr.execute(Command::Reply { entry: asked(), reply: Ok(Arc::default()) });
    assert!(matches!(event(), Event::LinkUp { process, .. } if process == own));
    lab.own_link();
    motr.call(Call { id: SpielId(1), op: Op::Begin { profile: Fid::typed(b'p', 1, 0) } });
    let entry = asked();
    // What the bridge says to all that wait, and then the stop.
    motr.execute(Command::Reply { entry, reply: Ok(Arc::default()) });
    motr.execute(Command::Stop);
    assert_eq!(block_on(motr.ended()), StopOutcome::Reading);
}
