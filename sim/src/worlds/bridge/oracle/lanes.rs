//! The rule that the events of one process are processed in order and without a gap.

use std::collections::{BTreeMap, VecDeque};

use hax_core::base::fid::Fid;
use hax_core::ha::fact::Fact;

use super::{Topology, broken};
use crate::engine::Violation;

#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// The reported states of each process that Consul does not hold yet.
    reported: BTreeMap<Fid, VecDeque<&'static str>>,
}

impl Lanes {
    pub(super) fn on_fact(
        &mut self,
        own: Fid,
        topology: &Topology,
        fact: &Fact,
    ) -> Result<(), Violation> {
        match fact {
            Fact::ProcessEvent { process, state } => {
                self.reported.entry(*process).or_default().push_back(*state);
                Ok(())
            }
            Fact::ProcessCommitted { process, state, .. } if *process != own => {
                let confd = topology.motr.iter().any(|(fid, _, _, confd)| fid == process && *confd);
                let said = self.reported.entry(*process).or_default();
                let front = said.front().copied();
                // A confd has nothing to replay. The record of a formatting process is its report.
                let same = front == Some(*state)
                    || confd && front == Some("STARTED") && *state == "DTM_RECOVERED";
                if same {
                    said.pop_front();
                    return Ok(());
                }
                // The bridge detected this failure itself.
                if *state == "STOPPED" {
                    return Ok(());
                }
                let text = format!("{process}: {state} is written, {front:?} was said");
                broken("the events of a process are worked in their order", text)
            }
            _ => Ok(()),
        }
    }
}
