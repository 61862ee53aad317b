//! The library's functions for the worker.
#![expect(unsafe_code, reason = "the library is C")]

use std::ffi::{CString, c_char};
use std::ptr;

use hax_core::base::errno::Errno;
use hax_core::ha::entrypoint::Entrypoint;
use motr_sys::{Ha, abi};

use super::links::Link;
use super::message;
use super::work::{Handle, RequestId};

/// The interface between `init` and `fini`: the worker owns it and ends before `fini`.
#[derive(Debug)]
pub(super) struct Calls {
    ha: Ha,
    hi: Handle<abi::m0_halon_interface>,
}

impl Calls {
    pub(super) fn new(ha: Ha, hi: Handle<abi::m0_halon_interface>) -> Self {
        Self { ha, hi }
    }

    /// Replies to a request, once for each request. The callback of its link runs inside this call, and puts
    /// the link in our queue.
    pub(super) fn reply(&self, (u_hi, u_lo): RequestId, reply: Result<&Entrypoint, Errno>) {
        let none = Entrypoint::default();
        let (rc, entrypoint) = match reply {
            Ok(entrypoint) => (0, entrypoint),
            Err(errno) => (errno.to_rc(), &none),
        };
        // No name of the library contains a zero byte.
        let c_text = |text: &str| CString::new(text).unwrap_or_default();
        let fids: Vec<_> =
            entrypoint.confds.iter().map(|confd| message::c_fid(confd.fid)).collect();
        let endpoints: Vec<CString> =
            entrypoint.confds.iter().map(|confd| c_text(&confd.endpoint)).collect();
        let mut endpoints: Vec<*const c_char> =
            endpoints.iter().map(|endpoint| endpoint.as_ptr()).collect();
        let id = abi::m0_uint128 { u_hi, u_lo };
        let (rm, rm_endpoint) = (message::c_fid(entrypoint.rm), c_text(&entrypoint.rm_endpoint));
        let n = u32::try_from(fids.len()).unwrap_or(u32::MAX);
        // SAFETY: the request was made by the library and is replied to once: the worker has just removed it
        // from the pending requests. Both arrays have `n` elements, and all arguments live until the function
        // returns, which copies them.
        unsafe {
            (self.ha.entrypoint_reply)(
                self.hi.0,
                &raw const id,
                rc,
                n,
                fids.as_ptr(),
                endpoints.as_mut_ptr(),
                entrypoint.quorum,
                &raw const rm,
                rm_endpoint.as_ptr(),
            );
        }
    }

    /// Sends a message; returns its tag, which identifies it on its link. A callback reports the result
    /// later: the worker, which runs this, cannot have taken it out of its queue before.
    pub(super) fn send(&self, link: &Link, message: &abi::m0_ha_msg) -> u64 {
        assert!(!link.given_up, "a message for a link that is given up");
        let mut tag = 0;
        // SAFETY: the link exists until it is given up, and it is not given up. The message is copied.
        unsafe { (self.ha.send)(self.hi.0, link.handle.0, ptr::from_ref(message), &raw mut tag) };
        tag
    }

    /// Acknowledges a message, and thereby gives it back to the library.
    pub(super) fn delivered(&self, link: &Link, message: Handle<abi::m0_ha_msg>) {
        assert!(!link.given_up, "an acknowledgement on a link that is given up");
        // SAFETY: the link exists until it is given up, and it is not given up. The message came over this
        // link and is acknowledged once: the worker has just received it, or removed it from the
        // unacknowledged messages.
        unsafe { (self.ha.delivered)(self.hi.0, link.handle.0, message.0.cast_const()) };
    }

    /// Gives a link back to the library: `given_up` is set, and no message on it is held any more.
    pub(super) fn disconnect(&self, link: &Link) {
        assert!(link.given_up && link.received.is_empty(), "a link that is still in use");
        // SAFETY: the library has asked for it (`link_is_disconnecting`), and nothing of ours uses the link
        // or a message on it after this.
        unsafe { (self.ha.disconnect)(self.hi.0, link.handle.0) };
    }
}
