//! The one queue of work with the library, and its elements.
#![expect(unsafe_code, reason = "the library's handles go from thread to thread")]

use async_channel::{Sender, TrySendError};
use hax_core::base::fid::Fid;
use hax_core::ha::message::Message;
use hax_core::ha::motr::Command;
use hax_core::ha::spiel::{Call, Reply};
use motr_sys::abi;

/// One element of the queue; elements are handled in order.
#[derive(Debug)]
pub(super) enum Work {
    Asked(Box<Asked>),
    Received {
        link: Handle<abi::m0_ha_link>,
        handle: Handle<abi::m0_ha_msg>,
        message: Box<Message>,
    },
    Settled {
        link: Handle<abi::m0_ha_link>,
        tag: u64,
        delivered: bool,
    },
    Connected {
        request: RequestId,
        link: Handle<abi::m0_ha_link>,
    },
    Reused {
        request: RequestId,
        link: Handle<abi::m0_ha_link>,
    },
    Absent {
        request: RequestId,
    },
    Disconnecting {
        link: Handle<abi::m0_ha_link>,
    },
    Disconnected {
        link: Handle<abi::m0_ha_link>,
    },
    /// A command of the bridge.
    Do(Command),
    /// The interface is started; from the owner.
    Started,
    /// A call of the bridge to the cluster.
    Call(Call),
    /// The end of a call to the cluster; from the thread of that call.
    Done(Done),
    /// A request for the number of elements that were handled before it.
    Barrier(Sender<u64>),
    /// The interface has stopped, or did not start, and nothing follows; from the owner.
    End,
}

pub(super) type RequestId = (u64, u64);

/// An entrypoint request.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: RequestId,
    pub(super) process: Fid,
    pub(super) endpoint: Box<str>,
    pub(super) git_rev: Box<str>,
    pub(super) pid: u64,
    pub(super) first: bool,
}

/// An opaque pointer of the library, which we only pass back to it.
pub(super) struct Handle<T>(pub(super) *mut T);

impl<T> std::fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:p}", self.0)
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

// SAFETY: we never dereference the pointer; the library accepts its handles on any thread
// (ha/halon/interface.h, "Threading").
unsafe impl<T> Send for Handle<T> {}

/// The end of a call.
#[derive(Debug)]
pub(super) struct Done {
    /// The number of its thread, if it has one to be joined.
    pub(super) thread: Option<u64>,
    /// The reply to the bridge; `None` for the end of the configuration.
    pub(super) reply: Option<Reply>,
}

/// Puts `work` in `queue`.
///
/// It ends the program if the queue is full. A library that puts so many messages in the queue before any is
/// taken out has used up the memory long before: each message has 24 KiB there.
pub(super) fn put<T>(queue: &Sender<T>, work: T) {
    match queue.try_send(work) {
        // After the end the queue has no reader.
        Ok(()) | Err(TrySendError::Closed(_)) => {}
        Err(TrySendError::Full(_)) => {
            tracing::error!(
                target: "hax",
                "the queue of Motr's library is full, {} callbacks wait: aborting, its \
                 processes will say again what is not acknowledged", super::QUEUE
            );
            std::process::abort();
        }
    }
}
