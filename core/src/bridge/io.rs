//! What goes into the bridge and what comes out.

use alloc::boxed::Box;

use crate::ha::fact::Fact;
use crate::machine::Failure;
use crate::{consul, ha, http};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The deadline that was returned last is reached.
    Tick,
    /// At Motr's side.
    Motr(ha::motr::Event),
    /// Consul answered, or will not.
    Consul(consul::port::Reply),
    /// Motr's library answered a call, or refuses it.
    Spiel(ha::spiel::Reply),
    /// An HTTP request arrived.
    Http(Box<http::port::Request>),
    /// Finish what was begun and exit.
    Stop,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// At Motr's side.
    Motr(ha::motr::Command),
    /// At Consul.
    Consul(consul::port::Command),
    /// Ask Motr's library, where the configuration says that there is one.
    Spiel(ha::spiel::Call),
    /// Answer an HTTP request.
    Http(Box<http::port::Response>),
    /// Log and count.
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
