//! Durations and rates as operators write them: `500ms`, `10s`, `5 in 300s`.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest duration: a week, as for the keeper.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// A duration with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

impl Span {
    /// Returns a duration of whole seconds.
    #[must_use]
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// Returns the duration in milliseconds.
    #[must_use]
    pub fn millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let unit = text.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = text[..unit].parse().ok()?;
        let ms = match &text[unit..] {
            "ms" => number,
            "s" => number.checked_mul(1_000)?,
            "m" => number.checked_mul(60_000)?,
            "h" => number.checked_mul(3_600_000)?,
            _ => return None,
        };
        Some(Self(Duration::from_millis(ms))).filter(|span| span.0 <= LONGEST)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.millis() {
            ms if ms % 1_000 != 0 => write!(f, "{ms}ms"),
            ms => write!(f, "{}s", ms / 1_000),
        }
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let why = || {
            format!(
                "{text:?}: a duration is a number with a unit, 500ms, 10s, 5m, 1h; up to a week"
            )
        };
        Self::parse(&text).ok_or_else(why)
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        format!("{span}")
    }
}

/// The condition under which restarts end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum GiveUp {
    /// Restarts never end.
    Never,
    /// Restarts end after so many short lives within this time.
    After {
        /// The number of short lives.
        lives: u32,
        /// The time.
        within: Span,
    },
}

impl Default for GiveUp {
    fn default() -> Self {
        Self::After { lives: 5, within: Span::secs(300) }
    }
}

impl TryFrom<String> for GiveUp {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self::Never);
        }
        let parts = text.split_once(" in ").and_then(|(lives, within)| {
            let lives = lives.trim().parse().ok().filter(|lives| (1..=100).contains(lives))?;
            Some(Self::After { lives, within: Span::parse(within)? })
        });
        parts.ok_or_else(|| {
            format!("{text:?}: \"never\", or 1 to 100 lives in a time: \"5 in 300s\"")
        })
    }
}

impl From<GiveUp> for String {
    fn from(rule: GiveUp) -> Self {
        match rule {
            GiveUp::Never => "never".into(),
            GiveUp::After { lives, within } => format!("{lives} in {within}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit() {
        for (text, ms) in
            [("0s", 0), ("500ms", 500), ("10s", 10_000), ("2m", 120_000), ("1h", 3_600_000)]
        {
            let span = Span::try_from(String::from(text)).unwrap();
            assert_eq!(span.millis(), ms);
            assert_eq!(Span::try_from(String::from(span)), Ok(span), "{text}");
        }
        for text in ["", "1", "s", "-1s", "1d", "1.5s", "169h", "99999999999999999999s"] {
            assert!(Span::try_from(String::from(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_is_a_number_in_a_time() {
        for text in ["never", "5 in 300s", "1 in 500ms"] {
            assert_eq!(String::from(GiveUp::try_from(String::from(text)).unwrap()), text);
        }
        for text in ["", "5", "0 in 1s", "101 in 1s", "5 in", "5 in 1"] {
            assert!(GiveUp::try_from(String::from(text)).is_err(), "{text}");
        }
    }
}
