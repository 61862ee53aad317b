//! What is posted to a node.

use super::node::Host;
use super::script::Script;

/// The most requests of one run.
const REQUESTS: usize = 30;

/// Somebody asks whatever he likes, while Consul tells the truth. Each part of the bytes, up to a byte
/// 255, begins with a line that says what it is: `POST /watcher/bq` and any other method with its target,
/// the rest being the body; `WAIT` so many ms; or `KEY` and a key of Consul that somebody else writes.
///
/// # Panics
///
/// If a request has not one response, one that is refused changes anything, or a rule for a node is broken.
pub fn http(data: &[u8]) {
    let mut host = Host::new();
    host.settle();
    let mut script = Script(data);
    for _ in 0..REQUESTS {
        if script.is_over() || host.has_exited() {
            break;
        }
        let part = script.until(0xff);
        let end = part.iter().position(|byte| *byte == b'\n').unwrap_or(part.len());
        let body = part.get(end + 1..).unwrap_or_default();
        let line = String::from_utf8_lossy(&part[..end]);
        match line.split_once(' ').unwrap_or((&line, "/")) {
            ("WAIT", ms) => host.pass(ms.parse::<u16>().map_or(1_000, |ms| u64::from(ms) * 1_000)),
            ("KEY", key) => host.write(key, body),
            (method, target) => host.request(method, target, body),
        }
        host.settle();
        host.pass(10_000);
        host.settle();
    }
    host.stop();
}
