//! Commands to the cluster. Like the real ones, each waits until the script sets its result.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use super::library::Link;
use super::state::{Asked, Phase, Ptr, state, wait};
use crate::abi;
use crate::table::{Spiel, message};

type SpielPtr = *mut abi::m0_spiel;
type Fid = *const abi::m0_fid;

const EINVAL: c_int = 22;
const ESHUTDOWN: c_int = 108;
const ENOKEY: c_int = 126;

pub(super) const SPIEL: Spiel = Spiel {
    rconfc_start,
    rconfc_stop,
    cmd_profile_set,
    repair_start: on_pool::<0>,
    repair_continue: on_pool::<1>,
    repair_quiesce: on_pool::<2>,
    repair_abort: on_pool::<3>,
    repair_status: status::<0>,
    rebalance_start: on_pool::<4>,
    rebalance_continue: on_pool::<5>,
    rebalance_quiesce: on_pool::<6>,
    rebalance_abort: on_pool::<7>,
    rebalance_status: status::<1>,
    filesystem_stats,
    count_stats_init,
    count_stats_fini,
    proc_counters,
    pver_status,
    free,
};

/// The names of the functions that share one implementation here.
const ON_POOL: [&str; 8] = [
    "repair_start",
    "repair_continue",
    "repair_quiesce",
    "repair_abort",
    "rebalance_start",
    "rebalance_continue",
    "rebalance_quiesce",
    "rebalance_abort",
];
const STATUS: [&str; 2] = ["repair_status", "rebalance_status"];

/// The result of a command.
#[derive(Clone, Debug)]
pub enum Says {
    /// 0, or a negative errno.
    Rc(i32),
    /// A status: the progress of each service.
    Statuses(Vec<abi::m0_spiel_repreb_status>),
    /// The space of the filesystem.
    Filesystem(abi::m0_fs_stats),
    /// The usage by pool version and user: bytes and objects.
    Counters(Vec<(abi::m0_spiel_bckey, abi::m0_spiel_bcrec)>),
    /// The state of a pool version.
    Pver(abi::m0_conf_pver_info),
}

/// The fake's state of commands.
#[derive(Default)]
pub(super) struct State {
    profile: bool,
    /// The configuration is being read, or is read.
    begun: bool,
    up: bool,
    /// The commands that wait for their result.
    pub(super) waiting: Vec<(&'static str, (u64, u64))>,
    pub(super) says: BTreeMap<&'static str, VecDeque<Says>>,
    /// The errno with which every command is refused at once.
    pub(super) refused: Option<i32>,
    /// The results that the user has to free, by their address.
    arrays: BTreeMap<usize, Ptr<[abi::m0_spiel_repreb_status]>>,
    counters: BTreeMap<usize, Ptr<abi::m0_proc_counter>>,
}

impl State {
    /// Returns the error of stopping the interface now.
    pub(super) fn unfit_to_stop(&self) -> Option<&'static str> {
        self.begun.then_some("stop before rconfc_stop")
    }

    /// Returns the error of results that were not freed.
    pub(super) fn leak(&self) -> Option<String> {
        let left = self.arrays.len() + self.counters.len();
        (left > 0).then(|| format!("fini with {left} results that were not freed"))
    }
}

/// # Safety
///
/// The contract of the library's function of this name; this holds for all functions below.
pub(super) unsafe extern "C" fn handle(hi: *mut abi::m0_halon_interface) -> SpielPtr {
    let state = state();
    let works = state.phase == Phase::Working && state.hi.is_some_and(|own| own.0 == hi);
    // The pointer is only compared, never dereferenced.
    if works && state.open { hi.cast() } else { ptr::null_mut() }
}

unsafe extern "C" fn cmd_profile_set(spiel: SpielPtr, profile: *const c_char) -> c_int {
    // SAFETY: the pointer is a text of the caller.
    let text = unsafe { CStr::from_ptr(profile) }.to_string_lossy();
    let hex = |half: &str| u64::from_str_radix(half.trim_start_matches("0x"), 16).ok();
    let text = text.trim_start_matches('<').trim_end_matches('>');
    let fid = text.split_once(':').and_then(|(a, b)| Some((hex(a)?, hex(b)?)));
    if !may_call(spiel, "cmd_profile_set") || fid.is_none() {
        return -EINVAL;
    }
    state().spiel.profile = true;
    0
}

/// Reads the configuration. It requests its own entrypoint until the reply is successful. Then it asks for
/// the states of the confds over the link to ourselves.
unsafe extern "C" fn rconfc_start(spiel: SpielPtr, _expired: abi::hax_rconfc_cb) -> c_int {
    if !may_call(spiel, "rconfc_start") {
        return -EINVAL;
    }
    {
        let mut state = state();
        if !state.spiel.profile || state.spiel.begun {
            state.wrong("rconfc_start without a profile, or twice");
            return -EINVAL;
        }
        if let Some(errno) = state.spiel.refused {
            return -errno;
        }
        state.spiel.begun = true;
    }
    let rc = loop {
        let request = {
            let mut state = state();
            let Some(own) = state.own else { break -EINVAL };
            state.ask(own, c"inet:tcp:127.0.0.1@1".into(), false)
        };
        let replied =
            |asked: &Asked| asked.reply.as_ref().map(|reply| (reply.rc, reply.confds.is_empty()));
        match wait(|state| state.requests.get(&request).and_then(replied)) {
            Some((0, false)) if !ask_states() => break -ESHUTDOWN,
            Some((0, false)) => break rc_of(says("rconfc_start", (0, 0))),
            Some((0, true)) => {
                // The assertion in `rconfc_load_fini` fails for a configuration that was never read (11 of
                // 13).
                state().wrong("an empty entrypoint for who reads the configuration");
                break -ENOKEY;
            }
            Some(_) => {}
            None => break -ESHUTDOWN,
        }
    };
    let mut state = state();
    (state.spiel.begun, state.spiel.up) = (rc == 0, rc == 0);
    rc
}

/// Asks for states; returns whether the question is answered.
fn ask_states() -> bool {
    const ID: u64 = 4711;
    let mut question = message();
    question.hm_data.hed_type = u64::from(abi::M0_HA_MSG_NVEC);
    // SAFETY: the type was set above; the question is all zeros.
    let nvec = unsafe { &mut question.hm_data.u.hed_nvec };
    (nvec.hmnv_type, nvec.hmnv_id_of_get, nvec.hmnv_nr) = (1, ID, 1);
    let own = {
        let mut state = state();
        let own = state.links.iter().find(|(_, link)| Some(link.life) == state.own);
        let Some(own) = own.map(|(id, _)| *id) else { return false };
        state.receive(Link(own), question);
        own
    };
    let is_answer = |message: &abi::m0_ha_msg| {
        // SAFETY: the union is read only if the type matches.
        message.hm_data.hed_type == u64::from(abi::M0_HA_MSG_NVEC)
            && unsafe { &message.hm_data.u.hed_nvec }.hmnv_id_of_get == ID
    };
    wait(|state| {
        let sent = &mut state.links.get_mut(&own)?.sent;
        let place = sent.iter().position(|message| is_answer(message))?;
        sent.remove(place)
    })
    .is_some()
}

unsafe extern "C" fn rconfc_stop(spiel: SpielPtr) {
    if !may_call(spiel, "rconfc_stop") {
        return;
    }
    let mut state = state();
    if !state.spiel.up {
        state.wrong("rconfc_stop without rconfc_start");
    }
    if !state.spiel.waiting.is_empty() {
        state.wrong("rconfc_stop while a command is at work");
    }
    (state.spiel.begun, state.spiel.up) = (false, false);
}

unsafe extern "C" fn on_pool<const NAME: usize>(spiel: SpielPtr, pool: Fid) -> c_int {
    // SAFETY: the pointer is a fid of the caller.
    rc_of(unsafe { command(spiel, ON_POOL[NAME], pool) })
}

unsafe extern "C" fn status<const NAME: usize>(
    spiel: SpielPtr,
    pool: Fid,
    statuses: *mut *mut abi::m0_spiel_repreb_status,
) -> c_int {
    // SAFETY: the pointer is a fid of the caller.
    match unsafe { command(spiel, STATUS[NAME], pool) } {
        Says::Statuses(list) => {
            let n = c_int::try_from(list.len()).unwrap_or(c_int::MAX);
            let array = Box::into_raw(list.into_boxed_slice());
            state().spiel.arrays.insert(array.addr(), Ptr(array));
            // SAFETY: the pointer is the caller's variable.
            unsafe { statuses.write(array.cast()) };
            n
        }
        says => rc_of(says),
    }
}

unsafe extern "C" fn filesystem_stats(spiel: SpielPtr, stats: *mut abi::m0_fs_stats) -> c_int {
    // SAFETY: the fid is null.
    match unsafe { command(spiel, "filesystem_stats", ptr::null()) } {
        Says::Filesystem(space) => {
            // SAFETY: the pointer is the caller's variable.
            unsafe { stats.write(space) };
            0
        }
        says => rc_of(says),
    }
}

unsafe extern "C" fn count_stats_init(stats: *mut *mut abi::m0_proc_counter) -> c_int {
    // SAFETY: the pointer is the caller's variable.
    if !unsafe { stats.read() }.is_null() {
        state().wrong("count_stats_init of what is initialised");
        return -EINVAL;
    }
    let none = abi::m0_proc_counter {
        pc_rc: 0,
        pc_cnt: 0,
        pc_proc_fid: abi::m0_fid { f_container: 0, f_key: 0 },
        pc_bckey: ptr::null_mut(),
        pc_bcrec: ptr::null_mut(),
    };
    let counter = Box::into_raw(Box::new(none));
    state().spiel.counters.insert(counter.addr(), Ptr(counter));
    // SAFETY: the pointer is the caller's variable.
    unsafe { stats.write(counter) };
    0
}

unsafe extern "C" fn proc_counters(
    spiel: SpielPtr,
    process: *mut abi::m0_fid,
    stats: *mut abi::m0_proc_counter,
) -> c_int {
    if !state().spiel.counters.contains_key(&stats.addr()) {
        state().wrong("proc_counters without count_stats_init");
        return -EINVAL;
    }
    // SAFETY: the pointer is a fid of the caller.
    match unsafe { command(spiel, "proc_counters", process) } {
        Says::Counters(list) => {
            let (keys, records): (Vec<_>, Vec<_>) = list.into_iter().unzip();
            // SAFETY: it is the fake's own, and not freed; see `count_stats_fini` for the arrays.
            unsafe {
                (*stats).pc_cnt = u32::try_from(keys.len()).unwrap_or(0);
                (*stats).pc_bckey = each_boxed(keys);
                (*stats).pc_bcrec = each_boxed(records);
            }
            0
        }
        says => rc_of(says),
    }
}

unsafe extern "C" fn count_stats_fini(stats: *mut abi::m0_proc_counter) {
    let mut state = state();
    if state.spiel.counters.remove(&stats.addr()).is_none() {
        state.wrong("count_stats_fini of what is not initialised, or any more");
        return;
    }
    // SAFETY: these are the box of `count_stats_init` and the arrays that `proc_counters` put in it; they
    // have just been taken out of the state.
    unsafe {
        let counter = Box::from_raw(stats);
        free_boxed(counter.pc_bckey, counter.pc_cnt);
        free_boxed(counter.pc_bcrec, counter.pc_cnt);
    }
}

unsafe extern "C" fn pver_status(
    spiel: SpielPtr,
    pver: *mut abi::m0_fid,
    info: *mut abi::m0_conf_pver_info,
) -> c_int {
    // SAFETY: the pointer is a fid of the caller.
    match unsafe { command(spiel, "pver_status", pver) } {
        Says::Pver(pver) => {
            // SAFETY: the pointer is the caller's variable.
            unsafe { info.write(pver) };
            0
        }
        says => rc_of(says),
    }
}

unsafe extern "C" fn free(data: *mut c_void) {
    let mut state = state();
    let array = state.spiel.arrays.remove(&data.addr());
    match array {
        Some(array) => {
            // SAFETY: this is the box of `status`; it has just been taken out of the state.
            let mut array = unsafe { Box::from_raw(array.0) };
            // A later read sees invalid values.
            array.iter_mut().for_each(|status| status.srs_state = u32::MAX);
        }
        None if data.is_null() => {}
        None => state.wrong("m0_free of what the library did not give, or twice"),
    }
}

fn each_boxed<T>(list: Vec<T>) -> *mut *mut T {
    let each: Box<[*mut T]> = list.into_iter().map(|one| Box::into_raw(Box::new(one))).collect();
    Box::into_raw(each).cast()
}

/// # Safety
///
/// The array was made by [`each_boxed`] with `n` elements, or is null with 0.
unsafe fn free_boxed<T>(list: *mut *mut T, n: u32) {
    if list.is_null() {
        return;
    }
    // SAFETY: guaranteed by the caller.
    unsafe {
        let all = Box::from_raw(ptr::slice_from_raw_parts_mut(list, n as usize));
        all.iter().for_each(|one| drop(Box::from_raw(*one)));
    }
}

fn rc_of(says: Says) -> c_int {
    match says {
        Says::Rc(rc) => rc,
        other => {
            state().wrong(format!("the script says {other:?} to another function"));
            -EINVAL
        }
    }
}

/// Returns whether this thread may call a function with this handle.
fn may_call(spiel: SpielPtr, name: &str) -> bool {
    let mut state = state();
    let works = matches!(state.phase, Phase::Working | Phase::Stopping);
    let known = state.hi.is_some_and(|hi| hi.0.cast() == spiel);
    if !(works && known && state.open) {
        state.wrong(format!("{name} on an interface that is not started"));
        return false;
    }
    let here = std::thread::current().id();
    if state.locality.as_ref().is_some_and(|locality| locality.thread().id() == here) {
        state.wrong(format!("{name} inside a callback: it blocks"));
        return false;
    }
    true
}

/// # Safety
///
/// The fid can be read, or is null.
unsafe fn command(spiel: SpielPtr, name: &'static str, fid: Fid) -> Says {
    // SAFETY: guaranteed by the caller.
    let fid = unsafe { fid.as_ref() }.map_or((0, 0), |fid| (fid.f_container, fid.f_key));
    if !may_call(spiel, name) {
        return Says::Rc(-EINVAL);
    }
    if !state().spiel.up {
        state().wrong(format!("{name} before rconfc_start, or after rconfc_stop"));
        return Says::Rc(-EINVAL);
    }
    says(name, fid)
}

/// Waits for the result from the script.
fn says(name: &'static str, fid: (u64, u64)) -> Says {
    state().spiel.waiting.push((name, fid));
    let said = wait(|state| state.spiel.says.get_mut(name)?.pop_front());
    let waiting = &mut state().spiel.waiting;
    if let Some(place) = waiting.iter().position(|other| *other == (name, fid)) {
        waiting.remove(place);
    }
    said.unwrap_or(Says::Rc(-ESHUTDOWN))
}
