//! Whether hax serves all that it is for, and what it waits for if not.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::base::time::Instant;
use crate::bridge::State;
use crate::bridge::context::Cx;
use crate::bridge::refusals::Refusals;
use crate::cluster::replica::{Hidden, Table};
use crate::ha::fact::Fact;

impl State {
    /// Whether the configuration has our own process: it is none for us before.
    pub(crate) fn knows_us(&mut self, cx: &mut Cx<'_>) -> bool {
        let process = cx.config().process;
        let known = self.cluster.conf().get_process(process).is_some();
        if known == self.unknown {
            self.unknown = !known;
            cx.fact(if known {
                Fact::ProcessFound { process }
            } else {
                Fact::ProcessMissing { process }
            });
        }
        known
    }

    /// Whether all that the bridge needs is there.
    pub(crate) fn has_all(&self) -> bool {
        self.ready && !self.unknown && self.tables.all_shown()
    }

    /// Whether Consul serves us.
    pub(crate) fn is_served(&self, refusals: &Refusals, now: Instant) -> bool {
        self.tables.consul_answers() && refusals.now(now).next().is_none()
    }

    /// What is not there, by name, and why, in words for an operator.
    pub(crate) fn waits_for(
        &self,
        refusals: &Refusals,
        now: Instant,
    ) -> (Vec<&'static str>, String) {
        let (mut names, mut whys) = (Vec::new(), Vec::new());
        for table in Table::ALL {
            let (replica, name) = (self.tables.replica(table), table.name());
            if let Some(how) = replica.hidden {
                names.push(name);
                whys.push(match how {
                    Hidden::Unreadable => format!("hax's token may not read {name}"),
                    Hidden::Empty => format!("{name} is empty in Consul"),
                });
            } else if !replica.is_loaded() {
                names.push(name);
            } else if table == Table::Conf && self.unknown {
                names.push(name);
                whys.push(format!("{name} does not have the process of this hax"));
            }
        }
        if !self.is_served(refusals, now) {
            names.push("consul");
            if !self.tables.consul_answers() {
                whys.push("Consul does not answer".into());
            }
        }
        let refused = refusals.now(now);
        whys.extend(refused.map(|(what, why)| format!("Consul refuses {what}: {why}")));
        (names, whys.join("; "))
    }
}
