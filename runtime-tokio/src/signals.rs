//! SIGTERM and SIGINT: the first asks for a stop, the second for an end at once. SIGHUP asks to read
//! certificates and tokens again.

use std::io;

use futures_lite::future::or;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How many signals came so far.
#[derive(Clone, Debug)]
pub struct Signals {
    ends: watch::Receiver<u32>,
    reloads: watch::Receiver<u32>,
}

impl Signals {
    /// Begins to take signals. SIGPIPE is ignored from the start, by Rust's runtime.
    pub fn install() -> io::Result<Self> {
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let (end, ends) = watch::channel(0);
        let (_, reloads) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                or(term.recv(), int.recv()).await;
                end.send_modify(|n| *n += 1);
            }
        });
        Ok(Self { ends, reloads })
    }

    /// Takes SIGHUP too, which ends a program that has nothing to read again.
    pub fn with_reload(self) -> io::Result<Self> {
        let mut hup = signal(SignalKind::hangup())?;
        let (reload, reloads) = watch::channel(0);
        tokio::spawn(async move {
            while hup.recv().await.is_some() {
                reload.send_modify(|n| *n += 1);
            }
        });
        Ok(Self { reloads, ..self })
    }

    /// Signals of the program's own making: for a bridge within another program. Each send counts
    /// as one signal more.
    #[must_use]
    pub fn by_hand() -> (watch::Sender<u32>, Self) {
        let (end, ends) = watch::channel(0);
        let (_, reloads) = watch::channel(0);
        (end, Self { ends, reloads })
    }

    /// Completes when the first signal has come.
    pub async fn stop(&self) {
        self.nth(1).await;
    }

    /// Completes when the second signal has come.
    pub async fn end(&self) {
        self.nth(2).await;
    }

    /// Calls `reload` whenever something is to be read again; never completes.
    pub async fn on_reload(&self, reload: impl Fn()) -> ! {
        let mut reloads = self.reloads.clone();
        while reloads.changed().await.is_ok() {
            reload();
        }
        std::future::pending().await
    }

    async fn nth(&self, n: u32) {
        if self.ends.clone().wait_for(|count| *count >= n).await.is_err() {
            std::future::pending().await
        }
    }
}
