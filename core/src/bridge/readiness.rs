//! hax's readiness, and the reasons if it is not ready.

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
    /// Returns whether the configuration contains our own process. hax does not use a configuration without
    /// it.
    pub(crate) fn knows_us(&mut self, cx: &mut Cx<'_>) -> bool {
        let process = cx.config().process;
        let known = self.cluster.conf().get_process(process).is_some();
        if known == self.not_configured {
            self.not_configured = !known;
            cx.fact(if known {
                Fact::ProcessFound { process }
            } else {
                Fact::ProcessMissing { process }
            });
        }
        known
    }

    /// Returns whether all replicas are complete and current enough to serve.
    pub(crate) fn has_all(&self) -> bool {
        self.ready && !self.not_configured && self.tables.all_shown()
    }

    /// Returns whether Consul serves hax's requests.
    pub(crate) fn is_served(&self, refusals: &Refusals, now: Instant) -> bool {
        self.tables.consul_answers() && refusals.now(now).next().is_none()
    }

    /// Returns the names of the missing parts and the reason as a text for operators.
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
            } else if table == Table::Conf && self.not_configured {
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
