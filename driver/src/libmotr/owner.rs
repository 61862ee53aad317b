//! The thread that creates, starts, stops and ends the interface.
#![expect(unsafe_code, reason = "the library is C")]

use std::ffi::CString;
use std::ptr;
use std::thread;

use async_channel::{Receiver, Sender};
use motr_sys::{Ha, abi};

use super::call::Calls;
use super::callbacks;
use super::spiel::Spiel;
use super::work::{Handle, Work, put};
use super::worker::Worker;
use super::{Config, EventSink, StopOutcome, message};

/// The option against the check for one exact build. The site's library may be another build than the tested
/// one; the ABI is what counts.
const OPTIONS: &std::ffi::CStr = c"disable-compatibility-check";

pub(super) struct Owner {
    pub(super) ha: Ha,
    pub(super) spiel: motr_sys::Spiel,
    pub(super) config: Config,
    pub(super) queue: Sender<Work>,
    pub(super) work: Receiver<Work>,
    pub(super) end: Sender<StopOutcome>,
}

impl Owner {
    /// Runs the interface from `init` to `fini`.
    pub(super) fn run(self, sink: EventSink) {
        let ended = self.whole_life(sink);
        callbacks::disconnect();
        // One message is enough; a full channel has one.
        let _ = self.end.try_send(ended);
    }

    fn whole_life(&self, sink: EventSink) -> StopOutcome {
        let mut hi = ptr::null_mut();
        // SAFETY: this is the first call of this interface, of which there is one (`callbacks::connect`); the
        // texts are constants, and those that are compared with nothing may be empty.
        let rc = unsafe {
            let none = c"".as_ptr();
            (self.ha.init)(&raw mut hi, none, none, OPTIONS.as_ptr(), ptr::null())
        };
        if rc != 0 {
            return StopOutcome::Init(-rc);
        }
        let (stop, stopped) = async_channel::bounded(1);
        let calls = Calls::new(self.ha, Handle(hi));
        let spiel = Spiel::new(self.ha, self.spiel, Handle(hi), self.queue.clone());
        let worker = Worker::new(calls, spiel, self.config.process, sink, stop, self.end.clone());
        let work = self.work.clone();
        let worker =
            thread::Builder::new().name("motr-worker".into()).spawn(move || worker.run(&work));
        let worker = worker.expect("a thread for Motr's library");
        let rc = self.start(hi);
        if rc == 0 {
            put(&self.queue, Work::Started);
            if stopped.recv_blocking().is_err() {
                // The worker has panicked, so the messages that a stop waits for would never be acknowledged.
                tracing::error!(target: "hax", "the thread that works for Motr's library has ended");
                std::process::abort();
            }
            // SAFETY: the interface is started, and this is the thread of `init`.
            unsafe { (self.ha.stop)(hi) };
        }
        // This is the only sender that may wait for room in the queue.
        let _ = self.queue.send_blocking(Work::End);
        if worker.join().is_err() {
            std::process::abort();
        }
        // SAFETY: the interface is stopped, or did not start, and this is the thread of `init`. No other
        // thread of ours uses the interface, since the worker and the callbacks have ended.
        unsafe { (self.ha.fini)(hi) };
        match rc {
            0 => StopOutcome::Stopped,
            rc => StopOutcome::Start { endpoint: self.config.endpoint.clone(), errno: -rc },
        }
    }

    fn start(&self, hi: *mut abi::m0_halon_interface) -> i32 {
        // No name of the library contains a zero byte.
        let endpoint = CString::new(&*self.config.endpoint).unwrap_or_default();
        let [process, ha_service, rm_service] =
            [self.config.process, self.config.ha_service, self.config.rm_service]
                .map(message::c_fid);
        // `init` may have left an error, for which an `inet:stream:` name would be refused.
        motr_sys::clear_errno();
        // SAFETY: the interface is initialised, and this is the thread of `init`. The arguments live until it
        // returns, and are copied; the callbacks have the declared types and do not block.
        unsafe {
            (self.ha.start)(
                hi,
                endpoint.as_ptr(),
                &raw const process,
                &raw const ha_service,
                &raw const rm_service,
                Some(callbacks::entrypoint_request),
                Some(callbacks::msg_received),
                Some(callbacks::msg_is_delivered),
                Some(callbacks::msg_is_not_delivered),
                Some(callbacks::link_connected),
                Some(callbacks::link_reused),
                Some(callbacks::link_absent),
                Some(callbacks::link_is_disconnecting),
                Some(callbacks::link_disconnected),
            )
        }
    }
}
