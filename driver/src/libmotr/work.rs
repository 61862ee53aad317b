//! The one queue of all that is to be done with the library, and what stands in it.
#![expect(unsafe_code, reason = "the library's handles go from thread to thread")]

use async_channel::{Sender, TrySendError};
use hax_core::base::fid::Fid;
use hax_core::ha::message::Message;
use hax_core::ha::motr::Command;
use hax_core::ha::spiel::{Call, Reply};
use motr_sys::abi;

/// What is to be done next, in order.
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
    /// From the bridge.
    Do(Command),
    /// From the owner: the interface is started.
    Started,
    /// From the bridge, to the cluster.
    Call(Call),
    /// From a thread that was inside the library for the cluster.
    Done(Done),
    /// From a test, which is told how much was done before.
    #[cfg(test)]
    Pause(Sender<u64>),
    /// From the owner: the interface has stopped, or did not start; nothing comes any more.
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

/// Something of the library's, which we only give back to it.
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

// SAFETY: we never look at what is behind; the library takes its handles on any thread
// (ha/halon/interface.h, "Threading").
unsafe impl<T> Send for Handle<T> {}

/// A call has returned.
#[derive(Debug)]
pub(super) struct Done {
    /// Which, if it has one to be joined.
    pub(super) thread: Option<u64>,
    /// What the bridge is told; nothing of the configuration's end.
    pub(super) reply: Option<Reply>,
}

/// Puts `work` in `queue`. A library that says more than the queue holds before anything of it is taken
/// out has long filled the memory: each message is 24 KiB there.
pub(super) fn put<T>(queue: &Sender<T>, work: T) {
    match queue.try_send(work) {
        // Nobody listens after the end.
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
