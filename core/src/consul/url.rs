//! The paths of Consul's API.

use alloc::format;
use alloc::string::String;

/// The length of the longest options of a read.
const OPTIONS: usize = "?recurse&consistent".len();

/// The path of transactions.
pub const TXN: &str = "/v1/txn";

/// The path of the agent's own description.
pub const AGENT: &str = "/v1/agent/self";

/// The path for registering a service with the agent.
pub const REGISTER: &str = "/v1/agent/service/register";

/// The path for creating a session.
pub const CREATE_SESSION: &str = "/v1/session/create";

/// Adds the option of a consistent read: the servers' leader responds after it has verified that it leads.
#[must_use]
pub fn consistent(mut target: String) -> String {
    target.push_str(if target.contains('?') { "&consistent" } else { "?consistent" });
    target
}

/// Returns the path of one key.
#[must_use]
pub fn key(key: &str) -> String {
    below("/v1/kv/", key, true)
}

/// Returns the path of all entries below a prefix.
#[must_use]
pub fn tree(prefix: &str) -> String {
    key(prefix) + "?recurse"
}

/// Returns the path of the names of all keys below a prefix.
#[must_use]
pub fn keys(prefix: &str) -> String {
    key(prefix) + "?keys"
}

/// Returns the path of a consistent read of one key.
#[must_use]
pub fn read(of: &str) -> String {
    consistent(key(of))
}

/// Returns the path of a service's instances in the catalog.
#[must_use]
pub fn service(name: &str) -> String {
    below("/v1/catalog/service/", name, false)
}

/// Returns the path of the instances of a service with passing checks.
#[must_use]
pub fn passing(service: &str) -> String {
    below("/v1/health/service/", service, false) + "?passing"
}

/// Returns the path for reading all instances of a service with their checks.
#[must_use]
pub fn health(service: &str) -> String {
    below("/v1/health/service/", service, false)
}

/// Returns the path for setting a check of ours to passing.
#[must_use]
pub fn pass(check: &str) -> String {
    below("/v1/agent/check/pass/", check, false)
}

/// Returns the path for deregistering a service from the agent.
#[must_use]
pub fn deregister(service: &str) -> String {
    below("/v1/agent/service/deregister/", service, false)
}

/// Returns the path of a session's description.
#[must_use]
pub fn session(id: &str) -> String {
    below("/v1/session/info/", id, false)
}

/// Returns the path for destroying a session.
#[must_use]
pub fn destroy_session(id: &str) -> String {
    below("/v1/session/destroy/", id, false)
}

/// Returns the path for acquiring a key's lock for a session.
#[must_use]
pub fn acquire(of: &str, session: &str) -> String {
    format!("{}?acquire={}", key(of), encode(session))
}

/// Returns the path for releasing a key's lock of a session.
#[must_use]
pub fn release(of: &str, session: &str) -> String {
    format!("{}?release={}", key(of), encode(session))
}

/// Percent-encodes one segment of a path.
#[must_use]
pub fn encode(segment: &str) -> String {
    let mut text = String::with_capacity(segment.len());
    encode_into(&mut text, segment, false);
    text
}

/// Returns the path of a name below a path, with room for options: it is called for every read.
fn below(path: &str, name: &str, slashes: bool) -> String {
    let mut target = String::with_capacity(path.len() + name.len() + OPTIONS);
    target.push_str(path);
    encode_into(&mut target, name, slashes);
    target
}

fn encode_into(text: &mut String, path: &str, slashes: bool) {
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => {
                text.push(char::from(byte));
            }
            b'/' if slashes => text.push('/'),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place() {
        assert_eq!(read("a b/c?d"), "/v1/kv/a%20b/c%3Fd?consistent");
        assert_eq!(encode("a/b"), "a%2Fb");
        assert_eq!(release("a b", "c&d"), "/v1/kv/a%20b?release=c%26d");
    }
}
