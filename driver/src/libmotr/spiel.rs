//! Commands to the cluster (`spiel/spiel.h`). Each one blocks while a service does not respond, so it has a
//! thread of its own. The bridge bounds their number. The threads are joined before the configuration is
//! released, and the configuration is released before the interface is stopped.
#![expect(unsafe_code, reason = "the library is C")]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::thread::{self, JoinHandle};
use std::{mem, ptr, slice};

use async_channel::Sender;
use hax_core::base::errno::Errno;
use hax_core::base::fid::Fid;
use hax_core::base::id::SpielId;
use hax_core::ha::spiel::{
    Act, Answer, Call, Counter, Filesystem, Op, Pver, Reply, Sns, SnsOp, Status,
};
use motr_sys::{Ha, abi};

use super::message::{c_fid, fid};
use super::work::{self, Done, Handle, Work};

/// The worker's state of commands.
pub(super) struct Spiel {
    ha: Ha,
    hi: Handle<abi::m0_halon_interface>,
    library: motr_sys::Spiel,
    queue: Sender<Work>,
    /// The interface is started.
    started: bool,
    /// The first call, if it waits for the start.
    held: Option<Call>,
    /// The library reads the configuration, or has read it.
    session: Option<Session>,
    /// The call that has the configuration read.
    beginning: Option<SpielId>,
    /// The threads that are inside the library.
    threads: BTreeMap<u64, JoinHandle<()>>,
    next: u64,
}

/// The library's handle for commands, while the interface is started.
#[derive(Clone, Copy)]
struct Session {
    library: motr_sys::Spiel,
    spiel: Handle<abi::m0_spiel>,
}

impl Spiel {
    pub(super) fn new(
        ha: Ha,
        library: motr_sys::Spiel,
        hi: Handle<abi::m0_halon_interface>,
        queue: Sender<Work>,
    ) -> Self {
        Self {
            ha,
            hi,
            library,
            queue,
            started: false,
            held: None,
            session: None,
            beginning: None,
            threads: BTreeMap::new(),
            next: 0,
        }
    }

    /// Starts a call; its result is put in the queue.
    pub(super) fn call(&mut self, Call { id, op }: Call) {
        if let Op::Begin { .. } = op {
            assert!(self.session.is_none(), "the configuration is read twice");
            if !self.started {
                self.held = Some(Call { id, op });
                return;
            }
            // SAFETY: the interface is started; if it stops meanwhile, the handle is null.
            let spiel = Handle(unsafe { (self.ha.spiel)(self.hi.0) });
            let library = self.library;
            self.session = (!spiel.0.is_null()).then_some(Session { library, spiel });
            self.beginning = Some(id);
        }
        let run = move |session: Session| Reply { id, result: session.run(op) };
        let begun = self.session.is_some_and(|session| self.inside(move || Some(run(session))));
        if !begun {
            let reply = Some(Reply { id, result: Err(Errno::EAGAIN) });
            work::put(&self.queue, Work::Done(Done { thread: None, reply }));
        }
    }

    /// Records that the interface is started, so there is a handle, and starts the waiting call.
    pub(super) fn started(&mut self) {
        self.started = true;
        if let Some(call) = self.held.take() {
            self.call(call);
        }
    }

    /// Handles the end of a call; returns the reply to the bridge.
    pub(super) fn done(&mut self, Done { thread, reply }: Done) -> Option<Reply> {
        if let Some(thread) = thread.and_then(|thread| self.threads.remove(&thread)) {
            // A thread that panicked does not send this message, so there is no result to check.
            let _ = thread.join();
        }
        if let Some(Reply { id, result }) = &reply
            && self.beginning.take_if(|beginning| beginning == id).is_some()
            && result.is_err()
        {
            // A configuration that could not be read must not be released.
            self.session = None;
        }
        reply
    }

    /// Returns whether the library is reading the configuration: then our own entrypoint requests belong to
    /// that.
    pub(super) fn is_reading(&self) -> bool {
        self.beginning.is_some() && self.session.is_some()
    }

    /// Releases the configuration once no thread is inside the library; returns true if there is none any
    /// more.
    pub(super) fn is_over(&mut self) -> bool {
        if self.threads.is_empty()
            && let Some(session) = self.session.take()
        {
            let end = move || {
                session.end();
                None
            };
            if !self.inside(end) {
                session.end();
            }
        }
        self.threads.is_empty()
    }

    /// Runs `work` on a thread of its own; returns false if no thread can be started.
    fn inside(&mut self, work: impl FnOnce() -> Option<Reply> + Send + 'static) -> bool {
        let (queue, n) = (self.queue.clone(), self.next);
        self.next += 1;
        let inside = thread::Builder::new().name("motr-spiel".into()).spawn(move || {
            let done = Done { thread: Some(n), reply: work() };
            work::put(&queue, Work::Done(done));
        });
        inside.map(|inside| self.threads.insert(n, inside)).is_ok()
    }
}

impl Session {
    /// Executes a command, for as long as it takes.
    fn run(&self, op: Op) -> Result<Answer, Errno> {
        match op {
            Op::Begin { profile } => self.begin(profile),
            Op::Sns { pool, op } if op.is_status() => self.status(pool, op.sns),
            Op::Sns { pool, op } => self.operate(pool, op),
            Op::Filesystem => self.filesystem(),
            Op::Counters { process } => self.counters(process),
            Op::Pver { pver } => self.pver(pver),
        }
    }

    fn begin(&self, profile: Fid) -> Result<Answer, Errno> {
        let profile = CString::new(profile.to_string()).unwrap_or_default();
        // SAFETY: the interface is started, and not stopped before this thread is joined; the text lives
        // until the function returns, which reads it.
        rc(unsafe { (self.library.cmd_profile_set)(self.spiel.0, profile.as_ptr()) })?;
        // SAFETY: as above; the configuration is not being read, since the worker has one session at a time.
        // There is no callback for its expiry.
        rc(unsafe { (self.library.rconfc_start)(self.spiel.0, None) })?;
        Ok(Answer::Done)
    }

    fn end(&self) {
        // SAFETY: it was started: the worker drops a session whose start fails. No command is running: their
        // threads have been joined, and there are no new ones.
        unsafe { (self.library.rconfc_stop)(self.spiel.0) };
    }

    fn operate(&self, pool: Fid, SnsOp { sns, act }: SnsOp) -> Result<Answer, Errno> {
        let library = &self.library;
        let function = match (sns, act) {
            (Sns::Repair, Act::Start) => library.repair_start,
            (Sns::Repair, Act::Pause) => library.repair_quiesce,
            (Sns::Repair, Act::Resume) => library.repair_continue,
            (Sns::Repair, Act::Stop) => library.repair_abort,
            (Sns::Rebalance, Act::Start) => library.rebalance_start,
            (Sns::Rebalance, Act::Pause) => library.rebalance_quiesce,
            (Sns::Rebalance, Act::Resume) => library.rebalance_continue,
            (Sns::Rebalance, Act::Stop) => library.rebalance_abort,
            (_, Act::Status) => return self.status(pool, sns),
        };
        let pool = c_fid(pool);
        // SAFETY: the configuration is read: the bridge sends no command before. The fid lives until the
        // function returns.
        rc(unsafe { function(self.spiel.0, &raw const pool) })?;
        Ok(Answer::Done)
    }

    fn status(&self, pool: Fid, sns: Sns) -> Result<Answer, Errno> {
        let function = match sns {
            Sns::Repair => self.library.repair_status,
            Sns::Rebalance => self.library.rebalance_status,
        };
        let pool = c_fid(pool);
        let mut statuses = ptr::null_mut();
        // SAFETY: as in `operate`; the variable is ours, and null: it is written only with an array.
        let n = unsafe { function(self.spiel.0, &raw const pool, &raw mut statuses) };
        rc(n.min(0))?;
        if statuses.is_null() {
            return Ok(Answer::Statuses(Vec::new()));
        }
        // SAFETY: the function returned the number of elements it has written; they are ours until they are
        // freed.
        let list = unsafe { slice::from_raw_parts(statuses, usize::try_from(n).unwrap_or(0)) };
        let status = |status: &abi::m0_spiel_repreb_status| {
            let abi::m0_spiel_repreb_status { srs_fid, srs_state, srs_progress } = *status;
            Status { fid: fid(srs_fid), state: srs_state, progress: srs_progress }
        };
        let list = list.iter().map(status).collect();
        // SAFETY: this frees the library's own array once: it is not read after this.
        unsafe { (self.library.free)(statuses.cast()) };
        Ok(Answer::Statuses(list))
    }

    fn filesystem(&self) -> Result<Answer, Errno> {
        // SAFETY: the struct has only numbers, which may be zero.
        let mut stats: abi::m0_fs_stats = unsafe { mem::zeroed() };
        // SAFETY: as in `operate`; the variable is ours.
        rc(unsafe { (self.library.filesystem_stats)(self.spiel.0, &raw mut stats) })?;
        Ok(Answer::Filesystem(Box::new(Filesystem {
            free_seg: stats.fs_free_seg,
            total_seg: stats.fs_total_seg,
            free_disk: stats.fs_free_disk,
            avail_disk: stats.fs_avail_disk,
            total_disk: stats.fs_total_disk,
            svc_total: stats.fs_svc_total,
            svc_replied: stats.fs_svc_replied,
        })))
    }

    fn counters(&self, process: Fid) -> Result<Answer, Errno> {
        let mut process = c_fid(process);
        let mut stats = ptr::null_mut();
        // SAFETY: the pointer is null, as required; it is set to the library's own memory.
        rc(unsafe { (self.library.count_stats_init)(&raw mut stats) })?;
        // SAFETY: as in `operate`; `stats` is from the function before, and freed below.
        let n = unsafe { (self.library.proc_counters)(self.spiel.0, &raw mut process, stats) };
        if n == -ENOMEM {
            // The library may have freed a part of what `fini` would free again, so the rest is leaked.
            return Err(Errno(ENOMEM));
        }
        let counters = rc(n).map(|()| {
            // SAFETY: it returned 0, so both arrays have `pc_cnt` elements, each of them a pointer to a value
            // of its type; they are ours until `count_stats_fini`. An array without elements may be null.
            unsafe {
                let abi::m0_proc_counter { pc_cnt, pc_bckey, pc_bcrec, .. } = *stats;
                (0..pc_cnt as usize)
                    .map(|i| {
                        let (key, record) = (**pc_bckey.add(i), **pc_bcrec.add(i));
                        Counter {
                            pver: fid(key.sbk_fid),
                            user: key.sbk_user_id,
                            bytes: record.sbr_byte_count,
                            objects: record.sbr_object_count,
                        }
                    })
                    .collect()
            }
        });
        // SAFETY: this frees the result of `count_stats_init` once: it is not read after this.
        unsafe { (self.library.count_stats_fini)(stats) };
        counters.map(Answer::Counters)
    }

    fn pver(&self, pver: Fid) -> Result<Answer, Errno> {
        let mut pver = c_fid(pver);
        // SAFETY: the struct has only numbers, which may be zero.
        let mut info: abi::m0_conf_pver_info = unsafe { mem::zeroed() };
        // SAFETY: as in `operate`; both variables are ours.
        rc(unsafe { (self.library.pver_status)(self.spiel.0, &raw mut pver, &raw mut info) })?;
        Ok(Answer::Pver(Pver {
            state: info.cpi_state,
            data_units: info.cpi_attr.pa_N,
            parity_units: info.cpi_attr.pa_K,
        }))
    }
}

/// Out of memory (`errno(3)`).
const ENOMEM: i32 = 12;

/// Converts a function's return value: 0, or a negative errno.
fn rc(rc: i32) -> Result<(), Errno> {
    if rc == 0 { Ok(()) } else { Err(Errno(rc.saturating_neg())) }
}
