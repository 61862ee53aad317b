//! Fuzzing of Consul's answers to a node.

use bytes::Bytes;
use hax_core::consul::port::{Answer, Unanswered};

use super::node::Host;
use super::script::Script;

/// The maximum number of steps in one run.
const STEPS: usize = 200;
const STATUSES: [u16; 6] = [200, 200, 404, 409, 429, 500];
/// The keys for writes of another writer.
const KEYS: [&str; 8] = [
    "leader",
    "processes/0x7200000000000001:0x1",
    "m0conf/nodes/ssu1/processes/1/services/confd",
    "m0conf/nodes/ssu1/processes/2/endpoint",
    "bq/1",
    "bq/2",
    "epoch",
    "bq-delivered/ssu1",
];
const TARGETS: [&str; 6] = [
    "/",
    "/watcher/bq",
    "/watcher/processes",
    "/status",
    "/v1/cluster/status",
    "/v1/events/subscribe",
];

/// Gives a node arbitrary answers of Consul: sometimes the true answer, sometimes nearly the true one.
///
/// # Panics
///
/// If a rule for a node is broken, or it does not stop.
pub fn consul(data: &[u8]) {
    let mut host = Host::new();
    let mut script = Script(data);
    for _ in 0..STEPS {
        if script.is_over() || host.has_exited() {
            break;
        }
        step(&mut host, &mut script);
    }
    host.stop();
}

fn step(host: &mut Host, script: &mut Script<'_>) {
    let kind = script.byte() % 8;
    match kind {
        0 => host.advance(1_000 << (script.byte() % 16)),
        1 => host.settle(),
        2 => {
            let key = KEYS[script.below(KEYS.len())];
            host.write(key, script.until(0xff));
        }
        3 => {
            let target = TARGETS[script.below(TARGETS.len())];
            let method = if script.byte().is_multiple_of(4) { "GET" } else { "POST" };
            host.request(method, target, script.until(0xff));
        }
        _ => {
            let calls = host.calls();
            let Some(id) = calls.get(script.below(calls.len())).copied() else { return };
            let result = match kind {
                4 => Err(unanswered(script)),
                5 => Ok(lie(script)),
                _ => match host.truth(id) {
                    Some(answer) => Ok(nearly(script, answer)),
                    None => return,
                },
            };
            host.reply(id, result);
        }
    }
}

fn unanswered(script: &mut Script<'_>) -> Unanswered {
    const WHY: [Unanswered; 4] =
        [Unanswered::TimedOut, Unanswered::Refused, Unanswered::Broken, Unanswered::TooLarge];
    WHY[script.below(4)]
}

fn lie(script: &mut Script<'_>) -> Answer {
    let (status, index) = (STATUSES[script.below(STATUSES.len())], script.number());
    Answer { status, index, body: Bytes::copy_from_slice(script.until(0xff)) }
}

/// Changes the true answer: some bytes differ, or it is truncated, or bytes are inserted in its middle, or it
/// has another index.
fn nearly(script: &mut Script<'_>, answer: Answer) -> Answer {
    let mut body = answer.body.to_vec();
    let mut index = answer.index;
    for _ in 0..script.byte() % 4 {
        let at = script.u16() % (body.len() + 1);
        match script.byte() % 4 {
            0 => body.truncate(at),
            1 => index = index.wrapping_add(script.number()),
            2 => drop(body.splice(at..at, script.until(0xff).iter().copied())),
            _ => body.iter_mut().skip(at).take(1).for_each(|byte| *byte = script.byte()),
        }
    }
    Answer { index, body: body.into(), ..answer }
}
