//! SIGTERM and SIGINT: the first asks for a stop, the second for an end at once.

use std::io;

use futures_lite::future::or;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How many signals came so far.
#[derive(Clone, Debug)]
pub struct Signals(watch::Receiver<u32>);

impl Signals {
    /// Begins to take signals. SIGPIPE is ignored from the start, by Rust's runtime.
    pub fn install() -> io::Result<Self> {
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let (count, counted) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                or(term.recv(), int.recv()).await;
                count.send_modify(|n| *n += 1);
            }
        });
        Ok(Self(counted))
    }

    /// Signals of the program's own making: for a bridge within another program. Each send counts
    /// as one signal more.
    #[must_use]
    pub fn by_hand() -> (watch::Sender<u32>, Self) {
        let (count, counted) = watch::channel(0);
        (count, Self(counted))
    }

    /// Completes when the first signal has come.
    pub async fn stop(&self) {
        self.nth(1).await;
    }

    /// Completes when the second signal has come.
    pub async fn end(&self) {
        self.nth(2).await;
    }

    async fn nth(&self, n: u32) {
        if self.0.clone().wait_for(|count| *count >= n).await.is_err() {
            std::future::pending().await
        }
    }
}
