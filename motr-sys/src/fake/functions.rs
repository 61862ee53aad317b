//! The library's functions. A call on which the library would abort is recorded, and has no effect.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

use super::library::{Reply, Request, Started};
use super::links::{Life, Up, free_link};
use super::locality::{self, Call, Callbacks};
use super::state::{Asked, Phase, Ptr, state, wait};
use crate::abi;
use crate::table::{Ha, message};

type Hi = *mut abi::m0_halon_interface;
type LinkPtr = *mut abi::m0_ha_link;

const EINVAL: c_int = 22;
const ETIMEDOUT: c_int = 110;

pub(super) const HA: Ha = Ha {
    init,
    fini,
    start,
    stop,
    entrypoint_reply,
    send,
    delivered,
    disconnect,
    thread_adopt,
    thread_shun,
    spiel: super::spiel::handle,
    build_info,
};

fn key(fid: &abi::m0_fid) -> (u64, u64) {
    (fid.f_container, fid.f_key)
}

/// # Safety
///
/// The contract of the library's function of this name; this holds for all functions below.
unsafe extern "C" fn init(
    hi_out: *mut Hi,
    _git_rev_id: *const c_char,
    _configure_opts: *const c_char,
    debug_options: *const c_char,
    _node_uuid: *const c_char,
) -> c_int {
    let mut state = state();
    if state.phase != Phase::Off {
        state.wrong("init while there is an interface");
        return -EINVAL;
    }
    // SAFETY: the pointer is a text of the caller, or null.
    let options = (!debug_options.is_null()).then(|| unsafe { CStr::from_ptr(debug_options) });
    let options = options.map(CStr::to_string_lossy).unwrap_or_default();
    // The caller cannot have been compiled against the fake's revision.
    if !options.contains("disable-compatibility-check") {
        return -EINVAL;
    }
    state.phase = Phase::Initialised;
    state.main = Some(std::thread::current().id());
    let hi = Box::into_raw(Box::new(0_u64)).cast();
    state.hi = Some(Ptr(hi));
    // SAFETY: the pointer is the caller's variable.
    unsafe { hi_out.write(hi) };
    0
}

unsafe extern "C" fn fini(hi: Hi) {
    let mut state = state();
    state.on_main("fini");
    if state.phase != Phase::Initialised {
        state.wrong("fini of an interface that is not stopped");
        return;
    }
    if !state.adopted.is_empty() {
        state.wrong("fini while a thread is adopted: it ended, or goes on, without shun");
    }
    if let Some(leak) = state.spiel.leak() {
        state.wrong(leak);
    }
    if state.hi.take().is_none_or(|own| own.0 != hi) {
        state.wrong("fini of an interface that does not exist");
        return;
    }
    // SAFETY: this is the box of `init`; it has just been taken out of the state.
    drop(unsafe { Box::from_raw(hi.cast::<u64>()) });
    state.phase = Phase::Off;
    state.main = None;
}

unsafe extern "C" fn start(
    hi: Hi,
    endpoint: *const c_char,
    process: *const abi::m0_fid,
    ha_service: *const abi::m0_fid,
    rm_service: *const abi::m0_fid,
    entrypoint_request: abi::hax_entrypoint_request_cb,
    msg_received: abi::hax_msg_received_cb,
    msg_is_delivered: abi::hax_msg_settled_cb,
    msg_is_not_delivered: abi::hax_msg_settled_cb,
    link_connected: abi::hax_link_made_cb,
    link_reused: abi::hax_link_made_cb,
    link_absent: abi::hax_link_absent_cb,
    link_is_disconnecting: abi::hax_link_gone_cb,
    link_disconnected: abi::hax_link_gone_cb,
) -> c_int {
    // SAFETY: the pointers are fids and a text of the caller.
    let (process, ha_service, rm_service, endpoint) = unsafe {
        let endpoint = CStr::from_ptr(endpoint).to_owned();
        (key(&*process), key(&*ha_service), key(&*rm_service), endpoint)
    };
    let own: Life = (process, u64::from(std::process::id()));
    {
        let mut state = state();
        state.on_main("start");
        if state.phase != Phase::Initialised || state.hi.is_none_or(|own| own.0 != hi) {
            state.wrong("start of an interface that is not initialised");
            return -EINVAL;
        }
        if let Some(errno) = state.refuse_start.take() {
            return -errno;
        }
        state.callbacks = Some(Callbacks {
            entrypoint_request,
            msg_received,
            msg_is_delivered,
            msg_is_not_delivered,
            link_connected,
            link_reused,
            link_absent,
            link_is_disconnecting,
            link_disconnected,
        });
        state.phase = Phase::Working;
        state.own = Some(own);
        let text = endpoint.to_string_lossy().into_owned();
        state.started = Some(Started { process, ha_service, rm_service, endpoint: text });
        state.locality = Some(std::thread::spawn(locality::run));
    }
    let mut first = true;
    loop {
        let request = state().ask(own, endpoint.clone(), first);
        let replied = |asked: &Asked| asked.reply.as_ref().map(|reply| reply.rc);
        match wait(|state| state.requests.get(&request).and_then(replied)) {
            Some(0) => break,
            // The real library also asks again at once.
            Some(_) => first = false,
            None => {
                state().wrong("nobody answers our own entrypoint request");
                return -ETIMEDOUT;
            }
        }
    }
    [0, 1].into_iter().for_each(|event| state().report(event));
    state().open = true;
    0
}

unsafe extern "C" fn stop(hi: Hi) {
    {
        let mut state = state();
        state.on_main("stop");
        if !state.is_working(hi, "stop") {
            return;
        }
        if let Some(why) = state.spiel.unfit_to_stop() {
            state.wrong(why);
        }
        state.phase = Phase::Stopping;
        state.open = false;
        [2, 3].into_iter().for_each(|event| state.report(event));
    }
    // The real library waits for this for ever.
    let heard = wait(|state| {
        let own = state.links.values().filter(|link| Some(link.life) == state.own);
        own.clone().all(|link| link.received.is_empty()).then_some(())
    });
    state().fail_all();
    let ended = heard.and_then(|()| wait(|state| state.links.is_empty().then_some(())));
    let locality = {
        let mut state = state();
        if ended.is_none() && !state.over {
            state.wrong(
                "stop does not end: a message is not acknowledged, or a link not disconnected",
            );
        }
        state.calls.push_back(Call::End);
        state.locality.take()
    };
    if locality.is_some_and(|thread| thread.join().is_err()) {
        state().wrong("a callback has panicked");
    }
    let mut state = state();
    std::mem::take(&mut state.links).into_values().for_each(free_link);
    state.calls.clear();
    state.phase = Phase::Initialised;
}

unsafe extern "C" fn entrypoint_reply(
    hi: Hi,
    req_id: *const abi::m0_uint128,
    rc: c_int,
    confd_nr: u32,
    confd_fids: *const abi::m0_fid,
    confd_endpoints: *mut *const c_char,
    quorum: u32,
    rm_service: *const abi::m0_fid,
    rm_endpoint: *const c_char,
) {
    let text = |text: *const c_char| {
        // SAFETY: the pointer is a text of the caller, or null.
        (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    };
    let confds = (0..confd_nr as usize).map(|i| {
        // SAFETY: both arrays have `confd_nr` elements.
        let (fid, endpoint) = unsafe { (&*confd_fids.add(i), *confd_endpoints.add(i)) };
        (key(fid), text(endpoint).unwrap_or_default())
    });
    // SAFETY: the pointer is a fid of the caller, or null.
    let rm = unsafe { rm_service.as_ref() }.map_or((0, 0), key);
    let reply = Reply { rc, quorum, confds: confds.collect(), rm, rm_endpoint: text(rm_endpoint) };
    // SAFETY: the pointer is an id of the caller.
    let id = unsafe { *req_id };
    let request = Request(id.u_hi, id.u_lo);
    let (callbacks, made) = {
        let mut state = state();
        if !state.is_working(hi, "entrypoint_reply") {
            return;
        }
        let Some(asked) = state.requests.get(&request) else {
            state.wrong("a reply to a request that was not made");
            return;
        };
        if asked.reply.is_some() {
            state.wrong("a second reply to a request");
            return;
        }
        let (life, first) = (asked.life, asked.first);
        if first {
            state.gone.remove(&life);
        }
        // A first request gets a link of its own, even if the process has other links.
        let known = state.links.values().rev().filter(|_| !first);
        let mut active = known.filter(|link| link.life == life && link.up == Up::Active);
        let made = match active.next().map(|link| link.handle) {
            Some(link) => Some((link, true)),
            None if state.gone.contains(&life) => None,
            None => {
                let link = state.make_link(life);
                state.links.get(&link.0).map(|link| (link.handle, false))
            }
        };
        (state.callbacks, made)
    };
    let callbacks = callbacks.expect("it works");
    // SAFETY: `start` was given these callbacks for this purpose; they are called on this thread, as the
    // library does.
    unsafe {
        match made {
            Some((link, true)) => {
                callbacks.link_reused.expect("given to start")(hi, &raw const id, link.0)
            }
            Some((link, false)) => {
                callbacks.link_connected.expect("given to start")(hi, &raw const id, link.0);
            }
            None => callbacks.link_absent.expect("given to start")(hi, &raw const id),
        }
    }
    if let Some(asked) = state().requests.get_mut(&request) {
        asked.reply = Some(reply);
    }
}

unsafe extern "C" fn send(hi: Hi, link: LinkPtr, msg: *const abi::m0_ha_msg, tag: *mut u64) {
    let mut copy = message();
    // SAFETY: the pointer is a message of the caller.
    unsafe { ptr::copy_nonoverlapping(msg, &raw mut *copy, 1) };
    let mut state = state();
    if !state.is_working(hi, "send") {
        return;
    }
    if let Some(link) = state.link_of(link, "send") {
        let given = state.send(link, copy);
        // SAFETY: the pointer is the caller's variable.
        unsafe { tag.write(given) };
    }
}

unsafe extern "C" fn delivered(hi: Hi, link: LinkPtr, msg: *const abi::m0_ha_msg) {
    let mut state = state();
    if !state.is_working(hi, "delivered") {
        return;
    }
    if let Some(link) = state.link_of(link, "delivered") {
        state.acknowledge(link, msg);
    }
}

unsafe extern "C" fn disconnect(hi: Hi, link: LinkPtr) {
    let mut state = state();
    if !state.is_working(hi, "disconnect") {
        return;
    }
    if let Some(link) = state.link_of(link, "disconnect") {
        state.disconnect(link);
    }
}

unsafe extern "C" fn thread_adopt(_hi: Hi, _thread: *mut abi::m0_thread) -> c_int {
    let (mut state, thread) = (state(), std::thread::current().id());
    if state.adopted.contains(&thread) {
        state.wrong("a thread is adopted twice");
    } else {
        state.adopted.push(thread);
    }
    0
}

unsafe extern "C" fn thread_shun() {
    let (mut state, thread) = (state(), std::thread::current().id());
    let before = state.adopted.len();
    state.adopted.retain(|adopted| *adopted != thread);
    if state.adopted.len() == before {
        state.wrong("shun of a thread that is not adopted");
    }
}

struct Info(abi::m0_build_info);

// SAFETY: the pointers in it point to constants.
unsafe impl Sync for Info {}

static INFO: Info = Info(abi::m0_build_info {
    bi_version: 0,
    bi_version_string: c"2.0.0-fake".as_ptr(),
    bi_git_rev_id: c"fake".as_ptr(),
});

unsafe extern "C" fn build_info() -> *const abi::m0_build_info {
    &raw const INFO.0
}

impl super::state::State {
    /// Sends an entrypoint request of a process.
    pub(super) fn ask(&mut self, life: Life, endpoint: CString, first: bool) -> Request {
        let request = Request(1, self.requests.len() as u64);
        self.requests.insert(request, Asked { life, first, reply: None });
        let (process, pid) = life;
        self.calls.push_back(Call::Asked { request, process, pid, endpoint, first });
        request
    }

    /// Reports an event of our own process to ourselves.
    fn report(&mut self, event: u64) {
        let Some(own) = self.own else { return };
        let link = self.links.iter().find(|(_, link)| link.life == own).map(|(id, _)| *id);
        let mut message = message();
        message.hm_fid = abi::m0_fid { f_container: own.0.0, f_key: own.0.1 };
        message.hm_data.hed_type = u64::from(abi::M0_HA_MSG_EVENT_PROCESS);
        message.hm_data.u.hed_event_process =
            abi::m0_conf_ha_process { chp_event: event, chp_type: 3, chp_pid: own.1 };
        link.and_then(|link| self.receive(super::library::Link(link), message));
    }
}
