//! The messages that a Motr process receives from its hax, and the rules for them.

use hax_core::ha::message::{Body, Message};
use hax_core::ha::note::{Note, Nvec};

use super::event::Ev;
use super::model::Model;
use super::motr::{ProcessState, Question};
use super::{Bridge, World, trace};
use crate::engine::MS;

/// The time for which a posted check unknown to Consul may count, in µs: 5 s, and the read that ends it.
const POSTED_CHECK_VALID: u64 = 6_000_000;

impl World<'_, Bridge> {
    /// Handles a message of its hax at a process.
    pub(super) fn on_message(&mut self, i: usize, message: &Message) {
        self.sim.log(|| format!("process {i} hears {}", trace::message(message)));
        match &message.body {
            Body::Nvec(nvec) => {
                let process = &mut self.cast.motr[i];
                if nvec.id_of_get != 0 {
                    let again = process.answered.insert(nvec.id_of_get, process.links);
                    if again == Some(process.links) {
                        let text = format!("process {i}: answer to {}", nvec.id_of_get);
                        return self.sim.fail("a question has one answer", text);
                    }
                    let asked = process.questions.remove(&nvec.id_of_get);
                    self.check_answer(i, asked, nvec);
                } else {
                    self.cast.motr[i].notifications += 1;
                }
                let told = &mut self.cast.motr[i].last_states;
                told.extend(nvec.notes.iter().map(|note| (note.fid, note.state)));
                self.continue_start(i);
            }
            Body::FailureVecRep { .. } => {
                let process = &mut self.cast.motr[i];
                // A process that was acknowledged too late asks again over its next link.
                let again = process.failures_answered.replace(process.links) == Some(process.links);
                if again && !process.awaits_failures {
                    let text = format!("process {i}: a failure vector");
                    return self.sim.fail("a question has one answer", text);
                }
                process.awaits_failures = false;
                self.continue_start(i);
            }
            other => {
                let text = format!("process {i}: {}", other.name());
                self.sim.fail("hax sends states and failure vectors only", text);
            }
        }
    }

    /// Checks a response to a request for states: it covers the requested objects, and its states are correct
    /// at some time between the request and the response.
    fn check_answer(&mut self, i: usize, asked: Option<Question>, nvec: &Nvec) {
        let Some(Question { fids, index }) = asked else { return };
        if !nvec.notes.iter().map(|note| note.fid).eq(fids) {
            let text = format!("process {i}: other objects than it asked for");
            return self.sim.fail("an answer is about what was asked", text);
        }
        // A read with a wrong index may keep removed objects.
        if self.consul.double.index() != index || self.cast.swarm.odds.has_index_faults() {
            return;
        }
        let model = Model::of(&self.consul.double);
        let doubted = self.cast.hax[self.cast.motr[i].hax]
            .last_post
            .is_some_and(|at| self.sim.now() < at + POSTED_CHECK_VALID);
        let fits = |note: &&Note| {
            note.state == model.state(note.fid) || doubted && model.has_no_check(note.fid)
        };
        let wrong = nvec.notes.iter().find(|note| !fits(note));
        if let Some(note) = wrong {
            let (fid, said, is) = (note.fid, note.state, model.state(note.fid));
            let text = format!("process {i}: {fid} is {is}, the answer says {said}");
            self.sim.fail("an answer is no older than its question", text);
        }
    }

    /// Continues the start of a process that has its responses.
    fn continue_start(&mut self, i: usize) {
        if self.cast.motr[i].state == ProcessState::Starting {
            let life = self.cast.motr[i].life;
            self.sim.schedule(self.sim.now() + 10 * MS, Ev::NextStep(i, life));
        }
    }
}
