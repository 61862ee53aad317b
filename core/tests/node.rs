//! A bridge and its wire with one clock.

use std::net::SocketAddr;

use hax_core::base::fid::Fid;
use hax_core::base::id::ConnId;
use hax_core::base::time::{Instant, Next, Now, WallClock};
use hax_core::bridge::config::Config;
use hax_core::consul::port::{Command, Reply, Unanswered};
use hax_core::machine::Machine as _;
use hax_core::net;
use hax_core::node::{self, Input, Node, Output};
use hax_core::wire;

#[test]
fn a_busy_wire_does_not_starve_the_bridges_timers() {
    let at = |us| Now { mono: Instant::from_micros(us), wall: WallClock(0) };
    let listen = SocketAddr::from(([127, 0, 0, 1], 22001));
    let bridge = Config::new(Fid::process(1), "ssu1", 7);
    let mut node = Node::new(node::Config { bridge, wire: wire::Config::new(listen, 1, 7) });
    let mut out = Vec::new();
    let _ = node.handle(at(0), Input::Tick, &mut out);
    let call = out.drain(..).find_map(|output| match output {
        Output::Consul(Command::Call(call)) => Some(call.id),
        _ => None,
    });
    // Consul cannot be reached: the bridge retries after a pause.
    let result = Err(Unanswered::Refused);
    let reply = Input::Consul(Reply { id: call.expect("a first read"), result });
    let next = node.handle(at(10), reply, &mut out);
    let Next::WaitUntil { at: due, .. } = next else { panic!("{next:?}") };
    out.clear();
    let accepted = net::Event::Accepted { conn: ConnId::accepted(1), peer: listen };
    let next = node.handle(at(due.as_micros()), Input::Net(accepted), &mut out);
    let tried = out.iter().any(|output| matches!(output, Output::Consul(Command::Call(_))));
    assert!(tried, "{out:?}");
    assert!(matches!(next, Next::WaitUntil { at, .. } if at > due) || next == Next::Wait);
}
