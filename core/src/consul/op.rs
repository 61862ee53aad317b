//! The operations of a transaction (Consul API: Transactions).

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use super::json;

/// One operation on a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// The key.
    pub key: Box<str>,
    /// The value to write; empty for a check or a read.
    pub value: Box<[u8]>,
    /// The flags to write with the value.
    pub flags: u64,
    verb: Verb,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Verb {
    /// Sets the key unless it was written since this index; with 0 unless it exists.
    Cas(u64),
    /// Rejects the transaction if the key was written since this index.
    CheckIndex(u64),
    /// Sets the key unconditionally.
    Set,
    /// Removes the key.
    Delete,
    /// Reads all keys with this prefix; an empty result is no error.
    GetTree,
    /// Removes all keys with this prefix.
    DeleteTree,
    /// Rejects the transaction unless this session holds the key's lock.
    CheckSession(Box<str>),
    /// Sets the key and takes its lock for this session.
    Lock(Box<str>),
}

impl Op {
    fn new(key: &str, value: &[u8], verb: Verb) -> Self {
        Self { key: key.into(), value: value.into(), flags: 0, verb }
    }

    /// Sets a key unless it was written since this index; with 0 unless it exists.
    #[must_use]
    pub fn cas(key: &str, value: &[u8], index: u64) -> Self {
        Self::new(key, value, Verb::Cas(index))
    }

    /// Sets a key unconditionally.
    #[must_use]
    pub fn set(key: &str, value: &[u8]) -> Self {
        Self::new(key, value, Verb::Set)
    }

    /// Removes a key.
    #[must_use]
    pub fn delete(key: &str) -> Self {
        Self::new(key, &[], Verb::Delete)
    }

    /// Removes all keys with this prefix.
    #[must_use]
    pub fn delete_tree(prefix: &str) -> Self {
        Self::new(prefix, &[], Verb::DeleteTree)
    }

    /// Reads all keys with this prefix; an empty result is no error.
    #[must_use]
    pub fn get_tree(prefix: &str) -> Self {
        Self::new(prefix, &[], Verb::GetTree)
    }

    /// Rejects the transaction if the key was written since this index.
    #[must_use]
    pub fn check_index(key: &str, index: u64) -> Self {
        Self::new(key, &[], Verb::CheckIndex(index))
    }

    /// Rejects the transaction unless this session holds the key's lock.
    #[must_use]
    pub fn check_session(key: &str, session: &str) -> Self {
        Self::new(key, &[], Verb::CheckSession(session.into()))
    }

    /// Sets a key and takes its lock for this session. It rejects the transaction if another session holds
    /// the lock.
    #[must_use]
    pub fn lock(key: &str, value: &[u8], session: &str) -> Self {
        Self::new(key, value, Verb::Lock(session.into()))
    }

    /// Returns the operation with these flags.
    #[must_use]
    pub fn with_flags(self, flags: u64) -> Self {
        Self { flags, ..self }
    }

    /// Returns whether the operation is a check.
    #[must_use]
    pub fn is_check(&self) -> bool {
        matches!(self.verb, Verb::CheckIndex(_) | Verb::CheckSession(_))
    }

    /// Returns an upper bound of the length of the operation's JSON, in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no operation is empty")]
    pub fn len(&self) -> usize {
        128 + self.key.len() * 2 + self.value.len().div_ceil(3) * 4
    }

    fn write(&self, out: &mut String) {
        let key = quoted(&self.key);
        let value = || json::base64(&self.value);
        let (verb, rest) = match &self.verb {
            Verb::Cas(index) => {
                let (value, flags) = (value(), self.flags);
                ("cas", format!(r#","Value":"{value}","Flags":{flags},"Index":{index}"#))
            }
            Verb::CheckIndex(index) => ("check-index", format!(r#","Index":{index}"#)),
            Verb::Set => ("set", format!(r#","Value":"{}""#, value())),
            Verb::Delete => ("delete", String::new()),
            Verb::GetTree => ("get-tree", String::new()),
            Verb::DeleteTree => ("delete-tree", String::new()),
            Verb::CheckSession(session) => {
                ("check-session", format!(r#","Session":{}"#, quoted(session)))
            }
            Verb::Lock(session) => {
                let (value, session) = (value(), quoted(session));
                ("lock", format!(r#","Value":"{value}","Session":{session}"#))
            }
        };
        out.push_str(&format!(r#"{{"KV":{{"Verb":"{verb}","Key":{key}{rest}}}}}"#));
    }
}

/// Returns the body of a transaction.
pub fn body<'a>(ops: impl IntoIterator<Item = &'a Op>) -> String {
    let mut body = String::from("[");
    for op in ops {
        if body.len() > 1 {
            body.push(',');
        }
        op.write(&mut body);
    }
    body.push(']');
    body
}

/// Returns a text as a JSON string.
pub(crate) fn quoted(text: &str) -> Box<str> {
    format!("{}", serde_json::Value::from(text)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_key_holds_cannot_break_out() {
        let ops = [
            Op::set("a\"b\\c/ü", b"x"),
            Op::check_session("leader", "s"),
            Op::cas("k", b"", 7),
            Op::lock("l", b"v", "s\"t"),
        ];
        let text = body(&ops);
        let value: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!(value[0]["KV"]["Key"], "a\"b\\c/ü");
        assert_eq!(value[1]["KV"]["Verb"], "check-session");
        assert_eq!(value[2]["KV"]["Index"], 7);
        assert_eq!(value[3]["KV"]["Session"], "s\"t");
        assert!(text.len() <= ops.iter().map(Op::len).sum());
    }
}
