//! `hax event-handler`: handles one event, in a process of its own. It reads the job from standard input and
//! writes the result to standard output.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use hax_core::route::job::{Done, Job, Outcome, WITHIN};
use hax_core::route::provider::Provider;

use super::{cloud, consul, linux};
use crate::commands::output::Output;
use crate::exit::{CommandError, Exit};
use crate::host::platform::Platform;

/// The maximum length of a job, in bytes.
const JOB_MAX: u64 = 8 << 20;

/// Carries out the job on standard input.
pub(in crate::commands) fn handle<P: Platform>() -> Result<Exit, CommandError> {
    end_in_time();
    let worked = read().and_then(|job| work::<P>(&job));
    let done = worked.unwrap_or_else(|why| Done::new(Outcome::Failed, format!("{why:#}")));
    let exit = if done.outcome == Outcome::Failed { Exit::Failure } else { Exit::Clean };
    let mut line = serde_json::to_vec(&done).map_err(anyhow::Error::from)?;
    line.push(b'\n');
    Output::new().write_all(&line).map_err(anyhow::Error::from)?;
    Ok(exit)
}

/// Ends this process when its time is over. Its server ends it at the same time, unless the server stands
/// still. Then another router may hold the lease already.
#[expect(clippy::disallowed_methods, reason = "the work hangs, so main does not return")]
fn end_in_time() {
    let Some(within) = std::env::var(WITHIN).ok().and_then(|text| text.parse().ok()) else {
        return;
    };
    std::thread::spawn(move || {
        let (_keep, never) = std::sync::mpsc::channel::<()>();
        let _ = never.recv_timeout(Duration::from_millis(within));
        std::process::exit(1);
    });
}

fn read() -> anyhow::Result<Job> {
    let mut text = Vec::new();
    std::io::stdin().take(JOB_MAX).read_to_end(&mut text).context("standard input")?;
    serde_json::from_slice(&text).context("standard input has no job")
}

fn work<P: Platform>(job: &Job) -> anyhow::Result<Done> {
    match job.provider {
        Provider::Linux => linux::work(job),
        Provider::Consul => consul::work::<P>(job),
        Provider::Aws | Provider::Azure(_) | Provider::Gcp => Ok(cloud::work(job)),
    }
}
