//! The acts on the world while faults are allowed. The swarm sets their weights.

use bytes::Bytes;
use hax_core::base::fid::Fid;
use hax_core::ha::message::Body;
use hax_core::ha::note::{Note, Nvec, NvecKind, ObjectState};
use hax_core::ha::process::{ProcessEvent, ProcessEventKind, ProcessType, ServiceEvent};
use hax_core::ha::report::{BeIoErr, SnsErr, StobIoq};

use super::event::Ev;
use super::motr::ProcessState;
use super::{Bridge, World};
use crate::engine::{Client, MS, Party, swarm};

macro_rules! acts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One act on the world.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Act {
            $($(#[$doc])* $name,)*
        }

        impl Act {
            /// All acts.
            pub const ALL: [Self; [$(Self::$name),*].len()] = [$(Self::$name),*];
        }
    };
}

acts! {
    /// A process sends a message without an effect, or a strange one.
    SendMessage,
    /// A process requests states.
    RequestStates,
    /// A process reports an earlier event again.
    RepeatEvent,
    /// A process stops cleanly.
    StopProcess,
    /// A process that is down starts.
    StartProcess,
    /// A process is formatted. If it is not down, it dies first.
    Format,
    /// A process dies.
    KillProcess,
    /// All processes die and start at the same moment.
    RestartAll,
    /// A process stops acknowledging messages, or resumes it.
    WithholdAcks,
    /// A hax dies.
    KillHax,
    /// A hax dies after some of its next outputs.
    KillHaxSoon,
    /// A hax is stopped and starts again.
    StopHax,
    /// Connections break.
    Cut,
    /// Connections break, and one end does not notice.
    HalfOpen,
    /// No bytes pass for a while, in one direction or in both.
    Stall,
    /// A client that is no Motr process connects.
    RawClient,
    /// A check reports a wrong status.
    WrongCheck,
    /// A service leaves the catalog or comes back.
    Deregister,
    /// A node's agent dies or comes back.
    Agent,
    /// The leader loses its lock.
    EndLeaderSession,
    /// Consul cannot be reached.
    ConsulDown,
    /// Consul has no leader.
    NoLeader,
    /// Another writer writes the record of a process.
    ConcurrentWrite,
    /// A client writes keys that hax cannot parse, or deletes keys.
    ForeignKeys,
    /// An old daemon or an operator's tool sends a message over the broadcast queue.
    AppendToQueue,
    /// The configuration changes.
    Reconfigure,
    /// Stale responses come from the state of this moment from now on.
    KeepStaleCopy,
    /// An HTTP client sends a request.
    Http,
    /// The wall clock jumps.
    ShiftWallClock,
    /// Nothing happens for a long time.
    Wait,
    /// Somebody sets a check of a node, or registers a service elsewhere with a process's id.
    ForeignCheck,
    /// Keys of an earlier configuration appear, or are deleted.
    OldConfiguration,
    /// The configuration is imported again.
    Import,
    /// Nothing passes between an agent and the servers for a while.
    CutAgent,
    /// Consul's servers elect another leader.
    Election,
    /// A snapshot of Consul is taken, or the last one is restored.
    Restore,
    /// An agent leaves the cluster, and joins it again.
    LeaveCluster,
    /// An agent starts anew under another name.
    Rename,
    /// A hax's token loses a right, is revoked, or regains all rights.
    Token,
}

impl Act {
    /// The number of acts before those about agents cut off from the servers, which only some worlds have.
    pub(super) const OLD: usize = Self::CutAgent as usize;
}

impl World<'_, Bridge> {
    /// Performs one act and returns the time until the next one, in ms.
    pub(super) fn act_once(&mut self) -> u64 {
        let weights = self.cast.swarm.acts;
        // Additional weight of no act, and of the acts that keep processes busy.
        let at = self.sim.choose(swarm::sum(&weights) + 4);
        let chosen = match at {
            // A world with Motr's library gets more HTTP requests about pools.
            0 if self.cast.swarm.spiel => Some(Act::Http),
            0 => None,
            1 | 2 => Some(Act::RequestStates),
            3 => Some(Act::StartProcess),
            at => swarm::weighted(&weights, at - 4).map(|place| Act::ALL[place]),
        };
        let mut pause = self.draw_pause();
        if let Some(act) = chosen {
            self.sim.log(|| format!("act: {act:?}"));
            self.perform(act, &mut pause);
        }
        pause
    }

    fn perform(&mut self, act: Act, pause: &mut u64) {
        match act {
            Act::SendMessage
            | Act::RequestStates
            | Act::RepeatEvent
            | Act::StopProcess
            | Act::StartProcess
            | Act::Format
            | Act::KillProcess
            | Act::RestartAll
            | Act::WithholdAcks => self.act_motr(act),
            Act::KillHax | Act::KillHaxSoon | Act::StopHax => self.act_hax(act),
            Act::Cut | Act::HalfOpen | Act::Stall | Act::RawClient => self.act_net(act),
            Act::Http => self.send_http_request(),
            Act::ShiftWallClock => {
                // The jump is forward or back by up to an hour.
                let by = i64::try_from(self.sim.choose(7_200)).unwrap_or(0);
                let by = if by == 0 { 0 } else { by - 3_600 };
                self.sim.shift_wall_clock(by * 1_000_000_000);
            }
            Act::Wait => {
                *pause += self.sim.choose(200) * 1_000;
            }
            act => self.act_consul(act),
        }
    }

    fn act_motr(&mut self, act: Act) {
        let i = self.sim.index(self.cast.motr.len());
        match act {
            Act::SendMessage => {
                let (fid, body) = self.draw_body(i);
                self.send_about(i, fid, body);
            }
            Act::RequestStates => {
                let n = self.sim.choose(6);
                let fids = (0..n).map(|_| self.draw_object()).collect();
                self.request_states(i, fids);
            }
            Act::RepeatEvent if self.cast.motr[i].state == ProcessState::Up => {
                let all = [
                    ProcessEventKind::Started,
                    ProcessEventKind::DtmRecovered,
                    ProcessEventKind::Starting,
                ];
                let event = all[self.sim.index(all.len())];
                self.report(i, event);
            }
            Act::StopProcess => self.stop_process(i),
            Act::StartProcess => self.start_process(i, false),
            Act::Format => {
                self.kill_process(i);
                self.start_process(i, true);
            }
            Act::KillProcess => {
                self.kill_process(i);
                let down = self.sim.choose(10_000);
                self.start_process_later(i, down * MS);
            }
            Act::RestartAll => {
                for i in 0..self.cast.motr.len() {
                    self.kill_process(i);
                    self.start_process_later(i, 10 * MS);
                }
            }
            Act::WithholdAcks if self.cast.motr[i].withholds_acks => self.resume_acks(i),
            Act::WithholdAcks => self.cast.motr[i].withholds_acks = true,
            _ => {}
        }
    }

    fn act_hax(&mut self, act: Act) {
        let i = self.sim.index(self.hosts.len());
        match act {
            Act::KillHax => {
                self.kill(i);
                let down = 1 + self.sim.choose(20_000);
                self.start_after(i, down * MS);
            }
            Act::KillHaxSoon => self.hosts[i].die_after(1 + self.sim.choose(60)),
            _ => self.stop(i),
        }
    }

    fn act_net(&mut self, act: Act) {
        let motr = self.sim.index(self.cast.motr.len());
        let hax = self.cast.motr[motr].hax;
        match act {
            Act::Cut => self.break_connections(Party::Node(hax), Party::Peer(motr), false),
            Act::HalfOpen => self.break_connections(Party::Node(hax), Party::Peer(motr), true),
            Act::Stall => {
                let long = self.sim.choose(25_000);
                let (until, hax, motr) =
                    (self.sim.now() + long * MS, Party::Node(hax), Party::Peer(motr));
                if long % 3 != 1 {
                    self.net.stall(motr, hax, until);
                }
                if long % 3 != 2 {
                    self.net.stall(hax, motr, until);
                }
            }
            _ => self.raw_client(hax, motr),
        }
    }

    fn act_consul(&mut self, act: Act) {
        match act {
            Act::WrongCheck => {
                let (i, passing) = (self.sim.index(self.cast.motr.len()), self.sim.choose(2) == 0);
                if self.cast.motr[i].registered {
                    self.set_check(i, passing);
                }
            }
            Act::Deregister => {
                let i = self.sim.index(self.cast.motr.len());
                self.register(i, !self.cast.motr[i].registered);
            }
            Act::Agent => {
                let (agent, how) = (self.sim.index(self.hosts.len()), self.sim.choose(3));
                self.set_agent(agent, how == 0);
                if how == 2 {
                    self.reap(agent);
                }
            }
            Act::EndLeaderSession => self.end_leader_session(),
            Act::ConsulDown => {
                self.consul.down_until = self.sim.now() + self.sim.choose(15_000) * MS
            }
            Act::NoLeader => {
                let lasts = self.sim.choose(15_000) * MS;
                self.drop_leader(lasts);
            }
            Act::ConcurrentWrite => self.write_record(),
            Act::ForeignKeys => self.write_foreign_keys(),
            Act::AppendToQueue => self.append_to_queue(),
            Act::CutAgent | Act::LeaveCluster => {
                let (agent, long) =
                    (self.sim.index(self.hosts.len()), self.sim.choose(40_000) * MS);
                self.separate_agent(agent, act == Act::LeaveCluster);
                self.sim.schedule(self.sim.now() + long, Ev::RejoinAgent(agent));
            }
            Act::Rename => {
                let agent = self.sim.index(self.hosts.len());
                self.rename(agent);
            }
            Act::Election => self.elect_server(),
            Act::Restore => self.snapshot_or_restore(),
            Act::Reconfigure => self.reconfigure(),
            Act::ForeignCheck => self.foreign_check(),
            Act::OldConfiguration => self.change_old_configuration(),
            Act::Import => self.import_again(),
            Act::Token => self.change_token(HIDDEN),
            Act::KeepStaleCopy => {
                self.consul.stale_copy = Some(Box::new(self.consul.double.clone()))
            }
            _ => {}
        }
    }

    fn draw_object(&mut self) -> Fid {
        match self.sim.choose(8) {
            0 => Fid::process(99),
            1 => Fid::typed(b'o', 1, 0),
            2 => Fid::new(5, 5),
            _ => {
                let i = self.sim.index(self.cast.objects.len());
                self.cast.objects[i]
            }
        }
    }

    fn draw_body(&mut self, i: usize) -> (Fid, Body) {
        let fid = self.cast.motr[i].fid;
        let other = self.draw_object();
        let body = match self.sim.choose(12) {
            0 | 1 => Body::Rpc { attempts: 1, state: 3 },
            2 => Body::Service(ServiceEvent { event: 1, kind: 2, pid: 3 }),
            3 => Body::StobIoq(Box::new(StobIoq {
                sdev: other,
                stob_domain: other,
                stob: other,
                fd: 3,
                opcode: 1,
                rc: -5,
                offset: 0,
                size: 4096,
                bshift: 12,
            })),
            4 => {
                let notes = vec![Note { fid: other, state: ObjectState::Failed }];
                let kind = NvecKind::Set;
                Body::Nvec(Box::new(Nvec { kind, id_of_get: 0, ignore_same_state: 0, notes }))
            }
            5 => Body::Undefined(77),
            // The event is about another process, or its fid is undefined.
            6 => {
                let (event, kind) = (ProcessEventKind::Started, ProcessType::M0d);
                return (other, Body::Process(ProcessEvent { event, kind, pid: 1 }));
            }
            7 => {
                let (event, kind) = (ProcessEventKind::Undefined(9), ProcessType::M0d);
                Body::Process(ProcessEvent { event, kind, pid: 1 })
            }
            8 => Body::KeepaliveReq((1, 2)),
            9 => Body::KeepaliveRep { id: (1, 2), counter: 3 },
            10 => Body::BeIoErr(BeIoErr { errcode: 5, location: 1, io_opcode: 2 }),
            _ => Body::SnsErr(SnsErr { errcode: 5, opcode: 1 }),
        };
        (fid, body)
    }

    fn send_http_request(&mut self) {
        let hax = self.sim.index(self.hosts.len());
        if self.cast.swarm.spiel && self.sim.choose(4) != 0 {
            return self.request_operations(hax);
        }
        let (method, target, body): (_, _, &'static [u8]) = match self.sim.choose(12) {
            0 => ("GET", "/", b""),
            1 => ("GET", "/readyz", b""),
            2 => ("HEAD", "/healthz", b""),
            3 => ("POST", "/", b"null"),
            4 => ("POST", "/", b"[{\"Checks\": [{\"Node\": "),
            5 => ("POST", "/", b"{}"),
            6 => ("DELETE", "/", b""),
            7 => ("PUT", "/readyz", b"x"),
            8 => ("GET", "/no/such/path?x=1", b""),
            9 | 10 => return self.post_false_watch(hax),
            _ => ("POST", "/", &LARGE),
        };
        self.request(hax, method, target, Bytes::from_static(body), Client::Other);
    }
}

/// The paths that a token may lose the right to read.
const HIDDEN: [&str; 3] = ["/v1/kv/m0conf", "/v1/kv/processes", "/v1/health/"];
/// A body above the tight limit on bodies.
static LARGE: [u8; 1_000] = [b' '; 1_000];
