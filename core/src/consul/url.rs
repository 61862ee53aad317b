//! Paths of Consul's API.

use alloc::format;
use alloc::string::String;

/// Where transactions go.
pub const TXN: &str = "/v1/txn";

/// Where one key is.
#[must_use]
pub fn key(key: &str) -> String {
    let mut target = String::from("/v1/kv/");
    encode_into(&mut target, key, true);
    target
}

/// Where one key is read, as it is in Consul now.
#[must_use]
pub fn read(of: &str) -> String {
    key(of) + "?consistent"
}

/// Percent-encodes one segment of a path.
#[must_use]
pub fn encode(segment: &str) -> String {
    let mut text = String::with_capacity(segment.len());
    encode_into(&mut text, segment, false);
    text
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
    }
}
