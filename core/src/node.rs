//! A whole node: the bridge and the wire under one clock, as the daemon and the simulator run it.

use alloc::boxed::Box;

use crate::base::fact::Fact;
use crate::{consul, http, wire};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The deadline that was returned last is reached.
    Tick,
    /// To a TCP connection of the wire.
    Net(wire::net::Event),
    /// Consul answered, or will not.
    Consul(consul::port::Reply),
    /// An HTTP request arrived.
    Http(Box<http::port::Request>),
    /// Finish what was begun and exit.
    Stop,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// With a TCP connection of the wire.
    Net(wire::net::Command),
    /// At Consul.
    Consul(consul::port::Command),
    /// Answer an HTTP request.
    Http(Box<http::port::Response>),
    /// Log and count.
    Fact(Fact),
}
