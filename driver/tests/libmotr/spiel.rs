//! Tests of commands to the cluster with the fake library. The fake detects memory that is not freed or is
//! freed twice, and calls that are too early, too late or not allowed.
#![expect(unsafe_code, reason = "C's structs of zeros")]

use futures_lite::future::block_on;
use hax_core::base::errno::Errno;
use hax_core::base::fid::Fid;
use hax_core::base::id::{SendId, SpielId};
use hax_core::base::time::WallClock;
use hax_core::ha::message::{Body, Message};
use hax_core::ha::motr::{Command, Event};
use hax_core::ha::note::{Note, Nvec, NvecKind, ObjectState};
use hax_core::ha::spiel::{Act, Answer, Call, Counter, Filesystem, Op, Pver, Sns, SnsOp, Status};
use hax_driver::libmotr::{self, StopOutcome};
use motr_sys::abi;
use motr_sys::fake::{FakeLibrary, Says};

use crate::rig::{OWN, PEER, Rig, entrypoint, key, limit, message};

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
                reply = self.motr.replies().try_recv().ok();
                reply.is_some()
            }),
            "no answer"
        );
        let reply = reply.expect("an answer");
        assert_eq!(reply.id, SpielId(id));
        reply.result
    }

    fn answered(&self, id: u64, op: Op, name: &'static str, says: Says) -> Result<Answer, Errno> {
        self.library.says(name, says);
        self.call(id, op);
        self.answer(id)
    }

    /// Has the library read the configuration, which requests an entrypoint and then states.
    fn read(&self, id: u64) {
        self.call(id, Op::Begin { profile: PROFILE });
        self.is_reading();
    }

    /// Answers the requests of an earlier call to read the configuration, and waits for its end.
    fn is_read(&self, id: u64) {
        self.is_reading();
        assert_eq!(self.answer(id), Ok(Answer::Done));
    }

    fn is_reading(&self) {
        let entry = self.asked(OWN, false);
        self.reply(entry, Ok(entrypoint()));
        assert!(matches!(self.event(), Event::LinkReused { .. }));
        let Event::Received { link, msg, message } = self.event() else { panic!("no question") };
        let Body::Nvec(mut nvec) = message.body else { panic!("another question") };
        assert_eq!(nvec.kind, NvecKind::Get);
        nvec.kind = NvecKind::Set;
        nvec.notes.iter_mut().for_each(|note| note.state = ObjectState::Online);
        self.send(0, &[link], Message::new(WallClock(1), Body::Nvec(nvec)));
        assert_eq!(self.event(), Event::Delivered { link, send: SendId(0) });
        self.motr.execute(Command::Ack { link, msg });
    }

    /// Returns a rig with the configuration read.
    fn up() -> Self {
        let rig = Self::new();
        rig.library.says("rconfc_start", Says::Rc(0));
        rig.read(1);
        assert_eq!(rig.answer(1), Ok(Answer::Done));
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
            rig.library.waits(name, key(POOL));
            rig.library.says(name, Says::Rc(0));
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
            srs_fid: libmotr::message::c_fid(Fid::service(key)),
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
        let key = abi::m0_spiel_bckey { sbk_fid: libmotr::message::c_fid(pver), sbk_user_id: user };
        (key, abi::m0_spiel_bcrec { sbr_byte_count: 4096, sbr_object_count: user })
    };
    let of = |user| Counter { pver, user, bytes: 4096, objects: user };
    let says = Says::Counters(vec![counter(1), counter(2)]);
    rig.call(101, op);
    rig.library.waits("proc_counters", key(PEER));
    rig.library.says("proc_counters", says);
    assert_eq!(rig.answer(101), Ok(Answer::Counters(vec![of(1), of(2)])));
    let none = Says::Counters(Vec::new());
    assert_eq!(rig.answered(102, op, "proc_counters", none), Ok(Answer::Counters(Vec::new())));
    assert_eq!(rig.answered(103, op, "proc_counters", Says::Rc(-1)), Err(Errno(1)));

    // SAFETY: the struct has only numbers, which may be zero.
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
    rig.library.waits("repair_start", key(POOL));
    assert!(rig.answered(101, op(Act::Status), "repair_status", Says::Rc(0)).is_ok());
    rig.link(PEER, 7);
    // A stop waits for the call, and then releases the configuration before the interface is stopped.
    rig.motr.execute(Command::Stop);
    rig.call(102, Op::Filesystem);
    rig.library.says("repair_start", Says::Rc(0));
    assert_eq!(block_on(rig.motr.ended()), StopOutcome::Stopped);
    rig.library.finished();
    assert!(rig.motr.replies().is_empty(), "after the stop nobody is told");
}

#[test]
fn a_configuration_that_cannot_be_read_is_tried_again() {
    let rig = Rig::new();
    rig.library.says("rconfc_start", Says::Rc(-110));
    rig.read(1);
    assert_eq!(rig.answer(1), Err(Errno::ETIMEDOUT));
    rig.library.says("rconfc_start", Says::Rc(0));
    rig.read(2);
    assert_eq!(rig.answer(2), Ok(Answer::Done));
    rig.stop();
}

#[test]
fn the_configuration_is_read_once_the_library_has_started() {
    let rig = Rig::begin(FakeLibrary::new());
    rig.library.says("rconfc_start", Says::Rc(0));
    rig.call(1, Op::Begin { profile: PROFILE });
    let entry = rig.asked(OWN, true);
    rig.reply(entry, Ok(entrypoint()));
    assert!(matches!(rig.event(), Event::LinkUp { process: OWN, .. }));
    rig.is_read(1);
    rig.stop();
}

/// The library would disconnect a living process, and would abort at the status of a pool with a service that
/// is not online.
#[test]
fn the_library_does_not_hear_from_the_bridge_that_what_runs_has_failed() {
    let rig = Rig::begin(FakeLibrary::new());
    let entry = rig.asked(OWN, true);
    rig.reply(entry, Ok(entrypoint()));
    let Event::LinkUp { link: own, .. } = rig.event() else { panic!("no link to ourselves") };
    let (link, peer) = rig.link(PEER, 7);
    let heard = libmotr::message::read(&rig.library.sent(rig.library.own_link()));
    let ends = Body::Nvec(Box::new(Nvec {
        kind: NvecKind::Set,
        id_of_get: 0,
        ignore_same_state: 0,
        notes: [ObjectState::Transient, ObjectState::Failed]
            .map(|state| Note { fid: PEER, state })
            .into(),
    }));
    assert_eq!(heard.body, ends, "a life has begun, though none of ours has ended");
    // Processes and services are always reported online; a device is reported with its state.
    let device = |state| match state {
        ObjectState::DtmRecovering => ObjectState::Online,
        state => state,
    };
    for state in [ObjectState::Online, ObjectState::DtmRecovering, ObjectState::Failed] {
        let notes = [PEER, Fid::service(9), Fid::typed(b'd', 1, 7)].map(|fid| Note { fid, state });
        let kind = NvecKind::Set;
        let nvec = Nvec { kind, id_of_get: 0, ignore_same_state: 1, notes: notes.into() };
        rig.send(1, &[own, link], message(Body::Nvec(Box::new(nvec))));
        let told = |link| match libmotr::message::read(&rig.library.sent(link)).body {
            Body::Nvec(nvec) => nvec.notes.iter().map(|note| note.state).collect(),
            body => panic!("{body:?} instead of states"),
        };
        let (told, heard): (Vec<_>, Vec<_>) = (told(rig.library.own_link()), told(peer));
        assert_eq!(heard, [state; 3]);
        assert_eq!(told, [ObjectState::Online, ObjectState::Online, device(state)]);
    }
    rig.stop();
}
