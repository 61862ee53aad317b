//! The callbacks for the library: each one copies its arguments, puts them in the queue and returns.
//!
//! The callbacks have no argument of ours, and there is one interface in a process, so the queue is a static.
//! Its lock is taken for writing only before the interface exists and after it is gone.
#![expect(unsafe_code, reason = "C's callbacks")]

use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{PoisonError, RwLock};

use async_channel::Sender;
use motr_sys::abi;

use super::message;
use super::work::{Asked, Handle, RequestId, Work, put};

/// The queue of the callbacks.
static QUEUE: RwLock<Option<Sender<Work>>> = RwLock::new(None);

/// Sets the queue of the one interface; returns false if there is one already.
pub(super) fn connect(queue: Sender<Work>) -> bool {
    let mut slot = QUEUE.write().unwrap_or_else(PoisonError::into_inner);
    let free = slot.is_none();
    if free {
        *slot = Some(queue);
    }
    free
}

/// Removes the queue after the end of the interface.
pub(super) fn disconnect() {
    QUEUE.write().unwrap_or_else(PoisonError::into_inner).take();
}

/// Runs the body of a callback. A panic may not unwind into C. It aborts, since a message or a link would be
/// lost otherwise.
fn callback(name: &str, work: impl FnOnce() -> Work) {
    let told = catch_unwind(AssertUnwindSafe(|| {
        let work = work();
        if let Some(queue) = &*QUEUE.read().unwrap_or_else(PoisonError::into_inner) {
            put(queue, work);
        }
    }));
    if told.is_err() {
        tracing::error!(target: "hax", "a panic inside the callback {name} of Motr's library");
        std::process::abort();
    }
}

/// # Safety
///
/// The pointer is null or points to a zero-terminated text.
unsafe fn text(text: *const c_char) -> Box<str> {
    if text.is_null() {
        return Box::default();
    }
    // SAFETY: guaranteed by the caller.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into()
}

/// # Safety
///
/// For library callbacks only, as all functions below: the arguments are valid until the callback returns,
/// links and messages for longer.
unsafe fn id(id: *const abi::m0_uint128) -> RequestId {
    // SAFETY: guaranteed by the caller.
    let abi::m0_uint128 { u_hi, u_lo } = unsafe { *id };
    (u_hi, u_lo)
}

type Hi = *mut abi::m0_halon_interface;
type Link = *mut abi::m0_ha_link;

pub(super) unsafe extern "C" fn entrypoint_request(
    _: Hi,
    request: *const abi::m0_uint128,
    endpoint: *const c_char,
    process: *const abi::m0_fid,
    git_rev: *const c_char,
    pid: u64,
    first: bool,
) {
    callback("entrypoint_request", || {
        // SAFETY: these are the callback's arguments.
        let (request, process) = unsafe { (id(request), message::fid(*process)) };
        // SAFETY: as above, these are the callback's arguments.
        let (endpoint, git_rev) = unsafe { (text(endpoint), text(git_rev)) };
        Work::Asked(Box::new(Asked { request, process, endpoint, git_rev, pid, first }))
    });
}

pub(super) unsafe extern "C" fn msg_received(
    _: Hi,
    link: Link,
    msg: *const abi::m0_ha_msg,
    _tag: u64,
) {
    callback("msg_received", || {
        // SAFETY: the message is ours to read until it is acknowledged, which is after this.
        let message = Box::new(message::read(unsafe { &*msg }));
        Work::Received { link: Handle(link), handle: Handle(msg.cast_mut()), message }
    });
}

pub(super) unsafe extern "C" fn msg_is_delivered(_: Hi, link: Link, tag: u64) {
    callback("msg_is_delivered", || Work::Settled { link: Handle(link), tag, delivered: true });
}

pub(super) unsafe extern "C" fn msg_is_not_delivered(_: Hi, link: Link, tag: u64) {
    callback("msg_is_not_delivered", || Work::Settled {
        link: Handle(link),
        tag,
        delivered: false,
    });
}

pub(super) unsafe extern "C" fn link_connected(_: Hi, request: *const abi::m0_uint128, link: Link) {
    callback("link_connected", || {
        // SAFETY: this is the callback's argument.
        let request = unsafe { id(request) };
        Work::Connected { request, link: Handle(link) }
    });
}

pub(super) unsafe extern "C" fn link_reused(_: Hi, request: *const abi::m0_uint128, link: Link) {
    callback("link_reused", || {
        // SAFETY: this is the callback's argument.
        let request = unsafe { id(request) };
        Work::Reused { request, link: Handle(link) }
    });
}

pub(super) unsafe extern "C" fn link_absent(_: Hi, request: *const abi::m0_uint128) {
    callback("link_absent", || {
        // SAFETY: this is the callback's argument.
        Work::Absent { request: unsafe { id(request) } }
    });
}

pub(super) unsafe extern "C" fn link_is_disconnecting(_: Hi, link: Link) {
    callback("link_is_disconnecting", || Work::Disconnecting { link: Handle(link) });
}

pub(super) unsafe extern "C" fn link_disconnected(_: Hi, link: Link) {
    callback("link_disconnected", || Work::Disconnected { link: Handle(link) });
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    const CHILD: &str = "HAX_TEST_PANIC_IN_CALLBACK";

    /// Unwinding into C is undefined behaviour, and continuing would lose the callback's argument.
    #[test]
    fn a_panic_in_a_callback_ends_the_process() {
        if std::env::var_os(CHILD).is_some() {
            super::callback("test", || panic!("on purpose"));
            return;
        }
        let name = "libmotr::callbacks::tests::a_panic_in_a_callback_ends_the_process";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let child = child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().unwrap();
        // SIGABRT.
        assert_eq!(child.status.signal(), Some(6), "{child:?}");
    }
}
