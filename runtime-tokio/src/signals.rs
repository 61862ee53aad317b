//! The system's signals.

use std::io;

use futures_lite::future::or;
use hax_driver::host::signals::Signals;
use tokio::signal::unix::{SignalKind, signal};

/// Begins to handle SIGTERM and SIGINT. SIGPIPE is ignored from the start, by Rust's runtime. Without
/// `reload`, SIGHUP ends the program.
pub(crate) fn install(reload: bool) -> io::Result<Signals> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let (hand, signals) = Signals::channel();
    if reload {
        let (mut hup, hand) = (signal(SignalKind::hangup())?, hand.clone());
        tokio::spawn(async move {
            while hup.recv().await.is_some() {
                hand.reload();
            }
        });
    }
    tokio::spawn(async move {
        loop {
            or(term.recv(), int.recv()).await;
            hand.end();
        }
    });
    Ok(signals)
}
