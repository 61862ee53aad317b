//! The operations of a transaction (Consul API: Transactions).

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use crate::base::fid::Fid;
use crate::consul::json;
use crate::consul::replica::Table;
use crate::model::follow::Change;
use crate::model::states::ProcessWord;

/// What an operation is about: which knowledge of ours is wrong if it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// `processes/<fid>`.
    Word(Fid),
    /// The entry of an object in `m0conf/`.
    Entry(Fid),
    /// How often a process has started on our node.
    Restarts(Fid),
    /// The counter of the broadcast queue.
    Epoch,
    /// That we are the leader.
    Leader,
    /// Something that nothing is remembered of here: who wrote it hears of a refusal by itself.
    Untracked,
}

impl Target {
    /// The table that has it, of those that are held.
    pub(crate) const fn table(self) -> Option<Table> {
        match self {
            Self::Word(_) => Some(Table::Processes),
            Self::Entry(_) => Some(Table::Conf),
            Self::Restarts(_) | Self::Epoch | Self::Leader | Self::Untracked => None,
        }
    }
}

/// One operation.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) target: Target,
    pub(crate) key: Box<str>,
    pub(crate) value: Box<[u8]>,
    pub(crate) flags: u64,
    verb: Verb,
}

#[derive(Clone, Debug)]
enum Verb {
    /// Sets the key unless it was written since this index; 0: unless it exists.
    Cas(u64),
    /// Refuses the transaction if the key was written since this index.
    CheckIndex(u64),
    /// Sets the key, whatever it held.
    Set,
    /// Removes the key.
    Delete,
    /// Reads all keys with this prefix; none is no failure.
    GetTree,
    /// Refuses the transaction unless this session holds the key's lock.
    CheckSession(Box<str>),
}

impl Op {
    fn new(target: Target, key: &str, value: &[u8], verb: Verb) -> Self {
        Self { target, key: key.into(), value: value.into(), flags: 0, verb }
    }

    pub(crate) fn cas(target: Target, key: &str, value: &[u8], index: u64) -> Self {
        Self::new(target, key, value, Verb::Cas(index))
    }

    /// The word of a process as it is to be; `None` if it has no text.
    pub(crate) fn word(process: Fid, word: ProcessWord, index: u64) -> Option<Self> {
        let (key, value) = (format!("processes/{process}"), word.to_json()?);
        let op = Self::cas(Target::Word(process), &key, value.as_bytes(), index);
        Some(Self { flags: word.flags(), ..op })
    }

    /// The entry of an object as it is to be. One that is so already, as far as we know, is not
    /// written, but the transaction is refused if it is not so any more.
    pub(crate) fn entry(change: &Change) -> Self {
        let Change { object, entry, holds } = change;
        let target = Target::Entry(*object);
        match holds {
            true => Self::new(target, &entry.key, &[], Verb::CheckIndex(entry.index)),
            false => Self::cas(target, &entry.key, entry.value.as_bytes(), entry.index),
        }
    }

    /// Whether it only looks.
    pub(crate) fn is_check(&self) -> bool {
        matches!(self.verb, Verb::CheckIndex(_) | Verb::CheckSession(_))
    }

    pub(crate) fn set(key: &str, value: &[u8]) -> Self {
        Self::new(Target::Untracked, key, value, Verb::Set)
    }

    pub(crate) fn get_tree(prefix: &str) -> Self {
        Self::new(Target::Untracked, prefix, &[], Verb::GetTree)
    }

    pub(crate) fn delete(key: &str) -> Self {
        Self::new(Target::Untracked, key, &[], Verb::Delete)
    }

    /// Refuses the transaction unless `session` holds the lock `leader`.
    pub(crate) fn leads(session: &str) -> Self {
        Self::new(Target::Leader, "leader", &[], Verb::CheckSession(session.into()))
    }

    /// At least as long as its JSON, in bytes.
    pub(crate) fn len(&self) -> usize {
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
            Verb::CheckSession(session) => {
                ("check-session", format!(r#","Session":{}"#, quoted(session)))
            }
        };
        out.push_str(&format!(r#"{{"KV":{{"Verb":"{verb}","Key":{key}{rest}}}}}"#));
    }
}

/// The body of a transaction.
pub(crate) fn body<'a>(ops: impl IntoIterator<Item = &'a Op>) -> String {
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

/// Where one key is read.
pub(crate) fn read_target(key: &str) -> String {
    let mut target = String::from("/v1/kv/");
    encode_into(&mut target, key, true);
    target.push_str("?consistent");
    target
}

/// Percent-encodes one segment of a path.
pub(crate) fn encode(segment: &str) -> String {
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

/// A text as JSON.
pub(crate) fn quoted(text: &str) -> Box<str> {
    format!("{}", serde_json::Value::from(text)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_key_holds_cannot_break_out() {
        let ops = [Op::set("a\"b\\c/ü", b"x"), Op::leads("s"), Op::cas(Target::Epoch, "k", b"", 7)];
        let text = body(&ops);
        let value: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!(value[0]["KV"]["Key"], "a\"b\\c/ü");
        assert_eq!(value[1]["KV"]["Verb"], "check-session");
        assert_eq!(value[2]["KV"]["Index"], 7);
        assert!(text.len() <= ops.iter().map(Op::len).sum());
        assert_eq!(read_target("a b/c?d"), "/v1/kv/a%20b/c%3Fd?consistent");
        assert_eq!(encode("a/b"), "a%2Fb");
    }
}
