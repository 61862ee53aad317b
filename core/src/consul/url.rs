//! Paths of Consul's API.

use alloc::format;
use alloc::string::String;

/// More than the options of a reading take.
const OPTIONS: usize = "?recurse&consistent".len();

/// Where transactions go.
pub const TXN: &str = "/v1/txn";

/// Where we ask the agent about itself.
pub const AGENT: &str = "/v1/agent/self";

/// Where a service of ours is registered with the agent.
pub const REGISTER: &str = "/v1/agent/service/register";

/// Where a session is made.
pub const CREATE_SESSION: &str = "/v1/session/create";

/// The same, answered by the servers' leader once it is sure that it leads.
#[must_use]
pub fn consistent(mut target: String) -> String {
    target.push_str(if target.contains('?') { "&consistent" } else { "?consistent" });
    target
}

/// Where one key is.
#[must_use]
pub fn key(key: &str) -> String {
    below("/v1/kv/", key, true)
}

/// Where all entries below a prefix are.
#[must_use]
pub fn tree(prefix: &str) -> String {
    key(prefix) + "?recurse"
}

/// Where the names of all keys below a prefix are.
#[must_use]
pub fn keys(prefix: &str) -> String {
    key(prefix) + "?keys"
}

/// Where one key is read, as it is in Consul now.
#[must_use]
pub fn read(of: &str) -> String {
    consistent(key(of))
}

/// Where the catalog has a service's instances.
#[must_use]
pub fn service(name: &str) -> String {
    below("/v1/catalog/service/", name, false)
}

/// Where those instances of a service are whose checks pass.
#[must_use]
pub fn passing(service: &str) -> String {
    below("/v1/health/service/", service, false) + "?passing"
}

/// Where a check of ours is told that it passes.
#[must_use]
pub fn pass(check: &str) -> String {
    below("/v1/agent/check/pass/", check, false)
}

/// Where a service of ours is taken from the agent.
#[must_use]
pub fn deregister(service: &str) -> String {
    below("/v1/agent/service/deregister/", service, false)
}

/// Where a session is described.
#[must_use]
pub fn session(id: &str) -> String {
    below("/v1/session/info/", id, false)
}

/// Where a session is ended.
#[must_use]
pub fn destroy_session(id: &str) -> String {
    below("/v1/session/destroy/", id, false)
}

/// Where a key's lock is taken by a session.
#[must_use]
pub fn acquire(of: &str, session: &str) -> String {
    format!("{}?acquire={}", key(of), encode(session))
}

/// Where a key's lock is given back by a session.
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

/// A name below a path, with room for what is asked of it: questions ask for these all the time.
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
