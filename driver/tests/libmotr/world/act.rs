//! The possible actions in the world.

use std::time::Duration;

use hax_core::base::fid::Fid;
use hax_core::ha::message::Body;
use hax_core::ha::process::ServiceEvent;
use hax_core::ha::report::StobIoq;
use hax_sim::engine::choice::Choice;

use super::World;
use super::consul::Fault;

impl World {
    /// Does one action, and handles its consequences.
    pub(super) fn act(&mut self, choice: &mut impl Choice) {
        let what = choice.below(14);
        let i = usize::try_from(choice.below(self.peers.len() as u64)).unwrap_or(0);
        let peer = &self.peers[i];
        let (fid, up) = (peer.fid, peer.alive && peer.link.is_some());
        self.history.push(format!("{:?} {fid} does {what}, up: {up}", self.now));
        match what {
            1 | 2 if !peer.alive => self.start(i),
            1..=3 if up => self.event(i),
            4 if up => {
                let objects = (0..=choice.below(8)).map(|_| object(choice)).collect();
                let id = self.lives * 1000 + self.history.len() as u64;
                self.question(i, id, objects);
            }
            5 if up => self.other(i, body(choice)),
            6 | 7 if up => {
                if let Some(link) = peer.link {
                    self.library.settle(link, true);
                }
            }
            8 => self.peers[i].alive = false,
            9 if up => self.ask(i, false),
            10 => self.library.prompt(choice.below(2) == 1),
            11 => {
                let faults = [Fault::Refuses, Fault::Fails, Fault::Hangs, Fault::Loses];
                let n = usize::try_from(choice.below(8)).unwrap_or(0);
                self.consul.fault = faults.get(n).copied();
            }
            12 | 13 => self.run(Duration::from_millis(1 + choice.below(1500))),
            _ => {}
        }
        self.run(Duration::from_millis(choice.below(4)));
        self.check();
    }
}

/// Chooses a process, a service, a device, or an object that does not exist.
fn object(choice: &mut impl Choice) -> Fid {
    let key = choice.below(20);
    match choice.below(4) {
        0 => Fid::process(key),
        1 => Fid::service(key),
        2 => Fid::typed(b'd', 1, key),
        _ => Fid::process(900 + key),
    }
}

fn body(choice: &mut impl Choice) -> Body {
    let fid = Fid::typed(b'o', 2, 9);
    match choice.below(4) {
        0 => Body::Rpc { attempts: 1, state: 3 },
        1 => Body::Service(ServiceEvent { event: 1, kind: 2, pid: 3 }),
        2 => Body::FailureVecReq { pool: fid, cookie: (3, 4) },
        _ => Body::StobIoq(Box::new(StobIoq {
            sdev: Fid::typed(b'd', 1, 2),
            stob_domain: fid,
            stob: fid,
            fd: 1,
            opcode: 2,
            rc: -5,
            offset: 0,
            size: 1,
            bshift: 12,
        })),
    }
}
