//! The thread that calls the callbacks.

use std::ffi::{CStr, CString};

use super::library::{Link, Request};
use super::links::Up;
use super::state::{Ptr, state, wait};
use crate::abi;

/// The callbacks passed to `start`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Callbacks {
    pub(super) entrypoint_request: abi::hax_entrypoint_request_cb,
    pub(super) msg_received: abi::hax_msg_received_cb,
    pub(super) msg_is_delivered: abi::hax_msg_settled_cb,
    pub(super) msg_is_not_delivered: abi::hax_msg_settled_cb,
    pub(super) link_connected: abi::hax_link_made_cb,
    pub(super) link_reused: abi::hax_link_made_cb,
    pub(super) link_absent: abi::hax_link_absent_cb,
    pub(super) link_is_disconnecting: abi::hax_link_gone_cb,
    pub(super) link_disconnected: abi::hax_link_gone_cb,
}

/// A pending callback.
pub(super) enum Call {
    Asked {
        request: Request,
        process: (u64, u64),
        pid: u64,
        endpoint: CString,
        first: bool,
    },
    Received {
        link: Ptr<abi::m0_ha_link>,
        message: Ptr<abi::m0_ha_msg>,
        tag: u64,
    },
    Settled {
        link: Ptr<abi::m0_ha_link>,
        tag: u64,
        delivered: bool,
    },
    /// Not a callback: a message that we sent over the link to ourselves has arrived.
    Ourselves {
        link: Link,
        message: Box<abi::m0_ha_msg>,
    },
    Disconnecting {
        link: Ptr<abi::m0_ha_link>,
    },
    Disconnected {
        link: Ptr<abi::m0_ha_link>,
    },
    /// The end of the thread.
    End,
}

const GIT_REV: &CStr = c"fake";

/// Makes the calls in order, until the last one.
pub(super) fn run() {
    loop {
        let next = wait(|state| {
            let call = state.calls.pop_front()?;
            state.begun += 1;
            // From here on the user may disconnect, inside the callback or elsewhere.
            if let Call::Disconnecting { link } = &call {
                let known = state.links.values_mut().find(|known| known.handle.0 == link.0);
                known.into_iter().for_each(|known| known.up = Up::Told);
            }
            Some((call, state.callbacks, state.hi))
        });
        let Some((call, Some(callbacks), Some(hi))) = next else { return };
        if matches!(call, Call::End) {
            return;
        }
        // SAFETY: `start` was given these functions for these calls. Their arguments live until they return,
        // and messages and links until the user gives them back.
        unsafe { make(&call, &callbacks, hi.0) };
        let mut state = state();
        state.returned += 1;
        match call {
            Call::Disconnected { link } => state.remove_link(link),
            Call::Ourselves { link, message } => {
                state.hear_ourselves(&message);
                if let Some(own) = state.links.get_mut(&link.0) {
                    own.sent.push_back(message);
                }
                state.settle(link, true);
            }
            _ => {}
        }
    }
}

/// # Safety
///
/// The pointers in the call are valid.
unsafe fn make(call: &Call, callbacks: &Callbacks, hi: *mut abi::m0_halon_interface) {
    // SAFETY: guaranteed by the caller; `start` checks that each callback was given.
    unsafe {
        match call {
            Call::Asked { request, process, pid, endpoint, first } => {
                let request = abi::m0_uint128 { u_hi: request.0, u_lo: request.1 };
                let fid = abi::m0_fid { f_container: process.0, f_key: process.1 };
                let (endpoint, rev) = (endpoint.as_ptr(), GIT_REV.as_ptr());
                let call = callbacks.entrypoint_request.expect("given to start");
                call(hi, &raw const request, endpoint, &raw const fid, rev, *pid, *first);
            }
            Call::Received { link, message, tag } => {
                callbacks.msg_received.expect("given to start")(hi, link.0, message.0, *tag);
            }
            Call::Settled { link, tag, delivered: true } => {
                callbacks.msg_is_delivered.expect("given to start")(hi, link.0, *tag);
            }
            Call::Settled { link, tag, delivered: false } => {
                callbacks.msg_is_not_delivered.expect("given to start")(hi, link.0, *tag);
            }
            Call::Disconnecting { link } => {
                callbacks.link_is_disconnecting.expect("given to start")(hi, link.0);
            }
            Call::Disconnected { link } => {
                callbacks.link_disconnected.expect("given to start")(hi, link.0);
            }
            Call::Ourselves { .. } | Call::End => {}
        }
    }
}
