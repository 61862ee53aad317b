//! Fuzzing of the requests to a node.

use super::node::Host;
use super::script::Script;

/// The maximum number of requests in one run.
const REQUESTS: usize = 30;

/// Sends arbitrary requests, while Consul gives true answers.
///
/// A byte 255 ends each part of the bytes. The first line of a part names its kind. It is `POST /watcher/bq`
/// or any other method with its target, and the rest of the part is the body; or `WAIT` with a number of ms;
/// or `KEY` with a key of Consul that another writer writes.
///
/// # Panics
///
/// If a request has not exactly one response, a refused request changes anything, or a rule for a node is
/// broken.
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
            ("WAIT", ms) => {
                host.advance(ms.parse::<u16>().map_or(1_000, |ms| u64::from(ms) * 1_000))
            }
            ("KEY", key) => host.write(key, body),
            (method, target) => host.request(method, target, body),
        }
        host.settle();
        host.advance(10_000);
        host.settle();
    }
    host.stop();
}
