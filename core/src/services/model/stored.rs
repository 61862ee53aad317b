//! Records in Consul: JSON objects with a version.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::FORM;

/// The reason why a record cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// A later version of hax wrote the record. It is left as it is.
    Newer(u32),
    /// The record cannot be parsed.
    Damaged(Box<str>),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer(v) => write!(f, "it has version {v}, and this hax knows version {FORM}"),
            Self::Damaged(why) => f.write_str(why),
        }
    }
}

/// Parses a record.
///
/// # Errors
///
/// The record has a later version, or cannot be parsed.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unusable> {
    /// The field that every version has.
    #[derive(Deserialize)]
    struct Head {
        v: u32,
    }
    let damaged = |why: serde_json::Error| Unusable::Damaged(format!("{why}").into());
    let Head { v } = serde_json::from_slice(bytes).map_err(damaged)?;
    if v > FORM {
        return Err(Unusable::Newer(v));
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

/// Returns the text of a record.
///
/// # Panics
///
/// Never: every record can be serialized.
pub fn encode(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("plain data")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Record {
        a: u8,
    }

    #[test]
    fn a_later_version_is_told_from_a_damaged_record() {
        assert_eq!(decode(br#"{"v":1,"a":7}"#), Ok(Record { a: 7 }));
        assert_eq!(decode::<Record>(br#"{"v":2,"b":[]}"#), Err(Unusable::Newer(2)));
        for text in ["", "{", "[]", r#"{"a":1}"#, r#"{"v":1}"#, r#"{"v":-1,"a":1}"#] {
            let found = decode::<Record>(text.as_bytes());
            assert!(matches!(found, Err(Unusable::Damaged(_))), "{text}");
        }
    }
}
