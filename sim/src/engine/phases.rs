//! The phases of a run: faults, then health until everything rests, repeated for some rounds; then the stop.

use super::World;
use super::cast::{Cast, Times};
use super::event::{Ev, MS, S};

impl<C: Cast> World<'_, C> {
    const TIMES: Times = C::TIMES;

    /// Runs all phases.
    pub(super) fn run_phases(&mut self) {
        C::begin(self);
        for round in 1..=self.odds.rounds {
            self.faults(round);
            self.heal();
            self.rest();
            if self.sim.is_broken() || self.sim.is_spent() {
                break;
            }
        }
        self.stop_all();
    }

    /// Lets faults occur until the choices are spent, or until it is time for a rest.
    fn faults(&mut self, round: u8) {
        self.sim.push(self.sim.now() + 2 * S, Ev::Act);
        let last = round == self.odds.rounds;
        let long = if last { Self::TIMES.faults } else { Self::TIMES.faults / 8 };
        let end = self.sim.now() + long;
        while !self.sim.is_spent() && self.step(end) {}
    }

    /// Performs one act and queues the next one.
    pub(super) fn act(&mut self) {
        if self.sim.are_faults_off() || self.sim.is_spent() {
            return;
        }
        let pause = C::act(self);
        self.sim.push(self.sim.now() + pause * MS, Ev::Act);
    }

    /// Draws the pause until the next act, in ms.
    pub(crate) fn draw_pause(&mut self) -> u64 {
        1 + self.sim.choose(2 * self.odds.pace_ms)
    }

    /// Ends all faults and brings back all parties, except for the absent ones of the cast.
    fn heal(&mut self) {
        if self.sim.is_broken() {
            return;
        }
        self.sim.log(|| "everything heals".into());
        self.sim.set_faults_off(true);
        self.net.heal();
        self.heal_consul();
        C::repair(self);
        self.break_calls();
        for i in 0..self.hosts.len() {
            self.hosts[i].cancel_death();
            self.read_quickly(i);
            self.end_pipe_faults(i);
            if !self.hosts[i].is_up() {
                self.start_after(i, 0);
            }
        }
        C::heal(self);
    }

    /// Waits until everything is at rest, then checks that it stays quiet and that all parties know the
    /// current state.
    fn rest(&mut self) {
        let end = self.sim.now() + Self::TIMES.rest_timeout;
        let mut why = Some(String::new());
        while !self.sim.is_broken() && why.is_some() && self.sim.now() < end {
            C::nudge(self);
            let heard = C::notification_counts(self);
            self.run_to(self.sim.now() + Self::TIMES.check_interval);
            // A state that changes twice and is the same in the end is still a change for a late observer.
            let news =
                || (C::notification_counts(self) != heard).then(|| "there is news".to_owned());
            why = self.busy_reason().or_else(news);
        }
        if let Some(why) = why {
            self.sim.fail("everything comes to rest once nothing goes wrong", why);
        }
        self.sim.log(|| "everything rests".into());
        let heard = C::notification_counts(self);
        self.run_to(self.sim.now() + Self::TIMES.quiet);
        if self.sim.is_broken() {
            return;
        }
        let louder =
            C::notification_counts(self).into_iter().zip(heard).position(|(now, then)| now > then);
        if let Some(i) = louder {
            self.sim.fail("nobody is told twice what is so", format!("process {i}"));
        }
        let result = C::at_rest(self);
        self.sim.check(result);
        self.sim.set_faults_off(false);
    }

    /// Returns the reason why the world is not at rest yet.
    fn busy_reason(&self) -> Option<String> {
        if self.has_late_writes() {
            return Some("a write is on its way to Consul".into());
        }
        let frozen = (0..self.hosts.len()).find(|i| self.is_frozen(*i));
        if let Some(i) = frozen {
            return Some(format!("{} {i} stands still", C::NODE));
        }
        let mut waiting = self.hosts.iter().enumerate();
        let waiting = waiting.find_map(|(i, host)| Some((i, host.pipe_host.waiting()?)));
        if let Some((i, client)) = waiting {
            return Some(format!("{client:?} waits for {} {i}", C::NODE));
        }
        C::busy_reason(self)
    }

    /// Tells every machine to stop and waits for its exit.
    fn stop_all(&mut self) {
        if self.sim.is_broken() {
            return;
        }
        self.sim.log(|| "everything stops".into());
        self.sim.set_faults_off(true);
        for i in 0..self.hosts.len() {
            self.hosts[i].retired = true;
            self.stop(i);
        }
        self.run_to(self.sim.now() + C::drain_time(self) + Self::TIMES.stop_margin);
        let late = self.hosts.iter().position(|host| host.is_up());
        if let Some(i) = late {
            self.sim.fail("a stop ends in time", format!("{} {i} has not exited", C::NODE));
        }
    }
}
