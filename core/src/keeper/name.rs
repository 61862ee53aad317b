//! The names of instances and services.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

/// The maximum length of a name, in bytes. A file name made of it and a suffix stays below the limit of
/// Linux.
const MAX: usize = 128;

/// Returns whether the text has 1 to [`MAX`] letters, digits, `.`, `_` and `-`, and does not begin with `.`.
/// Such a text is a valid file name on any system.
fn is_plain(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(allowed)
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Creates the name from a text. Returns none if the text is not a valid name.
            #[must_use]
            pub fn new(text: &str) -> Option<Self> {
                is_plain(text).then(|| Self(text.into()))
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
                Self::new(&text).ok_or_else(|| {
                    format!("{text:?} is no name: 1 to {MAX} letters, digits, '.', '_' and '-', no '.' first")
                })
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
    /// The id of one life of a service on this node. The client that starts it chooses the id, and never uses
    /// it again for another life.
    InstanceId;
    /// The name of a service. It is an exclusive right on this node: at most one living instance holds it at
    /// a time.
    ServiceName;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_plain_word_that_no_folder_minds() {
        for name in ["a", "web-1.2_b", &"a".repeat(MAX)] {
            assert!(InstanceId::new(name).is_some(), "{name}");
        }
        for name in ["", ".", "..", ".a", "a/b", "a b", "é", "a\0", "a\n", &"a".repeat(MAX + 1)] {
            assert!(ServiceName::new(name).is_none(), "{name}");
        }
        let why = serde_json::from_str::<InstanceId>(r#""a/b""#).unwrap_err();
        assert!(alloc::string::ToString::to_string(&why).contains("is no name"), "{why}");
    }
}
