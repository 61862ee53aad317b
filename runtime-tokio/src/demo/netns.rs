//! `hax demo route --netns`: two routers and their kernels' real routes, in network namespaces, and a client
//! that counts real pings.
//!
//! The routers' servers run in the namespace of this program, where the built-in Consul is. Their redundancy
//! nodes name the namespaces of the client and of the server.

use std::time::Duration;

use anyhow::Context as _;
use hax_driver::exit::Exit;
use hax_driver::host::clock::Clock;
use rustix::process::{Pid, Signal, kill_process};

use super::api::Api;
use super::lab::{Lab, Pings};
use super::route::{NAMES, Stage};
use super::show::Show;

/// The interval between two pings.
const EVERY: Duration = Duration::from_millis(10);

/// The maximum round-trip time of a ping.
const ROUND_TRIP: Duration = Duration::from_millis(200);

/// The timeout of an expectation.
const WITHIN: Duration = Duration::from_secs(20);

/// Runs the demo.
pub(super) async fn play(consul: &Api, clock: Clock) -> anyhow::Result<Exit> {
    let (_none, lines) = async_channel::bounded(1);
    let mut show = Show::new(clock, lines, Vec::new());
    let lab = Lab::new()?;
    let stage = Stage::new(consul)?;
    show.tell("network", format_args!("namespaces {}, …", lab.namespace("client")));
    let mut routers = Vec::new();
    for (nth, mode) in [(0, "primary"), (1, "secondary")] {
        let router = stage.router(NAMES[nth], None).await?;
        for node in lab.nodes(nth, &format!("-m {mode} -group demo")) {
            stage.run(NAMES[nth], &node).await?;
            show.tell(NAMES[nth], node);
        }
        routers.push(router);
        if nth == 0 {
            // The primary has the lease before there is another router.
            until("router-a acts", || async {
                let verify = stage.script(NAMES[0], "node_event -i 1 -e verify").await;
                verify.is_ok_and(|output| output.status.success())
            })
            .await?;
        }
    }
    let client = Client { pings: Pings::new(&lab, EVERY)?, lab: &lab };
    show.check(client.reaches(0).await, "the client reaches the server by router-a")?;

    show.act("the primary's node dies").await;
    let before = client.pings.sent();
    lab.set_links(0, "down")?;
    routers[0].kill().await?;
    show.tell(NAMES[0], "is killed (kill -9), and its links are down");
    show.check(client.reaches(1).await, "the client reaches it by router-b")?;
    let lost = client.lost(before).await;
    show.tell("client", format_args!("goes by router-b: {lost} pings lost, one each {EVERY:?}"));

    show.act("it comes back, and is well for 3 s").await;
    let before = client.pings.sent();
    lab.set_links(0, "up")?;
    routers[0] = stage.router(NAMES[0], None).await?;
    show.tell(NAMES[0], "serves again, with the nodes that it had");
    show.check(client.reaches(0).await, "the routes return to router-a")?;
    let lost = client.lost(before).await;
    show.tell("client", format_args!("goes by router-a again: {lost} pings lost"));
    show.check(lost == 0, "a handover that is asked for loses nothing")?;

    show.act("the primary's server is stopped, for an upgrade").await;
    let before = client.pings.sent();
    let pid = routers[0].id().and_then(|id| Pid::from_raw(id.cast_signed()));
    kill_process(pid.context("router-a runs")?, Signal::TERM)?;
    show.tell(NAMES[0], "is told to stop (SIGTERM), and its node forwards on");
    show.check(client.reaches(1).await, "the client reaches it by router-b")?;
    let lost = client.lost(before).await;
    show.tell("client", format_args!("goes by router-b: {lost} pings lost"));
    show.check(lost == 0, "a stop loses nothing")?;
    show.end();
    Ok(Exit::Clean)
}

/// The client and its routes.
struct Client<'a> {
    pings: Pings,
    lab: &'a Lab,
}

impl Client<'_> {
    /// Returns whether the routes lead to a router, and pings are answered, in time.
    async fn reaches(&self, nth: usize) -> bool {
        let reaches = || async {
            if !self.lab.leads_to(nth) {
                return false;
            }
            let sent = self.pings.sent();
            tokio::time::sleep(ROUND_TRIP).await;
            self.pings.missing(sent..sent + 1) == 0 && self.pings.sent() > sent
        };
        until("", reaches).await.is_ok()
    }

    /// Returns how many pings since this number are lost.
    async fn lost(&self, since: u64) -> usize {
        let sent = self.pings.sent();
        tokio::time::sleep(ROUND_TRIP).await;
        self.pings.missing(since..sent)
    }
}

/// Waits until a condition holds.
async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) -> anyhow::Result<()> {
    let waits = async {
        while !is_so().await {
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::time::timeout(WITHIN, waits).await.with_context(|| what.to_owned())
}
