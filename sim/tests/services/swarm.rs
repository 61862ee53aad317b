//! Random faults, then rest. An instance has as many starts as deaths and one more, each start has a serial
//! number of its own, and in the end everything runs and nothing waits.

use std::collections::BTreeSet;
use std::time::Duration;

use hax_core::base::retry::Rng;
use hax_core::services::model::name::parts_of;
use serde_json::json;

use super::field::Field;
use super::seen::with_web;

const NODES: usize = 3;

/// A field with faults, and the deaths so far.
struct Swarm {
    field: Field,
    rng: Rng,
    deaths: [usize; NODES],
    /// The number of starts before each reboot.
    reboots: [BTreeSet<usize>; NODES],
}

impl Swarm {
    fn below(&mut self, most: u64) -> u64 {
        self.rng.next_u64() % most
    }

    fn befall(&mut self) {
        let node = usize::try_from(self.below(NODES as u64)).unwrap();
        let field = &mut self.field;
        match self.rng.next_u64() % 9 {
            0..=2 => {
                if field.living(node, "web").is_some() {
                    self.deaths[node] += 1;
                    field.kill_9(node, "web");
                }
            }
            3 => field.kill(node),
            4 => {
                if field.is_up(node) {
                    field.restart(node);
                } else {
                    field.start(node);
                }
            }
            5 => field.nodes[node].is_cut = !field.nodes[node].is_cut,
            6 => {
                let lasts = Duration::from_millis(self.rng.next_u64() % 3_000);
                field.at_consul(|consul, now, out| consul.elect(now, lasts, out));
            }
            7 => {
                if field.is_up(node) {
                    field.restart_keeper(node);
                }
            }
            _ => {
                self.deaths[node] += usize::from(field.living(node, "web").is_some());
                self.reboots[node].insert(field.starts(node, "web"));
                field.reboot(node);
            }
        }
    }

    /// Lets a few steps or some time pass.
    fn pass(&mut self) {
        match self.below(2) {
            0 => {
                let end = self.field.now.after(Duration::from_secs(3));
                for _ in 0..self.below(30) {
                    self.field.step(end);
                }
            }
            _ => {
                let ms = self.below(3_000);
                self.field.run(ms);
            }
        }
    }

    fn heal(&mut self) {
        for nth in 0..NODES {
            self.field.nodes[nth].is_cut = false;
            if !self.field.is_up(nth) {
                self.field.start(nth);
            }
        }
    }

    fn check(&self, seed: u64) {
        for nth in 0..NODES {
            let starts = self.field.nodes[nth].keeper.starts.iter();
            let serials: Vec<u64> =
                starts.map(|(_, start)| parts_of(&start.instance).unwrap().1).collect();
            // A start of which nothing was written before a reboot is carried out again.
            let is_again = |at: usize| {
                let is_rebooted = self.reboots[nth].contains(&at);
                serials[at - 1] > serials[at] || (serials[at - 1] == serials[at] && !is_rebooted)
            };
            let increases = !(1..serials.len()).any(is_again);
            assert!(increases, "seed {seed}: a start was carried out twice: {serials:?}");
            assert_eq!(serials.len(), self.deaths[nth] + 1, "seed {seed}: node {nth}");
            let observed = self.field.observed(nth, "web").unwrap();
            let living = self.field.living(nth, "web").unwrap();
            assert_eq!(observed["instance"], living.as_str(), "seed {seed}");
            assert_eq!(observed["state"], "running", "seed {seed}");
        }
        assert_eq!(self.field.events(), 0, "seed {seed}");
        assert_eq!(self.field.consul.entries("ha/job/").count(), 0, "seed {seed}");
    }
}

#[test]
fn whatever_befalls_them_each_death_is_followed_by_one_start() {
    for seed in 0..40 {
        let field = with_web(NODES, &json!({ "restart": { "give_up": "never" } }));
        let mut swarm =
            Swarm { field, rng: Rng::new(seed), deaths: [0; NODES], reboots: Default::default() };
        for _ in 0..20 {
            swarm.befall();
            swarm.pass();
        }
        swarm.heal();
        swarm.field.until(300_000, |field| {
            let runs =
                |nth| field.living(nth, "web").is_some() && field.state(nth, "web") == "running";
            (0..NODES).all(runs)
                && field.events() == 0
                && field.consul.entries("ha/job/").count() == 0
        });
        swarm.field.run(60_000);
        swarm.check(seed);
    }
}
