//! The route tables that both routers write: one that takes any write at any time, as a kernel's or a
//! cloud's, and the keys in Consul.

use std::collections::BTreeMap;

use serde_json::Value;

use super::groups::hop;
use super::provider::{Kind, MEMBERS, of_index};
use crate::consul::Consul;
use crate::engine::Violation;

/// The route tables.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// The next hops in the plain table.
    plain: BTreeMap<u16, String>,
    /// For each route in Consul, the newest write under a lease: its term and its next hop.
    newest: BTreeMap<u16, (u64, String)>,
    /// A snapshot is being restored, so the records go back.
    goes_back: bool,
}

/// Returns the key of a member's route in Consul.
pub(super) fn route_key(index: u16) -> String {
    format!("routes/edge-{index}/192.0.{index}.0/24")
}

impl Tables {
    /// Returns the next hop of a route in the plain table.
    pub(super) fn plain(&self, index: u16) -> Option<&String> {
        self.plain.get(&index)
    }

    /// Carries out a write to the plain table.
    pub(super) fn write(&mut self, index: u16, hop: String) {
        self.plain.insert(index, hop);
    }

    /// Prepares for the restore of a snapshot of Consul.
    pub(super) fn on_restore(&mut self) {
        self.goes_back = true;
        self.newest.clear();
    }

    /// Checks the records after a write at Consul.
    pub(super) fn look(&mut self, consul: &Consul) -> Result<(), Violation> {
        let goes_back = std::mem::take(&mut self.goes_back);
        for index in MEMBERS.into_iter().filter(|index| of_index(*index) == Kind::Consul) {
            let Some(record) = record(consul, index).filter(|record| record["lease"].is_string())
            else {
                continue;
            };
            let term = record["term"].as_u64().unwrap_or(0);
            let hop = record["nextHop"].as_str().unwrap_or_default().to_owned();
            let seen = self.newest.get(&index).filter(|_| !goes_back);
            if let Some((newest, by)) = seen
                && (term < *newest || term == *newest && hop != *by)
            {
                let text = format!("{index}: {hop} in term {term} after {by} in term {newest}");
                let rule = "a write of an older term never stands after one of a newer term";
                return Violation::of(rule, text);
            }
            self.newest.insert(index, (term, hop));
        }
        Ok(())
    }

    /// Returns whether a route leads to a router.
    pub(super) fn leads_to(&self, consul: &Consul, index: u16, router: usize) -> bool {
        let wanted = hop(router, index);
        match of_index(index) {
            Kind::Consul => {
                record(consul, index).is_some_and(|record| record["nextHop"] == *wanted)
            }
            Kind::Linux | Kind::Aws | Kind::Azure | Kind::Gcp => {
                self.plain.get(&index) == Some(&wanted)
            }
        }
    }
}

fn record(consul: &Consul, index: u16) -> Option<Value> {
    serde_json::from_slice(consul.entry(&route_key(index))?.value).ok()
}
