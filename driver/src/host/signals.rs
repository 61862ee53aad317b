//! SIGTERM, SIGINT and SIGHUP. The first SIGTERM or SIGINT asks for a stop, a later one for an end at once.
//! Service managers and operators often send both at nearly the same time, which counts as one signal. SIGHUP
//! asks to read certificates and tokens again. The runtime receives the signals.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use hax_core::base::time::Instant;

use crate::host::clock::Clock;

/// The time after the first signal in which another one counts as the same.
const REPEAT_WINDOW: Duration = Duration::from_secs(1);

/// The signals received so far.
#[derive(Clone, Debug)]
pub struct Signals {
    stop: Receiver<Infallible>,
    end: Receiver<Infallible>,
    reloads: Receiver<()>,
    /// Keeps the channels open, since a closed channel means a received signal.
    _sender: SignalSender,
}

/// The source of signals: the system's, or a program's own.
#[derive(Clone, Debug)]
pub struct SignalSender {
    stop: Sender<Infallible>,
    end: Sender<Infallible>,
    reloads: Sender<()>,
    clock: Clock,
    /// The time of the first signal to end.
    first: Arc<OnceLock<Instant>>,
}

impl SignalSender {
    /// Records a signal to end. The first one asks for a stop, one more than a second later for an end at
    /// once.
    pub fn end(&self) {
        self.end_at(self.clock.now().mono);
    }

    fn end_at(&self, now: Instant) {
        let first = *self.first.get_or_init(|| now);
        self.stop.close();
        if now.since(first) > REPEAT_WINDOW {
            self.end.close();
        }
    }

    /// Records a signal to read certificates and tokens again.
    pub fn reload(&self) {
        // A signal that waits already covers this one too.
        let _ = self.reloads.try_send(());
    }
}

impl Signals {
    /// Creates signals without any received, and their source.
    #[must_use]
    pub fn channel() -> (SignalSender, Self) {
        let (stop_hand, stop) = async_channel::bounded(1);
        let (end_hand, end) = async_channel::bounded(1);
        let (reload_hand, reloads) = async_channel::bounded(1);
        let sender = SignalSender {
            stop: stop_hand,
            end: end_hand,
            reloads: reload_hand,
            clock: Clock::new(),
            first: Arc::default(),
        };
        (sender.clone(), Self { stop, end, reloads, _sender: sender })
    }

    /// Completes at the first signal.
    pub async fn stop(&self) {
        let Err(_closed) = self.stop.recv().await;
    }

    /// Completes at a signal later than the first.
    pub async fn end(&self) {
        let Err(_closed) = self.end.recv().await;
    }

    /// Calls `reload` at each signal to read files again; never completes.
    pub async fn on_reload(&self, reload: impl Fn()) -> ! {
        while self.reloads.recv().await.is_ok() {
            reload();
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn f48_the_first_is_a_stop_and_one_of_another_breath_an_end() {
        let (sender, signals) = Signals::channel();
        let has = |what: &str| {
            let done = match what {
                "stopped" => block_on(poll_once(signals.stop())),
                _ => block_on(poll_once(signals.end())),
            };
            done.is_some()
        };
        let at = Instant::from_micros;
        assert!(!has("stopped"));
        sender.end_at(at(5_000_000));
        assert!(has("stopped") && !has("ended"));
        // The signals of a service manager and of its operator at nearly the same time.
        sender.end_at(at(5_000_200));
        sender.end_at(at(6_000_000));
        assert!(!has("ended"));
        sender.end_at(at(6_000_001));
        drop(sender);
        assert!(has("stopped") && has("ended"));
    }
}
