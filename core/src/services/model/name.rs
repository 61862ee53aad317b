//! The names of service types and nodes.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::keeper::name::InstanceId;

/// The maximum length of a type's name.
const TYPE_MAX: usize = 48;

/// The maximum length of a node's name.
const NODE_MAX: usize = 64;

/// The maximum length of a node's name in the id of an instance. A longer name is replaced by its digest.
const NODE_IN_ID: usize = 32;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident($allowed:expr, $rule:literal);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Creates the name from a text. Returns none if the text is not a valid name.
            #[must_use]
            pub fn new(text: &str) -> Option<Self> {
                let is_valid: fn(&str) -> bool = $allowed;
                is_valid(text).then(|| Self(text.into()))
            }

            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                Self::new(&text).ok_or_else(|| format!(concat!("{:?}: ", $rule), text))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// The name of a service type.
    TypeName(is_type, "a type's name has 1 to 48 of a-z, 0-9, '-' and '_', and begins with a letter or digit");
    /// The name of a node, as Consul knows it.
    NodeName(is_node, "a node's name has 1 to 64 letters, digits, '.', '_' and '-', and does not begin with '.'");
}

fn is_type(text: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    first && text.len() <= TYPE_MAX && text.bytes().all(allowed)
}

fn is_node(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=NODE_MAX).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(allowed)
}

/// What the id of an instance is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdParts<'a> {
    /// The type.
    pub kind: &'a TypeName,
    /// The node.
    pub node: &'a NodeName,
    /// The number of the run of hax that starts the instance.
    pub run: u64,
    /// The number of the start in that run.
    pub nth: u32,
    /// The serial number of the start that the coordinator wants.
    pub serial: u64,
}

impl IdParts<'_> {
    /// Returns the id `TYPE.NODE.RUN-NTH.SERIAL`.
    ///
    /// The run makes it unique among all starts on the node, also after a snapshot of Consul was restored and
    /// the serial numbers are used again.
    ///
    /// # Panics
    ///
    /// Never: the parts are short enough.
    #[must_use]
    pub fn id(&self) -> InstanceId {
        let Self { kind, node, run, nth, serial } = self;
        let node = match node.as_str() {
            short if short.len() <= NODE_IN_ID => String::from(short),
            long => format!("{:016x}", digest(long.as_bytes())),
        };
        InstanceId::new(&format!("{kind}.{node}.{run:x}-{nth:x}.{serial}"))
            .expect("plain and short")
    }
}

/// Returns the type and the serial number in the id of an instance. Returns none for the id of another
/// program's instance.
#[must_use]
pub fn parts_of(id: &InstanceId) -> Option<(TypeName, u64)> {
    let (kind, rest) = id.as_str().split_once('.')?;
    let (_, serial) = rest.rsplit_once('.')?;
    Some((TypeName::new(kind)?, serial.parse().ok()?))
}

/// Returns a digest of some bytes, for display and comparison. It is not for secrets (FNV-1a, 64 bits).
#[must_use]
pub fn digest(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_s_name_is_a_lower_case_word() {
        for name in ["a", "web-1_x", "0", &"a".repeat(TYPE_MAX)] {
            assert!(TypeName::new(name).is_some(), "{name}");
        }
        for name in ["", "-a", "_a", "a.b", "A", "a/b", "é", &"a".repeat(TYPE_MAX + 1)] {
            assert!(TypeName::new(name).is_none(), "{name}");
        }
        let why = serde_json::from_str::<TypeName>(r#""Web""#).unwrap_err();
        assert!(format!("{why}").contains("1 to 48"), "{why}");
    }

    #[test]
    fn h10_the_id_of_an_instance_tells_its_type_and_its_start() {
        let kind = TypeName::new(&"k".repeat(TYPE_MAX)).unwrap();
        for node in ["n", "ssu1.example.org", &"n".repeat(NODE_MAX)] {
            let node = NodeName::new(node).unwrap();
            let (run, nth, serial) = (u64::MAX, u32::MAX, u64::MAX);
            let id = IdParts { kind: &kind, node: &node, run, nth, serial }.id();
            assert_eq!(parts_of(&id), Some((kind.clone(), serial)), "{id}");
        }
        for other in ["web", "web.x", "Web.n.1-1.7", "web.n.1-1.x"] {
            assert_eq!(parts_of(&InstanceId::new(other).unwrap()), None, "{other}");
        }
    }
}
