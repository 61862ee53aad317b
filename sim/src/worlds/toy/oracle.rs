//! Rules for counters. They must hold whatever faults occur.

use std::collections::{BTreeMap, BTreeSet};

use hax_core::base::id::HttpId;
use hax_core::base::time::Instant;
use hax_core::http::port::Response;

use super::listeners::LISTENERS;
use super::machine::{BELIEF, COUNT, Counter, NAMES, WAITING};
use super::tally::number_in;
use crate::consul::Consul;
use crate::engine::Violation;

/// The state of all rules.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// The unanswered requests of each machine, with the increment's name.
    unanswered: BTreeMap<(usize, HttpId), String>,
    acknowledged: BTreeSet<String>,
    /// The increments in Consul before a restore. They may be lost, even if they were acknowledged.
    before_restore: BTreeSet<String>,
    /// The last holder of the lease with its life, and the first term of its holding.
    holder: Option<((usize, u32), u64)>,
    /// The latest term of each life with the lease.
    terms: BTreeMap<(usize, u32), u64>,
    /// The time until which the holders from before a restore may believe that they hold the lease.
    restored_until: Instant,
    /// The highest number with which each machine has acknowledged an increment.
    numbers: BTreeMap<usize, u64>,
}

impl Oracle {
    pub(super) fn on_request(&mut self, node: usize, request: HttpId, name: String) {
        self.unanswered.insert((node, request), name);
    }

    /// Observes the beginning of a streaming response to a request.
    pub(super) fn on_stream_begun(&mut self, node: usize, request: HttpId) {
        self.unanswered.remove(&(node, request));
    }

    /// Drops the unanswered requests of a dead machine.
    pub(super) fn on_death(&mut self, node: usize) {
        self.unanswered.retain(|(of, _), _| *of != node);
    }

    /// Checks a response. Each request has one response, and an acknowledged increment is written and has a
    /// number of its own.
    pub(super) fn on_response(
        &mut self,
        consul: &Consul,
        node: usize,
        response: &Response,
    ) -> Result<(), Violation> {
        let Some(name) = self.unanswered.remove(&(node, response.id)) else {
            return Violation::of("each request has one response", response.id.to_string());
        };
        if response.status == 200 && !name.is_empty() {
            if self.is_missing(consul, &name) {
                return Violation::of("nothing is acknowledged before Consul holds it", name);
            }
            let last = self.numbers.get(&node).copied().unwrap_or(0);
            let number = number_in(&response.body).filter(|number| *number > last);
            let Some(number) = number else {
                let text = format!("toy {node}: {:?} after {last}", response.body);
                return Violation::of("no number is given twice", text);
            };
            self.numbers.insert(node, number);
            self.acknowledged.insert(name);
        }
        Ok(())
    }

    /// Prepares for the restore of an earlier state of Consul.
    pub(super) fn on_restore(&mut self, now: Instant, consul: &Consul) {
        self.restored_until = now.after(BELIEF);
        self.holder = None;
        self.before_restore
            .extend(consul.entries(NAMES).map(|held| held.key[NAMES.len()..].to_owned()));
    }

    /// Returns whether a restore is so recent that two machines may believe that they hold the lease.
    pub(super) fn was_restored(&self, now: Instant) -> bool {
        now < self.restored_until
    }

    fn is_missing(&self, consul: &Consul, name: &str) -> bool {
        consul.entry(&format!("{NAMES}{name}")).is_none() && !self.before_restore.contains(name)
    }

    /// Checks that the last acknowledged number is in the file.
    pub(super) fn check_file(&self, node: usize, found: Option<u64>) -> Result<(), Violation> {
        let last = self.numbers.get(&node).copied();
        if found >= last {
            return Ok(());
        }
        let text = format!("toy {node}: {found:?}, and {last:?} was acknowledged");
        Violation::of("what is acknowledged is in the file", text)
    }

    /// Checks that the count equals the number of increments with a name.
    pub(super) fn check_count(&self, consul: &Consul) -> Result<(), Violation> {
        let count =
            consul.entry(COUNT).map(|held| String::from_utf8_lossy(held.value).into_owned());
        let (count, names) = (count.unwrap_or_default(), consul.entries(NAMES).count());
        if count.parse() == Ok(names) || count.is_empty() && names == 0 {
            return Ok(());
        }
        Violation::of("each increment counts once", format!("{count}, of {names} increments"))
    }

    pub(super) fn check_limits(counter: &Counter) -> Result<(), Violation> {
        let (waiting, listening) = (counter.waiting(), counter.listening());
        if waiting <= WAITING && listening <= LISTENERS {
            return Ok(());
        }
        let text = format!("{waiting} increments wait, and {listening} listen");
        Violation::of("a counter keeps its limits", text)
    }

    /// Checks that at most one machine believes that it holds the lease, and that each holder has a later
    /// term than the previous one. A restore takes the lock from its holder without a delay for the next one,
    /// and it takes the term with it. But no machine goes back to an earlier term of its own.
    pub(super) fn check_holders(
        &mut self,
        now: Instant,
        holders: &[((usize, u32), u64)],
    ) -> Result<(), Violation> {
        for (life, term) in holders {
            let last = self.terms.entry(*life).or_insert(0);
            if *term < *last {
                let text = format!("{life:?}: {term} after {last}");
                return Violation::of("nobody goes back behind a term of its own", text);
            }
            *last = *term;
        }
        if self.was_restored(now) {
            self.holder = None;
            return Ok(());
        }
        let [holder] = holders else {
            if holders.is_empty() {
                return Ok(());
            }
            return Violation::of("at most one holds the lease", format!("{holders:?}"));
        };
        if let Some((last, term)) = self.holder.replace(*holder)
            && (holder.1 < term || holder.1 == term && last != holder.0)
        {
            let text = format!("{holder:?} after {:?}", (last, term));
            return Violation::of("the term of the lease never goes back", text);
        }
        Ok(())
    }

    /// Returns an unanswered request, if any.
    pub(super) fn unanswered(&self) -> Option<String> {
        self.unanswered.keys().next().map(|(node, id)| format!("toy {node}: {id} has no response"))
    }

    /// Checks that no acknowledged increment is lost.
    pub(super) fn check_rest(&self, consul: &Consul) -> Result<(), Violation> {
        match self.acknowledged.iter().find(|name| self.is_missing(consul, name)) {
            Some(name) => Violation::of("no acknowledged increment is lost", name.clone()),
            None => self.check_count(consul),
        }
    }
}
