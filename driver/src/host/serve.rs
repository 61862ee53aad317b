//! An endpoint of the wire without a bridge, for programs that need only the wire.

use futures_lite::future::or;
use hax_core::base::time::{Instant, Next, Now};
use hax_core::{net, wire};

use super::clock::Clock;
use super::net::Net;
use super::platform::Platform;
use super::run::{self, Runtime, Tick};

/// The capacity of the inbox.
const INBOX: usize = 512;

impl Tick for wire::Input {
    const TICK: Self = Self::Tick;
}

/// Serves a machine with the inputs of an [`Endpoint`](wire::Endpoint) and only commands to sockets as
/// outputs, until it exits; with at most `max` connections at a time.
pub async fn serve<P: Platform>(
    listener: P::Listener,
    max: usize,
    machine: impl FnMut(Now, wire::Input, &mut Vec<net::Command>) -> Next,
) {
    let (sender, inbox) = run::inbox(INBOX);
    let net = Net::<P, _>::new(sender, wire::Input::Net);
    let mut sockets = Sockets::<P> { clock: Clock::new(), net: &net };
    let accepting = async { net.listen(&listener, max).await };
    or(run::run(&mut sockets, &inbox, machine), accepting).await;
}

struct Sockets<'a, P: Platform> {
    clock: Clock,
    net: &'a Net<P, wire::Input>,
}

impl<P: Platform> Runtime for Sockets<'_, P> {
    type Input = wire::Input;
    type Output = net::Command;

    fn now(&mut self) -> Now {
        self.clock.now()
    }

    async fn sleep_until(&self, at: Instant) {
        P::sleep_until(self.clock.at(at)).await;
    }

    fn execute(&mut self, output: net::Command) {
        self.net.execute(output);
    }
}
