//! What a run consists of: faults, then health until everything rests, some times over; then the stop.

use hax_core::base::fid::Fid;
use hax_core::ha::note::ObjectState;

use super::World;
use super::field;
use super::model::Model;
use super::motr::Stage;
use super::queue::{Ev, MS, S};

/// The longest that faults last, in the world's time.
const FAULTS_FOR: u64 = 400 * S;
/// Within this everything rests once nothing goes wrong any more. The longest chain is a process that
/// has just begun to wait for a dead connection: 8 s, ten sends, 5 s to connect, and once more.
const REST_WITHIN: u64 = 180 * S;
/// How often it is looked whether it is a rest: later than the longest pause between two tries.
const LOOK_EVERY: u64 = 7 * S;
/// How long a rest is watched for its quiet.
const QUIET_FOR: u64 = 10 * S;
/// What a stop takes beyond the bridge's drain: leave is taken of the links.
const LEAVE_FOR: u64 = 6 * S;

impl World<'_> {
    /// The whole run.
    pub(super) fn play(&mut self) {
        let swarm = self.swarm.clone();
        self.say(|| format!("{swarm}"));
        self.watch_services();
        for i in 0..self.hax.len() {
            self.queue.push(self.now, Ev::StartHax(i));
        }
        for i in 0..self.cast.len() {
            let later = self.choose(4) * 500 * MS;
            self.boot_later(i, S + later);
        }
        if !self.swarm.elects {
            self.queue.push(self.now + S, Ev::Elect);
        }
        for round in 1..=self.swarm.rounds {
            self.faults(round);
            self.heal();
            self.rest();
            if self.oracle.violation.is_some() || self.choice.spent() {
                break;
            }
        }
        self.stop();
    }

    /// Things go wrong until the choices are spent, or it is time for a rest.
    fn faults(&mut self, round: u8) {
        self.queue.push(self.now + 2 * S, Ev::Act);
        let last = round == self.swarm.rounds;
        let long = if last { FAULTS_FOR } else { FAULTS_FOR / 8 };
        let end = self.now + long;
        while !self.choice.spent() && self.step(end) {}
    }

    /// Nothing goes wrong any more, and everybody comes back but who is to be absent.
    fn heal(&mut self) {
        if self.oracle.violation.is_some() {
            return;
        }
        self.say(|| "everything heals".into());
        self.calm = true;
        self.net.heal();
        self.consul.old = None;
        self.put_right();
        self.break_calls();
        for i in 0..self.hax.len() {
            self.hax[i].dies_after = None;
            if self.hax[i].node.is_none() {
                self.queue.push(self.now, Ev::StartHax(i));
            }
        }
        for i in 0..self.cast.len() {
            self.unmute(i);
            // Without a confd there is no leader, and without a leader nobody gets an entrypoint.
            let absent = !self.cast[i].is_confd() && self.swarm.absent >> (i % 16) & 1 == 1;
            if absent {
                self.leave(i);
            } else if self.cast[i].machine.is_none() || self.cast[i].is_on_its_way_out() {
                self.boot_later(i, 0);
            }
            self.queue.push(self.now + S, Ev::Check(i));
        }
    }

    /// Everything comes to rest, and then it is quiet and everybody knows what is so.
    fn rest(&mut self) {
        let end = self.now + REST_WITHIN;
        let mut why = Some(String::new());
        while self.oracle.violation.is_none() && why.is_some() && self.now < end {
            for i in 0..self.cast.len() {
                self.nudge(i);
                self.queue.push(self.now, Ev::Check(i));
            }
            let heard = self.heard();
            self.run_to(self.now + LOOK_EVERY);
            // What happened twice and came to the same in the end is still news to those who look late.
            let news = || (self.heard() != heard).then(|| "there is news".to_owned());
            why = self.unrest().or_else(news);
        }
        if let Some(why) = why {
            self.oracle.fail("everything comes to rest once nothing goes wrong", why);
        }
        self.say(|| "everything rests".into());
        let heard = self.heard();
        self.run_to(self.now + QUIET_FOR);
        if self.oracle.violation.is_some() {
            return;
        }
        let louder = (0..self.cast.len()).find(|i| self.cast[*i].heard > heard[*i]);
        if let Some(i) = louder {
            self.oracle.fail("nobody is told twice what is so", format!("process {i}"));
        }
        self.oracle.rest(&self.consul.double);
        self.calm = false;
    }

    /// Messages of states that each process has heard.
    fn heard(&self) -> Vec<u64> {
        self.cast.iter().map(|actor| actor.heard).collect()
    }

    /// Why it is not a rest yet.
    fn unrest(&self) -> Option<String> {
        if self.now < self.consul.late_until {
            return Some("a write is on its way to Consul".into());
        }
        for (i, hax) in self.hax.iter().enumerate() {
            let Some(node) = &hax.node else { return Some(format!("hax {i} is down")) };
            let view = node.view();
            if hax.stopping {
                return Some(format!("hax {i} stops"));
            }
            if !view.ready || view.lanes + view.entries + view.questions > 0 {
                return Some(format!("hax {i}: {view:?}"));
            }
            let wire = node.wire();
            let busy = wire.links.iter().find(|link| link.up && link.queued + link.unacked > 0);
            if let Some(link) = busy {
                return Some(format!("hax {i}: {link:?}"));
            }
        }
        if self.posts > 0 {
            return Some("a watch posts".into());
        }
        let busy = self.cast.iter().enumerate().find_map(|(i, actor)| {
            let why = match actor.stage {
                Stage::Down if actor.returns => "will start",
                Stage::Down => return None,
                Stage::Up if !actor.has_link => "has no link",
                Stage::Up if !actor.sent.is_empty() => "has sent what is not delivered",
                Stage::Up if !actor.questions.is_empty() => "has asked for states",
                Stage::Up if actor.wants_failures => "has asked for failures",
                Stage::Up => return None,
                Stage::Asking => "asks for its entrypoint",
                Stage::Starting | Stage::Recovering => "starts",
                Stage::Stopping | Stage::Leaving => "stops",
            };
            Some(format!("process {i} {why}"))
        });
        busy.or_else(|| self.oracle.owed())
            .or_else(|| self.misjudged())
            .or_else(|| self.unaware())
            .or_else(|| self.hidden())
            .or_else(|| field::underived(self))
    }

    /// A process whose agent has not found out yet whether it is there.
    fn misjudged(&self) -> Option<String> {
        let dead = |node: &str| {
            let mut checks = self.consul.double.checks();
            checks.any(|check| check.node == node && check.id == "serfHealth" && !check.passing)
        };
        // A former name of a node keeps what it said last.
        self.consul.double.checks().filter(|check| !dead(check.node)).find_map(|check| {
            let i = self.cast.iter().position(|actor| actor.check == check.id)?;
            let wrong = check.passing != self.cast[i].machine.is_some();
            wrong.then(|| format!("process {i} is misjudged"))
        })
    }

    /// A process that is gone while its word says that it lives, and nobody else has written that.
    fn hidden(&self) -> Option<String> {
        self.cast.iter().filter(|actor| actor.machine.is_none()).find_map(|actor| {
            let (state, _) = self.word_of(actor.fid)?;
            let hidden = state != "STOPPED" && self.oracle.is_a_hax_s(actor.fid);
            hidden.then(|| format!("{} is gone and its word is {state}", actor.fid))
        })
    }

    /// A process that was told something else than is so.
    fn unaware(&self) -> Option<String> {
        let model = Model::of(&self.consul.double);
        self.cast.iter().enumerate().filter(|(_, actor)| actor.machine.is_some()).find_map(
            |(i, actor)| {
                let itself = |fid: Fid| {
                    model.is_of(actor.fid, fid) && model.state(fid) == ObjectState::Transient
                };
                let wrong =
                    |(fid, told): &(&Fid, &_)| !model.is_known_by(**told, **fid) && !itself(**fid);
                let (fid, told) = actor.told.iter().find(wrong)?;
                Some(format!(
                    "process {i} was told that {fid} is {told}, it is {}",
                    model.state(*fid)
                ))
            },
        )
    }

    /// Every hax is told to stop, and exits.
    fn stop(&mut self) {
        if self.oracle.violation.is_some() {
            return;
        }
        self.say(|| "everything stops".into());
        self.calm = true;
        for i in 0..self.hax.len() {
            self.hax[i].retired = true;
            self.stop_hax(i);
        }
        let drains = self.hax.iter().filter_map(|hax| hax.config.as_ref());
        let drain = drains.map(|config| config.bridge.time.drain.as_micros()).max().unwrap_or(0);
        self.run_to(self.now + u64::try_from(drain).unwrap_or(0) + LEAVE_FOR);
        let late = self.hax.iter().position(|hax| hax.node.is_some());
        if let Some(i) = late {
            self.oracle.fail("a stop ends in time", format!("hax {i} has not exited"));
        }
    }
}
