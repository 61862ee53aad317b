//! The delays of a real cluster, where only their length distinguishes the double from it.
//!
//! All of them were measured with three servers and a client, some of them stopped.

use std::time::Duration;

/// The time until gossip detects that an agent is gone, with the usual settings and few nodes: one probe a
/// second, and 4 s of suspicion.
pub(super) const GOSSIP_DELAY: Duration = Duration::from_secs(5);

/// The duration of an election after the loss of a leader, including the detection of the loss. With the
/// usual setting for production 2 to 3 s were observed.
pub const ELECTION: Duration = Duration::from_secs(3);

/// The time for which a server waits for a leader: `rpc_hold_timeout`. The real one adds up to a sixteenth.
pub(super) const LEADER_SEARCH: Duration = Duration::from_secs(7);

/// The time until an agent gives up a connection to another agent that carries nothing. Its keepalive is
/// 30 s, and the timeout of the keepalive is 10 s. The real one takes 29 to 36 s.
pub(super) const FORWARD_TIMEOUT: Duration = Duration::from_secs(35);
