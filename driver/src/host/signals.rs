//! SIGTERM and SIGINT: the first asks for a stop, a later one for an end at once. Service managers and
//! operators say it twice in one breath: that is once. SIGHUP asks to read certificates and tokens again.
//! How signals are heard is the runtime's affair.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use hax_core::base::time::Instant;

use crate::host::clock::Clock;

/// What comes so soon after the first signal to end is the same one.
const BREATH: Duration = Duration::from_secs(1);

/// What signals have asked for so far.
#[derive(Clone, Debug)]
pub struct Signals {
    stop: Receiver<Infallible>,
    end: Receiver<Infallible>,
    reloads: Receiver<()>,
    /// Nothing that was not asked for happens because nobody can ask for it any more.
    _sender: SignalSender,
}

/// What gives signals: the system's, or a program's own.
#[derive(Clone, Debug)]
pub struct SignalSender {
    stop: Sender<Infallible>,
    end: Sender<Infallible>,
    reloads: Sender<()>,
    clock: Clock,
    /// When the first signal to end came.
    first: Arc<OnceLock<Instant>>,
}

impl SignalSender {
    /// One more signal to end: the first is a stop, one that comes more than a second later an end at
    /// once.
    pub fn end(&self) {
        self.end_at(self.clock.now().mono);
    }

    fn end_at(&self, now: Instant) {
        let first = *self.first.get_or_init(|| now);
        self.stop.close();
        if now.since(first) > BREATH {
            self.end.close();
        }
    }

    /// One more signal to read certificates and tokens again.
    pub fn reload(&self) {
        // One that waits already stands for this one too.
        let _ = self.reloads.try_send(());
    }
}

impl Signals {
    /// No signals yet, and what gives them.
    #[must_use]
    pub fn by_hand() -> (SignalSender, Self) {
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

    /// Completes when the first signal has come.
    pub async fn stop(&self) {
        let Err(_closed) = self.stop.recv().await;
    }

    /// Completes when a signal has come that is later than the first.
    pub async fn end(&self) {
        let Err(_closed) = self.end.recv().await;
    }

    /// Calls `reload` whenever something is to be read again; never completes.
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
        let (sender, signals) = Signals::by_hand();
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
        // As a service manager and its operator say it.
        sender.end_at(at(5_000_200));
        sender.end_at(at(6_000_000));
        assert!(!has("ended"));
        sender.end_at(at(6_000_001));
        drop(sender);
        assert!(has("stopped") && has("ended"));
    }
}
