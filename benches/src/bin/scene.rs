//! `scene NAME TIMES` repeats a scene, for a counter of instructions.

use anyhow::{Context as _, bail};
use hax_benches::peers::Peers;
use hax_benches::rig::Rig;
use hax_benches::{scenes, shapes};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, times] = &args[..] else { bail!("scene NAME TIMES") };
    let times: u64 = times.parse().context("TIMES")?;
    match name.as_str() {
        "entrypoint" => entrypoint(times),
        "question" => question(times),
        "event" => event(times),
        "payload" => payload(times),
        "broadcast" => broadcast(times),
        _ => bail!("{name}: there is no such scene"),
    }
    Ok(())
}

fn rig() -> Rig {
    Rig::new(&shapes::with(3, 4, 4))
}

/// Repeats a storm of 1,000 requests.
fn entrypoint(times: u64) {
    let mut rig = rig();
    for _ in 0..times {
        scenes::storm(&mut rig, 1_000);
    }
}

/// Repeats a question for 1,024 states.
fn question(times: u64) {
    let mut rig = rig();
    let process = rig.processes(0)[0];
    let link = rig.link(process);
    rig.rest();
    let objects = scenes::objects(&rig, 1024);
    let probes = scenes::probes(&mut rig, link, process);
    for _ in 0..times {
        let question = scenes::question(&mut rig, link, process, &objects);
        scenes::nvec_get(&mut rig, question, &probes);
    }
}

/// Repeats a process event.
fn event(times: u64) {
    let mut rig = rig();
    let process = rig.processes(0)[0];
    let link = rig.link(process);
    rig.rest();
    for nth in 0..times {
        scenes::process_event(&mut rig, link, process, nth);
    }
}

/// Repeats a payload of 100 instances.
fn payload(times: u64) {
    let mut rig = rig();
    let body = scenes::payload(&mut rig, 100);
    for _ in 0..times {
        scenes::post(&mut rig, &body);
    }
}

/// Repeats a message of 1,024 notes to 20 links.
fn broadcast(times: u64) {
    let mut peers = Peers::new(20);
    for _ in 0..times {
        scenes::wire_broadcast(&mut peers);
    }
}
