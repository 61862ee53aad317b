//! The drawn configuration of a world, in the part shared by all worlds.
//!
//! Every world lacks most faults, so that in some worlds each fault occurs without the others.

use std::fmt;

use super::choice::Choice;
use super::fault::Fault;
use crate::fifo::CLIENTS_MAX;
use crate::stream::Limits;

/// The probabilities of the faults of every world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Odds {
    /// The number of rounds. In each round, faults are followed by a rest.
    pub rounds: u8,
    /// The mean pause between two acts, in ms.
    pub pace_ms: u64,
    /// The probability of a fault in a call to Consul, in thousandths.
    pub consul: u64,
    /// The weight of each fault in a call to Consul.
    pub consul_faults: [u8; Fault::ALL.len()],
    /// The probability of a fault in a watch's post, in thousandths.
    pub posts: u64,
    /// The maximum delay of new connections, in ms.
    pub lag_ms: u64,
    /// The probability of a fault of a helper program, in thousandths.
    pub helpers: u64,
    /// The probability of a slow or failed disk command, in thousandths.
    pub disks: u64,
    /// The lag of all of Consul's servers but one, in ms.
    pub server_lag_ms: u64,
    /// The limits of hosts for streaming HTTP responses.
    pub streams: Limits,
    /// The maximum number of a host's simultaneous clients over named pipes.
    pub clients: usize,
}

impl Odds {
    /// Returns the odds of a world without faults.
    #[must_use]
    pub fn faults_off() -> Self {
        Self {
            rounds: 1,
            pace_ms: 200,
            consul: 0,
            consul_faults: [0; Fault::ALL.len()],
            posts: 0,
            lag_ms: 0,
            helpers: 0,
            disks: 0,
            server_lag_ms: 0,
            streams: Limits::WIDE,
            clients: CLIENTS_MAX,
        }
    }

    /// Draws the odds for a world of small machines.
    pub fn draw(choice: &mut dyn Choice) -> Self {
        let mut odds = Self::faults_off();
        odds.rounds = [1, 2][pick(choice, 2)];
        odds.pace_ms = [200, 20, 1_000][pick(choice, 3)];
        odds.consul = [0, 30, 200][pick(choice, 3)];
        odds.helpers = [0, 50, 500][pick(choice, 3)];
        odds.disks = [0, 50, 500][pick(choice, 3)];
        draw_weights(choice, &mut odds.consul_faults);
        odds
    }

    /// Returns whether Consul may give wrong indexes.
    pub(crate) fn has_index_faults(&self) -> bool {
        let weight = |fault: Fault| self.consul_faults[fault as usize];
        self.consul > 0 && weight(Fault::IndexZero) + weight(Fault::IndexBack) > 0
    }

    /// Returns whether Consul may give answers from another time.
    pub(crate) fn has_lies(&self) -> bool {
        self.has_index_faults() || self.consul > 0 && self.consul_faults[Fault::Stale as usize] > 0
    }
}

impl fmt::Display for Odds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, pace_ms, consul, helpers, disks, consul_faults, .. } = self;
        write!(
            f,
            "rounds {rounds} pace {pace_ms} ms, helpers {helpers}/1000, disks {disks}/1000, \
             consul {consul}/1000:"
        )?;
        for (fault, n) in Fault::ALL.iter().zip(consul_faults).filter(|(_, n)| **n > 0) {
            write!(f, " {fault:?}*{n}")?;
        }
        Ok(())
    }
}

/// Draws weights. Half of them are 0.
pub(crate) fn draw_weights<'a>(
    choice: &mut dyn Choice,
    weights: impl IntoIterator<Item = &'a mut u8>,
) {
    for weight in weights {
        *weight = [0, 0, 1, 4][pick(choice, 4)];
    }
}

/// Returns the sum of weights.
pub(crate) fn sum(weights: &[u8]) -> u64 {
    weights.iter().map(|weight| u64::from(*weight)).sum()
}

/// Returns the index of the weight at this position of the sum.
pub(crate) fn weighted(weights: &[u8], mut at: u64) -> Option<usize> {
    weights.iter().position(|weight| {
        let here = at < u64::from(*weight);
        at = at.saturating_sub(u64::from(*weight));
        here
    })
}

/// Draws an index into a list of length `n`.
pub(crate) fn pick(choice: &mut dyn Choice, n: usize) -> usize {
    usize::try_from(choice.below(n as u64)).unwrap_or(0)
}
