//! A redundancy node: one route, or all routes, of one route table, and what decides whether an event acts on it.

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

    /// The index with this number, if it is one.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number >= 1 && number <= Self::MAX { Some(Self(number)) } else { None }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// From this index to that one, both included.
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

/// What is no index of a redundancy node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnIndex;

impl fmt::Display for NotAnIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an index is a number from 1 to 1023, without a sign or leading zeros")
    }
}

impl FromStr for Index {
    type Err = NotAnIndex;

    /// `01` is refused: it could be taken for another node than `1`.
    fn from_str(text: &str) -> Result<Self, NotAnIndex> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        let number = if is_plain { text.parse().ok() } else { None };
        number.and_then(Self::new).ok_or(NotAnIndex)
    }
}

/// Which of the two routers this one is, for one redundancy node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The route leads here while all is well.
    Primary,
    /// The route leads here while the other router is away.
    Secondary,
}

impl Mode {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }

    /// The mode of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Self::Primary, Self::Secondary].into_iter().find(|mode| mode.name() == name)
    }
}

/// Which routes of its table a redundancy node stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The one that its parameter `route` names.
    One,
    /// All of them.
    All,
}

/// The parameters of a redundancy node, by the names under which they are stored.
pub type Parameters = BTreeMap<&'static str, Box<str>>;

/// A redundancy node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Who has the route table.
    pub provider: Provider,
    /// Which router this is; one that was not told is the secondary.
    pub mode: Option<Mode>,
    /// The parameters that its provider knows.
    pub parameters: Parameters,
}

impl Node {
    /// Without parameters.
    #[must_use]
    pub const fn new(provider: Provider) -> Self {
        Self { provider, mode: None, parameters: BTreeMap::new() }
    }

    /// Which router this is.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or(Mode::Secondary)
    }

    /// The group under whose lease it is acted on.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.parameters.get("group").map(|name| &**name)
    }

    /// Which routes it stands for. Where a provider's nodes stand for all, that is said by leaving out the route.
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
