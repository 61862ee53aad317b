//! A redundancy node: one route or all routes of one route table, and the properties that decide whether an
//! event acts on it.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use super::provider::Provider;

/// The index of a redundancy node: 1 to 1023.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Index(u16);

impl Index {
    /// The highest index.
    pub const MAX: u16 = 1023;

    /// Returns the index with this number, if the number is valid.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number >= 1 && number <= Self::MAX { Some(Self(number)) } else { None }
    }

    /// Returns the index as a number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Returns the indexes from this one to `last`, inclusive.
    pub fn to(self, last: Self) -> impl Iterator<Item = Self> {
        (self.0..=last.0).map(Self)
    }
}

impl TryFrom<u16> for Index {
    type Error = NotAnIndex;

    fn try_from(number: u16) -> Result<Self, NotAnIndex> {
        Self::new(number).ok_or(NotAnIndex)
    }
}

impl From<Index> for u16 {
    fn from(index: Index) -> Self {
        index.0
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The error of a text or number that is not an index of a redundancy node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnIndex;

impl fmt::Display for NotAnIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an index is a number from 1 to 1023, without a sign or leading zeros")
    }
}

impl FromStr for Index {
    type Err = NotAnIndex;

    /// Refuses `01`, since it could be mistaken for another node than `1`.
    fn from_str(text: &str) -> Result<Self, NotAnIndex> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        let number = if is_plain { text.parse().ok() } else { None };
        number.and_then(Self::new).ok_or(NotAnIndex)
    }
}

/// The mode of this router for one redundancy node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The route leads to this router while all is well.
    Primary,
    /// The route leads to this router while the other router is down.
    Secondary,
}

impl Mode {
    /// Returns the mode's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }

    /// Returns the mode with this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Self::Primary, Self::Secondary].into_iter().find(|mode| mode.name() == name)
    }
}

/// The routes of a table that a redundancy node covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The route in the parameter `route`.
    One,
    /// All routes of the table.
    All,
}

/// The parameters of a redundancy node, by the names under which they are stored.
pub type Parameters = BTreeMap<&'static str, Box<str>>;

/// A redundancy node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The provider of the route table.
    pub provider: Provider,
    /// The mode of this router. None means secondary.
    pub mode: Option<Mode>,
    /// The parameters, all of them parameters of the provider.
    pub parameters: Parameters,
}

impl Node {
    /// Creates a redundancy node without parameters.
    #[must_use]
    pub const fn new(provider: Provider) -> Self {
        Self { provider, mode: None, parameters: BTreeMap::new() }
    }

    /// Returns the mode of this router.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or(Mode::Secondary)
    }

    /// Returns the group whose lease is required to act on this node.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.parameters.get("group").map(|name| &**name)
    }

    /// Returns the routes that the node covers. If the provider's nodes may cover all routes, a node without
    /// a route covers all.
    #[must_use]
    pub fn scope(&self) -> Scope {
        let may_be_all = matches!(self.provider, Provider::Aws | Provider::Azure(_));
        if may_be_all && !self.parameters.contains_key("route") { Scope::All } else { Scope::One }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r22_an_index_is_a_plain_number_from_1_to_1023() {
        for text in ["1", "9", "10", "1023"] {
            assert_eq!(alloc::format!("{}", text.parse::<Index>().unwrap()), text);
        }
        for text in
            ["", "0", "1024", "-1", "+1", "x", "01", "1 ", " 1", "1.0", "65537", "99999999999", "١"]
        {
            assert_eq!(text.parse::<Index>(), Err(NotAnIndex), "{text}");
        }
    }
}
