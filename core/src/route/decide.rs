//! How an event on a redundancy node is responded to.

use serde::{Deserialize, Serialize};

use super::node::{Mode, Scope};
use super::provider::Provider;

/// An event on a redundancy node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Event {
    /// The other router has failed.
    PeerFail,
    /// This router has recovered and wants to be the active one again.
    Revert,
    /// Test whether the route can be updated.
    Verify,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::PeerFail, Self::Revert, Self::Verify];

    /// As `-e` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PeerFail => "peerFail",
            Self::Revert => "revert",
            Self::Verify => "verify",
        }
    }

    /// The event of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.name() == name)
    }
}

/// What has brought an event about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A client has told of it.
    Client,
    /// Consul says so of the other router's service, or this one has been well again for a while.
    Peer,
    /// This router holds the lease of the node's group from now on.
    Lease,
    /// It is time to see whether the route still leads where it should.
    Sweep,
}

/// What is done about an event: the four responses of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// (a) The route is updated with the next hop of the redundancy node.
    Update,
    /// (b) The route is read, and updated if its next hop is another one.
    UpdateIfDifferent,
    /// (c) The route is read and written back unchanged.
    WriteBack,
    /// (d) Nothing.
    Nothing,
}

impl Response {
    /// Its name, for logs.
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

/// How to respond to an event on a redundancy node of this mode, provider and scope.
///
/// Azure's `peerFail` writes without reading one route first, and all routes of a table in one write; all others
/// read first. Google's two routers are active together, told apart by the priority of their routes: at a
/// `peerFail` the secondary takes the peer's route away, and the primary, whose route comes first anyhow, has
/// nothing to do; at a `revert` either puts its own route back if it is missing.
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

/// The event by which a router that is to be the active one makes itself so.
#[must_use]
pub const fn taking(mode: Mode) -> Event {
    match mode {
        Mode::Primary => Event::Revert,
        Mode::Secondary => Event::PeerFail,
    }
}

/// How a `peerFail` is responded to by a router that is the active one and sees to it that it is so still: nothing
/// is written without having been read, but for Google's peer route, which is taken away if it is there.
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

    /// The specification's letters, provider by provider: `peerFail`, `revert`, `verify`, first those of a
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
