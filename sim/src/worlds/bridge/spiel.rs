//! Motr's library beside a hax: it responds at once, late, with a refusal, or never.

use bytes::Bytes;
use hax_core::base::errno::Errno;
use hax_core::base::fid::Fid;
use hax_core::ha::spiel::{Answer, Call, Counter, Filesystem, Op, Pver, Reply, SnsOp, Status};
use hax_core::machine::Input;

use super::event::Ev;
use super::{Bridge, World};
use crate::engine::{Client, MS};

/// The minimum time of a response.
const LATENCY: u64 = 5 * MS;

impl World<'_, Bridge> {
    pub(super) fn on_spiel(&mut self, hax: usize, call: &Call) {
        let fate = self.sim.choose(8);
        let late = if matches!(fate, 3 | 4 | 6) { self.sim.choose(60_000) * MS } else { 0 };
        let result = match fate {
            7 if self.sim.choose(4) == 3 => return,
            5..=7 => {
                let all = [Errno::EAGAIN, Errno::EBUSY, Errno::ENOENT, Errno(5)];
                Err(all[self.sim.index(all.len())])
            }
            _ => Ok(self.library_answer(call.op)),
        };
        let reply = Box::new(Reply { id: call.id, result });
        let life = self.hosts[hax].life();
        self.sim.schedule(self.sim.now() + LATENCY + late, Ev::Spiel(hax, life, reply));
    }

    fn library_answer(&mut self, op: Op) -> Answer {
        match op {
            Op::Sns { op, .. } if op.is_status() => {
                let status = |key| Status { fid: Fid::service(key), state: 2, progress: 50 };
                Answer::Statuses((0..self.sim.choose(3)).map(status).collect())
            }
            Op::Begin { .. } | Op::Sns { .. } => Answer::Done,
            Op::Filesystem => {
                let free_disk = self.sim.choose(1 << 20);
                Answer::Filesystem(Box::new(Filesystem { free_disk, ..Filesystem::default() }))
            }
            Op::Counters { .. } => {
                let n = self.sim.choose(3);
                let bytes = self.sim.choose(1 << 20);
                let pver = |key| Fid::typed(b'v', 1, key);
                let counter = |n| Counter { pver: pver(n % 2), user: n, bytes, objects: 1 };
                Answer::Counters((0..n).map(counter).collect())
            }
            Op::Pver { .. } => {
                let state = u32::try_from(self.sim.choose(5)).unwrap_or(0);
                Answer::Pver(Pver { state, data_units: 4, parity_units: 2 })
            }
        }
    }

    pub(super) fn on_library_reply(&mut self, hax: usize, life: u32, reply: Reply) {
        if self.hosts[hax].life() == life {
            self.cast.oracle.on_library_reply(hax, &reply);
            self.feed(hax, Input::Spiel(reply));
        }
    }

    /// Returns an operation on a pool, or on an object that is no pool.
    pub(super) fn draw_operation(&mut self) -> (SnsOp, Fid) {
        let pools = self.consul.double.entries("m0conf/pools/");
        let fids = pools.filter_map(|held| held.key.rsplit('/').next()?.parse().ok());
        let fids: Vec<Fid> = fids.chain([Fid::typed(b'o', 9, 9)]).collect();
        let pool = fids[self.sim.index(fids.len())];
        (self.draw_op(), pool)
    }

    fn draw_op(&mut self) -> SnsOp {
        let ops: Vec<SnsOp> = SnsOp::all().collect();
        ops[self.sim.index(ops.len())]
    }

    /// Requests an operation for an operator, and perhaps another one for another operator.
    pub(super) fn request_operations(&mut self, hax: usize) {
        let (op, pool) = self.draw_operation();
        self.request_operation(hax, op, pool);
        if self.sim.choose(2) == 1 {
            let op = self.draw_op();
            self.request_operation(hax, op, pool);
        }
    }

    fn request_operation(&mut self, hax: usize, op: SnsOp, pool: Fid) {
        let (name, body) = (op.name(), Bytes::from(format!(r#"{{"fid": "{pool}"}}"#)));
        let (method, target, body) = if op.is_status() {
            ("GET", format!("/api/v1/sns/{name}?pool_fid={pool}"), Bytes::new())
        } else {
            ("POST", format!("/api/v1/sns/{name}"), body)
        };
        self.request(hax, method, &target, body, Client::Other);
    }
}
