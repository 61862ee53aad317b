//! Commands to the cluster through the fake, which notices what is not freed, what is freed twice, and
//! what is called too early, too late or where it may not be.
#![expect(unsafe_code, reason = "C's structs of zeros")]

use hax_core::base::id::SpielId;
use hax_core::ha::spiel::{Act, Answer, Counter, Filesystem, Op, Pver, Sns, SnsOp, Status};
use motr_sys::abi;
use motr_sys::fake::Says;

use super::*;

const POOL: Fid = Fid::typed(b'o', 1, 3);
const PROFILE: Fid = Fid::typed(b'p', 1, 0);

impl Rig {
    fn call(&self, id: u64, op: Op) {
        self.motr.call(Call { id: SpielId(id), op });
    }

    fn answer(&self, id: u64) -> Result<Answer, Errno> {
        let mut reply = None;
        assert!(
            limit(|| {
                reply = self.motr.replies.try_recv().ok();
                reply.is_some()
            }),
            "no answer"
        );
        let reply = reply.unwrap();
        assert_eq!(reply.id, SpielId(id));
        reply.result
    }

    fn answered(&self, id: u64, op: Op, name: &'static str, says: Says) -> Result<Answer, Errno> {
        self.lab.says(name, says);
        self.call(id, op);
        self.answer(id)
    }

    /// Has the configuration read, with a call from this number on: our own start returns a little later
    /// than it is answered. Returns the call, and the entrypoint request that reading makes.
    fn begin_to_read(&self, from: u64) -> (u64, EntryId) {
        for id in from.. {
            self.call(id, Op::Begin { profile: PROFILE });
            let mut entry = None;
            let asked_or_answered = || {
                if let Ok(Event::Asked(asked)) = self.motr.events.try_recv() {
                    entry = Some(asked.entry);
                }
                entry.is_some() || !self.motr.replies.is_empty()
            };
            assert!(limit(asked_or_answered), "nothing comes of it");
            match entry {
                Some(entry) => return (id, entry),
                None => assert_eq!(self.answer(id), Err(Errno::EAGAIN)),
            }
        }
        unreachable!("there are numbers enough")
    }

    /// The configuration is read; calls go on from 100.
    fn up() -> Self {
        let rig = Self::new();
        let (id, entry) = rig.begin_to_read(1);
        rig.lab.says("rconfc_start", Says::Rc(0));
        rig.reply(entry, Ok(entrypoint()));
        assert_eq!(rig.answer(id), Ok(Answer::Done));
        rig
    }
}

#[test]
fn each_operation_is_its_own_function_of_the_pool() {
    let rig = Rig::up();
    let acts = [
        (Act::Start, ["repair_start", "rebalance_start"]),
        (Act::Pause, ["repair_quiesce", "rebalance_quiesce"]),
        (Act::Resume, ["repair_continue", "rebalance_continue"]),
        (Act::Stop, ["repair_abort", "rebalance_abort"]),
    ];
    let mut id = 100;
    for (act, names) in acts {
        for (sns, name) in [Sns::Repair, Sns::Rebalance].into_iter().zip(names) {
            let op = Op::Sns { pool: POOL, op: SnsOp { sns, act } };
            rig.call(id, op);
            rig.lab.waits(name, key(POOL));
            rig.lab.says(name, Says::Rc(0));
            assert_eq!(rig.answer(id), Ok(Answer::Done));
            assert_eq!(rig.answered(id + 1, op, name, Says::Rc(-16)), Err(Errno::EBUSY));
            id += 2;
        }
    }
    rig.stop();
}

#[test]
fn statuses_are_copied_and_given_back() {
    let rig = Rig::up();
    for (sns, name) in [(Sns::Repair, "repair_status"), (Sns::Rebalance, "rebalance_status")] {
        let op = Op::Sns { pool: POOL, op: SnsOp { sns, act: Act::Status } };
        let status = |key, srs_state| abi::m0_spiel_repreb_status {
            srs_fid: message::c_fid(Fid::service(key)),
            srs_state,
            srs_progress: 7,
        };
        let says = Says::Statuses(vec![status(5, 2), status(6, 4)]);
        let of = |key, state| Status { fid: Fid::service(key), state, progress: 7 };
        let wanted = Ok(Answer::Statuses(vec![of(5, 2), of(6, 4)]));
        assert_eq!(rig.answered(100, op, name, says), wanted);
        let none = Ok(Answer::Statuses(Vec::new()));
        assert_eq!(rig.answered(101, op, name, Says::Statuses(Vec::new())), none);
        assert_eq!(rig.answered(102, op, name, Says::Rc(0)), none);
        assert_eq!(rig.answered(103, op, name, Says::Rc(-110)), Err(Errno::ETIMEDOUT));
    }
    rig.stop();
}

#[test]
fn statistics_are_read_and_given_back() {
    let rig = Rig::up();
    let space = abi::m0_fs_stats {
        fs_free_seg: 1,
        fs_total_seg: 2,
        fs_free_disk: 3,
        fs_avail_disk: 4,
        fs_total_disk: 5,
        fs_svc_total: 6,
        fs_svc_replied: 7,
    };
    let wanted = Filesystem {
        free_seg: 1,
        total_seg: 2,
        free_disk: 3,
        avail_disk: 4,
        total_disk: 5,
        svc_total: 6,
        svc_replied: 7,
    };
    let says = Says::Filesystem(space);
    let answer = rig.answered(100, Op::Filesystem, "filesystem_stats", says);
    assert_eq!(answer, Ok(Answer::Filesystem(Box::new(wanted))));

    let op = Op::Counters { process: PEER };
    let pver = Fid::typed(b'v', 1, 9);
    let counter = |user: u64| {
        let key = abi::m0_spiel_bckey { sbk_fid: message::c_fid(pver), sbk_user_id: user };
        (key, abi::m0_spiel_bcrec { sbr_byte_count: 4096, sbr_object_count: user })
    };
    let of = |user| Counter { pver, user, bytes: 4096, objects: user };
    let says = Says::Counters(vec![counter(1), counter(2)]);
    rig.call(101, op);
    rig.lab.waits("proc_counters", key(PEER));
    rig.lab.says("proc_counters", says);
    assert_eq!(rig.answer(101), Ok(Answer::Counters(vec![of(1), of(2)])));
    let none = Says::Counters(Vec::new());
    assert_eq!(rig.answered(102, op, "proc_counters", none), Ok(Answer::Counters(Vec::new())));
    assert_eq!(rig.answered(103, op, "proc_counters", Says::Rc(-1)), Err(Errno(1)));

    // SAFETY: numbers, which may be zero.
    let mut info: abi::m0_conf_pver_info = unsafe { std::mem::zeroed() };
    (info.cpi_state, info.cpi_attr.pa_N, info.cpi_attr.pa_K) = (2, 4, 1);
    let answer = rig.answered(104, Op::Pver { pver }, "pver_status", Says::Pver(info));
    assert_eq!(answer, Ok(Answer::Pver(Pver { state: 2, data_units: 4, parity_units: 1 })));
    rig.stop();
}

#[test]
fn one_that_hangs_holds_up_nothing_else() {
    let rig = Rig::up();
    let op = |act| Op::Sns { pool: POOL, op: SnsOp { sns: Sns::Repair, act } };
    rig.call(100, op(Act::Start));
    rig.lab.waits("repair_start", key(POOL));
    assert!(rig.answered(101, op(Act::Status), "repair_status", Says::Rc(0)).is_ok());
    rig.link(PEER, 7);
    // A stop waits for it, and then gives the configuration up before the interface is stopped.
    rig.motr.execute(Command::Stop);
    rig.call(102, Op::Filesystem);
    rig.lab.says("repair_start", Says::Rc(0));
    assert_eq!(block_on(rig.motr.ended()), Ended::Stopped);
    rig.lab.finished();
    assert!(rig.motr.replies.is_empty(), "after the stop nobody is told");
}

#[test]
fn a_configuration_that_cannot_be_read_is_tried_again() {
    let rig = Rig::new();
    let (first, entry) = rig.begin_to_read(1);
    rig.lab.says("rconfc_start", Says::Rc(-110));
    rig.reply(entry, Ok(entrypoint()));
    assert_eq!(rig.answer(first), Err(Errno::ETIMEDOUT));
    // And a stop ends one that waits for its entrypoint.
    rig.begin_to_read(first + 1);
    rig.stop();
}
