//! SIGTERM and SIGINT: the first asks for a stop, the second for an end at once. SIGHUP asks to read
//! certificates and tokens again. How signals are heard is the runtime's affair.

use std::convert::Infallible;

use async_channel::{Receiver, Sender};

/// What signals have asked for so far.
#[derive(Clone, Debug)]
pub struct Signals {
    stop: Receiver<Infallible>,
    end: Receiver<Infallible>,
    reloads: Receiver<()>,
    /// Nothing that was not asked for happens because nobody can ask for it any more.
    _hand: Hand,
}

/// What gives signals: the system's, or a program's own.
#[derive(Clone, Debug)]
pub struct Hand {
    stop: Sender<Infallible>,
    end: Sender<Infallible>,
    reloads: Sender<()>,
}

impl Hand {
    /// One more signal to end: the first is a stop, the second an end at once.
    pub fn end(&self) {
        if !self.stop.close() {
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
    pub fn by_hand() -> (Hand, Self) {
        let (stop_hand, stop) = async_channel::bounded(1);
        let (end_hand, end) = async_channel::bounded(1);
        let (reload_hand, reloads) = async_channel::bounded(1);
        let hand = Hand { stop: stop_hand, end: end_hand, reloads: reload_hand };
        (hand.clone(), Self { stop, end, reloads, _hand: hand })
    }

    /// Completes when the first signal has come.
    pub async fn stop(&self) {
        let Err(_closed) = self.stop.recv().await;
    }

    /// Completes when the second signal has come.
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
    fn the_first_is_a_stop_and_the_second_an_end() {
        let (hand, signals) = Signals::by_hand();
        let has = |what: &str| {
            let done = match what {
                "stopped" => block_on(poll_once(signals.stop())),
                _ => block_on(poll_once(signals.end())),
            };
            done.is_some()
        };
        assert!(!has("stopped"));
        hand.end();
        assert!(has("stopped") && !has("ended"));
        hand.end();
        drop(hand);
        assert!(has("stopped") && has("ended"));
    }
}
