//! The event handler for routes in Consul's key-value store.

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use hax_core::consul::port::{Answer, Method, Unanswered};
use hax_core::consul::url;
use hax_core::route::job::{Done, Job};
use hax_core::route::kv::{Step, Work};

use super::settings::ConsulArgs;
use crate::host::platform::{Client as _, Platform};

/// The maximum length of a response, in bytes.
const ANSWER_MAX: usize = 1 << 20;

/// Carries out a job. A write counts as done only after the value has been read back.
pub(super) fn work<P: Platform>(job: &Job) -> anyhow::Result<Done> {
    let args = ConsulArgs::of_environment()?;
    if args.consul.is_none() {
        bail!("no Consul is given to hax route serve (--consul)");
    }
    let settings = args.settings()?.consul;
    let mut work = Work::new(job).map_err(anyhow::Error::msg)?;
    let worked = P::block_on(async {
        let client = P::Client::new(&settings)?;
        let mut step = work.begin();
        loop {
            let next = match step {
                Step::Over(done) => return Ok(done),
                Step::Read(target) => {
                    let answer = client.send(Method::Get, &target, Bytes::new(), ANSWER_MAX);
                    work.on_read(&answered(&client, "reading the route", answer.await)?)
                }
                Step::Write(body) => {
                    let answer = client.send(Method::Put, url::TXN, body.into(), ANSWER_MAX);
                    work.on_written(&answered(&client, "writing the route", answer.await)?)
                }
            };
            step = next.map_err(anyhow::Error::msg)?;
        }
    });
    worked.context("starting the runtime")?
}

fn answered<C: crate::host::platform::Client>(
    client: &C,
    what: &str,
    answer: Result<Answer, Unanswered>,
) -> anyhow::Result<Answer> {
    answer.map_err(|why| {
        let trouble = client.problem().unwrap_or_else(|| why.why().into());
        anyhow!("{what}: Consul: {trouble}")
    })
}
