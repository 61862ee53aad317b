//! How long things take in a real cluster, as far as nothing but waiting tells them apart. All of it was
//! measured with three servers and a client, some of them stopped.

use std::time::Duration;

/// How long gossip takes to find that an agent is gone, with the usual settings and few nodes: a probe
/// a second, and 4 s of suspicion.
pub(super) const FOUND_AFTER: Duration = Duration::from_secs(5);

/// How long an election takes that follows the loss of a leader: it is missed first. With the usual
/// setting for production it was seen to take 2 to 3 s.
pub const ELECTION: Duration = Duration::from_secs(3);

/// How long a server looks for a leader: `rpc_hold_timeout`. The real one adds up to a sixteenth.
pub(super) const HOLD: Duration = Duration::from_secs(7);

/// How long a connection between agents that nothing passes is believed in: its keepalive is 30 s, and
/// what it waits for it waits 10 s. The real one takes 29 to 36 s.
pub(super) const HANG: Duration = Duration::from_secs(35);
