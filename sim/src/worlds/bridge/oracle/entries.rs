//! The rules for entrypoint requests, as the bridge sees them.

use std::collections::VecDeque;

use hax_core::base::id::EntryId;
use hax_core::ha::entrypoint::Entrypoint;
use hax_core::ha::fact::Fact;
use hax_core::node;
use hax_core::wire::codec::fop::CONSUME;

use super::{Topology, broken};
use crate::engine::Violation;

#[derive(Debug, Default)]
pub(super) struct Entries {
    /// The requests without a reply in order of arrival, and their times.
    waiting: VecDeque<(EntryId, u64)>,
    last: u64,
}

impl Entries {
    pub(super) fn on_fact(
        &mut self,
        config: &node::Config,
        now: u64,
        fact: &Fact,
    ) -> Result<(), Violation> {
        let (entry, again) = match fact {
            Fact::EntrypointAsked { entry, .. } => {
                if entry.0 <= self.last {
                    return broken("each request has a name of its own", format!("{entry}"));
                }
                self.last = entry.0;
                self.waiting.push_back((*entry, now));
                return Ok(());
            }
            Fact::EntrypointAnswered { entry, .. } => (*entry, false),
            Fact::EntrypointAgain { entry, .. } => (*entry, true),
            Fact::EntrypointLeft { entry, .. } => {
                self.waiting.retain(|(waiting, _)| waiting != entry);
                return Ok(());
            }
            _ => return Ok(()),
        };
        let Some(place) = self.waiting.iter().position(|(waiting, _)| *waiting == entry) else {
            return broken("an entrypoint request has one reply", format!("{entry} has another"));
        };
        // A request above the limit is refused at once. All others keep their order.
        let refused =
            again && place + 1 == self.waiting.len() && place >= config.bridge.limit.entries;
        if place != 0 && !refused {
            return broken(
                "entrypoint replies keep the order of their requests",
                format!("{entry}"),
            );
        }
        let since = self.waiting.remove(place).map_or(now, |(_, since)| since);
        let soonest = config.bridge.time.eagain_delay.as_micros();
        if again && !refused && u128::from(now - since) < soonest {
            return broken(
                "EAGAIN leaves a second after its request at the soonest",
                format!("{entry}"),
            );
        }
        Ok(())
    }

    pub(super) fn unanswered(&self) -> Option<String> {
        self.waiting.front().map(|(entry, _)| format!("{entry} has no reply"))
    }
}

/// Checks the rule that a process that asks `again` never gets an empty entrypoint: it would shut itself
/// down.
pub(super) fn check_not_empty(
    motr: usize,
    (control, again): (u32, bool),
    entrypoint: &Entrypoint,
) -> Result<(), Violation> {
    if again && control == CONSUME && *entrypoint == Entrypoint::default() {
        let rule = "no process is told to shut down";
        return broken(rule, format!("process {motr}: an empty entrypoint, though it asked again"));
    }
    Ok(())
}

/// Checks the confds in an entrypoint: they are configured ones with their endpoints, a majority of all
/// confds, and include the leader's.
///
/// A stopping hax sends an empty entrypoint.
pub(super) fn check_confds(
    topology: &Topology,
    motr: usize,
    control: u32,
    entrypoint: &Entrypoint,
) -> Result<(), Violation> {
    let Entrypoint { quorum, confds, rm, rm_endpoint } = entrypoint;
    let empty = *entrypoint == Entrypoint::default();
    if empty {
        return Ok(());
    }
    let rule = "an entrypoint says where the confds are";
    let listed = |endpoint: &str| topology.confds.iter().any(|confd| confd == endpoint);
    let n = u32::try_from(confds.len()).unwrap_or(u32::MAX);
    let sound = control == CONSUME
        && *quorum == n / 2 + 1
        && rm.kind() == b's'
        && confds.iter().all(|confd| listed(&confd.endpoint) && confd.fid.is_process())
        && confds.iter().any(|confd| confd.endpoint == *rm_endpoint);
    if sound { Ok(()) } else { broken(rule, format!("process {motr}: {entrypoint:?}")) }
}
