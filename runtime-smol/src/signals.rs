//! The system's signals.

use std::io;

use async_signal::{Signal, Signals as Heard};
use hax_driver::host::signals::Signals;
use smol::stream::StreamExt as _;

use crate::tasks;

/// Begins to handle SIGTERM and SIGINT. SIGPIPE is ignored from the start, by Rust's runtime. Without
/// `reload`, SIGHUP ends the program.
pub(crate) fn install(reload: bool) -> io::Result<Signals> {
    let mut heard = Heard::new([Signal::Term, Signal::Int])?;
    if reload {
        heard.add_signals([Signal::Hup])?;
    }
    let (hand, signals) = Signals::channel();
    let hear = async move {
        while let Some(signal) = heard.next().await {
            match signal {
                Ok(Signal::Hup) => hand.reload(),
                Ok(_) => hand.end(),
                Err(why) => tracing::warn!(target: "hax", %why, "cannot hear signals"),
            }
        }
    };
    tasks::spawn(hear).detach();
    Ok(signals)
}
