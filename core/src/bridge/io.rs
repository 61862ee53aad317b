//! The bridge's inputs and outputs.

use alloc::boxed::Box;

use crate::ha::fact::Fact;
use crate::machine::Failure;
use crate::{consul, ha, http};

/// One input of the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The deadline returned last has been reached.
    Tick,
    /// An event from Motr's processes.
    Motr(ha::motr::Event),
    /// Consul responded, or no response will come.
    Consul(consul::port::Reply),
    /// Motr's library answered or refused a call.
    Spiel(ha::spiel::Reply),
    /// An HTTP request arrived.
    Http(Box<http::port::Request>),
    /// The bridge is to finish the work in progress and exit.
    Stop,
}

/// One output of the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A command for Motr's processes.
    Motr(ha::motr::Command),
    /// A request to Consul.
    Consul(consul::port::Command),
    /// A call to Motr's library; emitted only if the configuration says that the library is there.
    Spiel(ha::spiel::Call),
    /// The response to an HTTP request.
    Http(Box<http::port::Response>),
    /// A fact to log and count.
    Fact(Fact),
}

impl From<ha::motr::Command> for Output {
    fn from(command: ha::motr::Command) -> Self {
        Self::Motr(command)
    }
}

impl From<consul::port::Command> for Output {
    fn from(command: consul::port::Command) -> Self {
        Self::Consul(command)
    }
}

impl From<ha::spiel::Call> for Output {
    fn from(call: ha::spiel::Call) -> Self {
        Self::Spiel(call)
    }
}

impl From<Box<http::port::Response>> for Output {
    fn from(response: Box<http::port::Response>) -> Self {
        Self::Http(response)
    }
}

impl From<Fact> for Output {
    fn from(fact: Fact) -> Self {
        Self::Fact(fact)
    }
}

impl From<Failure> for Output {
    fn from(failure: Failure) -> Self {
        Self::Fact(failure.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_and_outputs_stay_small() {
        assert!(size_of::<Input>() <= 64, "{}", size_of::<Input>());
        assert!(size_of::<Output>() <= 64, "{}", size_of::<Output>());
    }
}
