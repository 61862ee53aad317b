//! A planned handover, asked for by the primary: its time, and the lost pings of a client.

use std::path::Path;
use std::time::Duration;

use hax_benches::rig::clock;
use hax_sim::real::{self, Options, RealConsul};
use hax_tokio::demo::lab::{Lab, Pings};

use crate::router::Router;
use crate::row::Row;
use crate::sample::{Sample, ms, pause, until};
use crate::table::skipped;

/// The interval between two pings.
const EVERY: Duration = Duration::from_millis(1);

/// The maximum round-trip time of a ping.
const ROUND_TRIP: Duration = Duration::from_millis(300);

pub(super) fn rows(hax: &Path, quick: bool) -> anyhow::Result<Vec<Row>> {
    if let Err(why) = real::binary() {
        return Ok(vec![skipped("handover", why)]);
    }
    let lab = match Lab::new() {
        Ok(lab) => lab,
        Err(why) => return Ok(vec![skipped("handover", format!("{why:#}"))]),
    };
    let consul = RealConsul::start(Options::new("router"))?;
    let routers = pair(hax, &lab, &consul)?;
    let pings = Pings::new(&lab, EVERY)?;
    let mut took = Sample::default();
    let mut lost = 0;
    let mut gap = Duration::ZERO;
    for nth in 0..if quick { 4 } else { 200 } {
        // The other router becomes the primary, and asks.
        let (to, from) = (1 - nth % 2, nth % 2);
        for (router, mode) in [(to, "primary"), (from, "secondary")] {
            for index in [1, 2] {
                routers[router].ok(&format!("set_params -i {index} -m {mode}"))?;
            }
        }
        // A router that has given the lease up is a candidate again after the hold and the check's TTL.
        until("the next router knows the holder", || routers[to].follows())?;
        let before = pings.sent();
        let _ = pings.take_gap();
        let began = clock();
        routers[to].ok("node_event -i 1 -e revert")?;
        took.add(began.elapsed());
        until("both routes lead to the next router", || lab.leads_to(to))?;
        let sent = pings.sent();
        pause(ROUND_TRIP);
        lost += pings.missing(before..sent);
        gap = gap.max(pings.take_gap());
    }
    Ok(vec![Row {
        name: "handover",
        value: ms(took.percentile(99)),
        unit: "ms",
        target: "0 lost pings, ≤ 50 ms",
        ok: lost == 0 && took.percentile(99) <= Duration::from_millis(50),
        more: format!(
            "{lost} of the pings of each ms lost in {} handovers to and fro; from the script's start to \
             its end, {}; longest time without a reply {:.1} ms; keepalived 616 ms, at 0.1 s 73 ms",
            took.len(),
            took.text(),
            ms(gap)
        ),
        ..Row::default()
    }])
}

/// Starts two routers with a group. The first one holds the lease.
fn pair(hax: &Path, lab: &Lab, consul: &RealConsul) -> anyhow::Result<[Router; 2]> {
    let at = format!("http://{}", consul.address());
    let router = |name: &str| {
        let flags = ["--consul", &at, "--name", name, "--hold", "1s", "--preempt", "off"];
        Router::new(hax, &flags)
    };
    let routers = [router("a")?, router("b")?];
    for (nth, mode) in ["primary", "secondary"].into_iter().enumerate() {
        for node in lab.nodes(nth, &format!("-m {mode} -group edge")) {
            routers[nth].ok(&node)?;
        }
        until("the first router acts", || routers[0].acts())?;
    }
    Ok(routers)
}
