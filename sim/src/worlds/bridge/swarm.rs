//! The parameters of a world, drawn at its start: its size, its limits, its faults and their probabilities.

use std::fmt;

use hax_core::bridge::config::{self, OnUnexpected};
use hax_core::node;
use hax_core::wire;

use super::act::Act;
use crate::engine::choice::Choice;
use crate::engine::swarm::{draw_weights, pick};
use crate::engine::{Fault, Odds};

/// The number of faults before those that only some worlds have: the faults of agents cut off from servers.
const OLD_FAULTS: usize = Fault::LeadLost as usize;

/// One draw of the parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swarm {
    /// The number of nodes, each with its hax: 1 to 3.
    pub nodes: u8,
    /// The number of clients on each node, besides its confd and its IO service.
    pub clients: u8,
    /// The probabilities of the faults that any world can have.
    pub odds: Odds,
    /// The weight of each act.
    pub acts: [u8; Act::ALL.len()],
    /// The tight limits, one bit each.
    pub tight: u16,
    /// Whether the haxes elect the leader. Otherwise another program does.
    pub elects: bool,
    /// Whether the haxes notify old daemons of events.
    pub bq: bool,
    /// Whether hax stops at a message that 5/HAX panics at.
    pub panics: bool,
    /// Whether Motr's library is present beside each hax.
    pub spiel: bool,
    /// Whether faults between agents and servers may happen.
    pub agent_faults: bool,
    /// The processes that are not started again before a rest, one bit each.
    pub absent: u16,
    /// The maximum delay of a process's acknowledgement, in ms.
    pub slow_ms: u64,
    /// The state of links is kept for the next life of a hax.
    pub keeps: bool,
}

impl Swarm {
    /// Returns parameters without faults and without tight limits.
    #[must_use]
    pub fn faults_off() -> Self {
        Self {
            nodes: 1,
            clients: 1,
            odds: Odds::faults_off(),
            acts: [0; Act::ALL.len()],
            tight: 0,
            elects: true,
            bq: true,
            panics: false,
            spiel: false,
            agent_faults: false,
            absent: 0,
            slow_ms: 0,
            keeps: false,
        }
    }

    /// Draws the parameters.
    pub fn draw(choice: &mut dyn Choice) -> Self {
        let mut swarm = Self::faults_off();
        swarm.nodes = [1, 1, 1, 2, 3][pick(choice, 5)];
        swarm.clients = [1, 0, 2][pick(choice, 3)];
        swarm.odds.rounds = [1, 2, 3][pick(choice, 3)];
        swarm.odds.pace_ms = [200, 20, 1_000, 5_000][pick(choice, 4)];
        swarm.odds.consul = [0, 5, 30, 200][pick(choice, 4)];
        draw_weights(choice, &mut swarm.odds.consul_faults[..OLD_FAULTS]);
        if swarm.odds.has_index_faults() {
            // Together these faults make old records look new: only the index identifies the older one.
            swarm.odds.consul_faults[Fault::Stale as usize] = 0;
        }
        swarm.odds.posts = [0, 30, 200][pick(choice, 3)];
        draw_weights(choice, &mut swarm.acts[..Act::OLD]);
        swarm.odds.lag_ms = [0, 0, 5, 400][pick(choice, 4)];
        // None, a few, or most limits are tight. Some bugs need several tight limits together.
        swarm.tight = match choice.below(4) {
            0 | 2 => 0,
            1 => bits(choice) & bits(choice),
            _ => bits(choice) | bits(choice),
        };
        // One decision draws two options, so that worlds without kept state are as they were.
        let elector = choice.below(4);
        (swarm.elects, swarm.keeps) = (elector != 3, elector == 2);
        swarm.bq = choice.below(4) != 3;
        // One decision draws three rare options, so that the later bytes of existing tapes keep their
        // meaning.
        let rare = choice.below(4);
        (swarm.panics, swarm.spiel, swarm.agent_faults) = (rare == 3, rare == 2, rare == 1);
        swarm.absent = [0, bits(choice) & bits(choice)][pick(choice, 2)];
        swarm.slow_ms = [0, 20, 3_000][pick(choice, 3)];
        if swarm.agent_faults {
            let acts = &mut swarm.acts[Act::OLD..];
            let faults = &mut swarm.odds.consul_faults[OLD_FAULTS..];
            draw_weights(choice, acts.iter_mut().chain(faults));
            swarm.odds.server_lag_ms = [0, 80][pick(choice, 2)];
        }
        swarm
    }

    pub(super) fn apply_limits(&self, config: &mut node::Config) {
        let tight = |bit: u32| self.tight >> bit & 1 == 1;
        let node::Config { bridge, wire } = config;
        (bridge.elect, bridge.bq, bridge.spiel) = (self.elects, self.bq, self.spiel);
        let config::Config { limit, time, on_unexpected, .. } = bridge;
        *on_unexpected = if self.panics { OnUnexpected::Panic } else { OnUnexpected::Ignore };
        let set = |bit: u32, field: &mut usize, value: usize| {
            if tight(bit) {
                *field = value;
            }
        };
        set(0, &mut limit.entries, 2);
        set(1, &mut limit.sends_per_link, 1);
        set(2, &mut limit.transactions, 1);
        set(2, &mut limit.transaction_ops, 8);
        set(3, &mut limit.transaction_bytes, 16 * 1024);
        set(4, &mut limit.entries_per_slice, 3);
        set(5, &mut limit.body_bytes, 600);
        let wire::Config { links_max, conns_max, unacked_max, entries_max, known_only, .. } = wire;
        // The limit is the number of processes on a node, so that a raw client takes the place of one.
        let processes = 2 + usize::from(self.clients);
        set(6, links_max, processes);
        *known_only = !tight(6);
        set(7, conns_max, processes);
        set(8, unacked_max, 1);
        set(9, entries_max, 1);
        set(10, &mut wire.rpc_conns_max, 4 * processes + 4);
        set(11, &mut wire.backlog_bytes_max, 50_000);
        set(12, &mut wire.reply_bytes_max, 2_000);
        if tight(13) {
            time.link_grace = std::time::Duration::from_secs(5);
        }
        set(15, &mut limit.queue_entries, 3);
        if self.spiel {
            time.sns = std::time::Duration::from_secs(10);
            time.filesystem = std::time::Duration::from_secs(20);
            time.bytecount = std::time::Duration::from_secs(30);
        }
        set(11, &mut limit.operations, 2);
        if tight(14) {
            time.watch = std::time::Duration::from_secs(3);
        }
    }
}

fn bits(choice: &mut dyn Choice) -> u16 {
    u16::try_from(choice.below(0x1_0000)).unwrap_or(0)
}

impl fmt::Display for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "nodes {} clients {} rounds {} pace {} ms, lag {} ms, slow {} ms, tight {:#06x}, \
             elects {}, keeps {}, bq {}, panics {}, spiel {}, apart {}, late {} ms, absent {:#x}, posts {}/1000, consul {}/1000:",
            self.nodes,
            self.clients,
            self.odds.rounds,
            self.odds.pace_ms,
            self.odds.lag_ms,
            self.slow_ms,
            self.tight,
            self.elects,
            self.keeps,
            self.bq,
            self.panics,
            self.spiel,
            self.agent_faults,
            self.odds.server_lag_ms,
            self.absent,
            self.odds.posts,
            self.odds.consul
        )?;
        let weighted = |n: &u8| *n > 0;
        for (fault, n) in
            Fault::ALL.iter().zip(&self.odds.consul_faults).filter(|(_, n)| weighted(n))
        {
            write!(f, " {fault:?}*{n}")?;
        }
        f.write_str("; acts:")?;
        for (act, n) in Act::ALL.iter().zip(&self.acts).filter(|(_, n)| weighted(n)) {
            write!(f, " {act:?}*{n}")?;
        }
        Ok(())
    }
}
