//! The response to an event on a redundancy node.

use serde::{Deserialize, Serialize};

use super::node::{Mode, Scope};
use super::provider::Provider;

/// An event on a redundancy node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Event {
    /// The other router has failed.
    PeerFail,
    /// This router has recovered and is to become the active one again.
    Revert,
    /// A test whether the route can be updated.
    Verify,
}

impl Event {
    /// All events.
    pub const ALL: [Self; 3] = [Self::PeerFail, Self::Revert, Self::Verify];

    /// Returns the event's name for `-e`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PeerFail => "peerFail",
            Self::Revert => "revert",
            Self::Verify => "verify",
        }
    }

    /// Returns the event with this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.name() == name)
    }
}

/// The cause of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A client has reported the event.
    Client,
    /// The watch of the other router's service has caused the event: that service has failed in Consul, or
    /// this router has been well again for a while.
    Peer,
    /// This router has acquired the lease of the node's group.
    Lease,
    /// A sweep checks whether the route still leads to the right router.
    Sweep,
}

/// The response to an event: one of the four responses of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// (a) The route is updated with the next hop of the redundancy node.
    Update,
    /// (b) The route is read, and updated if its next hop is another one.
    UpdateIfDifferent,
    /// (c) The route is read and written back unchanged.
    WriteBack,
    /// (d) No action.
    Nothing,
}

impl Response {
    /// Returns the response's name for logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::UpdateIfDifferent => "update if different",
            Self::WriteBack => "write back",
            Self::Nothing => "nothing",
        }
    }
}

/// Returns the response to an event on a redundancy node of this mode, provider and scope.
///
/// For Azure, `peerFail` writes a single route without a read, and all routes of a table in one write. All
/// other responses read first. For Google, both routers are active at the same time, and the priority of
/// their routes distinguishes them. At a `peerFail` the secondary removes the peer's route. The primary does
/// nothing, since its route has precedence. At a `revert` each router restores its own route if it is
/// missing.
#[must_use]
pub const fn decide(event: Event, mode: Mode, provider: Provider, scope: Scope) -> Response {
    match (event, mode, provider, scope) {
        (Event::Verify, _, _, _) => Response::WriteBack,
        (Event::PeerFail, _, Provider::Azure(_), Scope::One | Scope::All)
        | (Event::PeerFail, Mode::Secondary, Provider::Gcp, _) => Response::Update,
        (Event::PeerFail, Mode::Primary, Provider::Gcp, _) => Response::Nothing,
        (Event::PeerFail, _, Provider::Linux | Provider::Consul | Provider::Aws, _)
        | (Event::Revert, _, Provider::Gcp, _)
        | (Event::Revert, Mode::Primary, _, _) => Response::UpdateIfDifferent,
        (Event::Revert, Mode::Secondary, _, _) => Response::Nothing,
    }
}

/// Returns the event by which a router makes itself the active one.
#[must_use]
pub const fn taking(mode: Mode) -> Event {
    match mode {
        Mode::Primary => Event::Revert,
        Mode::Secondary => Event::PeerFail,
    }
}

/// Returns the response to a `peerFail` of a router that checks whether it is still the active one. It writes
/// nothing without a read. The exception is Google's peer route, which is removed if it exists.
#[must_use]
pub const fn mend(provider: Provider) -> Response {
    match provider {
        Provider::Gcp => Response::Update,
        Provider::Linux | Provider::Consul | Provider::Aws | Provider::Azure(_) => {
            Response::UpdateIfDifferent
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::provider::Cloud;
    use super::*;

    use Mode::{Primary, Secondary};
    use Response::{Nothing, Update, UpdateIfDifferent, WriteBack};
    use Scope::{All, One};

    /// The letters of the specification for each provider: `peerFail`, `revert`, `verify`, first those of a
    /// primary, then those of a secondary.
    fn table(provider: Provider, scope: Scope) -> [[Response; 3]; 2] {
        let (a, b, c, d) = (Update, UpdateIfDifferent, WriteBack, Nothing);
        match (provider, scope) {
            (Provider::Linux | Provider::Consul | Provider::Aws, One | All) => {
                [[b, b, c], [b, d, c]]
            }
            (Provider::Azure(_), One | All) => [[a, b, c], [a, d, c]],
            (Provider::Gcp, One | All) => [[d, b, c], [a, b, c]],
        }
    }

    #[test]
    fn r20_every_event_has_the_response_of_the_specification() {
        let mut seen = 0;
        for provider in Provider::ALL {
            for scope in [One, All] {
                for (mode, row) in [Primary, Secondary].into_iter().zip(table(provider, scope)) {
                    for (event, response) in Event::ALL.into_iter().zip(row) {
                        let found = decide(event, mode, provider, scope);
                        assert_eq!(found, response, "{event:?} {mode:?} {provider:?} {scope:?}");
                        seen += 1;
                    }
                }
            }
        }
        assert_eq!(seen, 7 * 2 * 2 * 3);
    }

    #[test]
    fn r13_a_peer_s_failure_makes_this_router_the_next_hop() {
        for mode in [Primary, Secondary] {
            for provider in [Provider::Linux, Provider::Consul, Provider::Aws] {
                assert_eq!(decide(Event::PeerFail, mode, provider, One), UpdateIfDifferent);
            }
            let azure = Provider::Azure(Cloud::Government);
            assert_eq!(decide(Event::PeerFail, mode, azure, One), Update);
        }
    }

    #[test]
    fn r14_a_revert_brings_the_route_to_the_primary_and_moves_nothing_to_a_secondary() {
        for provider in Provider::ALL {
            assert_eq!(decide(Event::Revert, Primary, provider, One), UpdateIfDifferent);
            let of_secondary = decide(Event::Revert, Secondary, provider, One);
            let shared = provider == Provider::Gcp;
            assert_eq!(of_secondary, if shared { UpdateIfDifferent } else { Nothing });
        }
    }

    #[test]
    fn r15_a_verify_reads_and_writes_back_whoever_asks() {
        for provider in Provider::ALL {
            for mode in [Primary, Secondary] {
                assert_eq!(decide(Event::Verify, mode, provider, One), WriteBack);
            }
        }
    }

    #[test]
    fn names_lead_back() {
        for event in Event::ALL {
            assert_eq!(Event::of(event.name()), Some(event));
        }
        for provider in Provider::ALL {
            assert_eq!(Provider::of(provider.name()), Some(provider));
        }
        assert_eq!(Event::of("peerfail"), None);
    }
}
