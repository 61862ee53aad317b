//! Facts: a machine's reports of its actions and observations.
//!
//! A fact has three uses. It is a line of the log, a counter of `/metrics`, and a mark that the simulator
//! must hit. The text is for the log, the name of the kind for the counter.

use core::fmt;
use core::time::Duration;

/// The importance of a fact for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// One fact for each message.
    Trace,
    /// Useful for the analysis of a problem.
    Debug,
    /// A change of state that an operator wants to see in the log.
    Info,
    /// An operator should investigate.
    Warn,
    /// The daemon stops, or cannot do its work.
    Error,
}

/// The facts of a machine, for the host's log and counters.
pub trait Report: fmt::Display {
    /// All kinds.
    const KINDS: &'static [Kind];

    /// The metrics for the durations in some facts.
    const LATENCIES: &'static [Metric];

    /// Returns the index of the fact's kind in [`KINDS`](Self::KINDS).
    fn nth(&self) -> usize;

    /// Returns the duration in the fact, with the index of its metric in [`LATENCIES`](Self::LATENCIES).
    fn took(&self) -> Option<(usize, Duration)>;
}

/// A series of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The name, `hax_…`.
    pub name: &'static str,
    /// The meaning, in one sentence.
    pub help: &'static str,
}

/// A kind of facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The name in the source, used as the label of the counter.
    pub name: &'static str,
    /// The importance.
    pub level: Level,
    /// The machine of the facts, as a label of the counter and a field of the line; empty for the node's own.
    pub machine: &'static str,
}

/// Returns the kinds of two machines behind one host.
///
/// # Panics
///
/// At compile time, if `N` is not the number of both.
#[must_use]
pub const fn joined<const N: usize>(first: &[Kind], second: &[Kind]) -> [Kind; N] {
    assert!(N == first.len() + second.len(), "N is the number of both");
    let mut all = [first[0]; N];
    let mut at = 0;
    while at < N {
        all[at] = if at < first.len() { first[at] } else { second[at - first.len()] };
        at += 1;
    }
    all
}

/// Declares a machine's facts: `enum Fact` with a text for each variant, and `enum FactKind` for the kinds
/// without fields. The machine adds its own `impl Report for Fact`. All but the node begin with their name.
///
/// ```
/// use hax_core::base::fact::Level;
///
/// hax_core::facts! {
///     "counter";
///     /// The count has changed.
///     Info Counted { n: u64 } "the count is {n}{round}", round = if n % 10 == 0 { ", a round number" } else { "" };
/// }
/// assert_eq!(Fact::Counted { n: 20 }.to_string(), "the count is 20, a round number");
/// assert_eq!(FactKind::Counted.level(), Level::Info);
/// ```
#[macro_export]
macro_rules! facts {
    ($($machine:literal;)? $($(#[$doc:meta])* $level:ident $kind:ident { $($field:ident: $ty:ty),* }
        $text:literal $(, $word:ident = $said:expr)*;)*) => {
        /// An action or observation of the machine.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each variant's text says what its fields are")]
        pub enum Fact {
            $($(#[$doc])* $kind { $($field: $ty),* },)*
        }

        /// The kinds of facts, without their fields.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FactKind {
            $($(#[$doc])* $kind,)*
        }

        impl FactKind {
            /// All kinds, in the order of declaration; `kind as usize` is the index.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// The kind's name, as in the source.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => stringify!($kind),)* }
            }

            /// The names and levels of all kinds, for [`Report`]($crate::base::fact::Report).
            pub const KINDS: &'static [$crate::base::fact::Kind] = &[$($crate::base::fact::Kind {
                name: stringify!($kind),
                level: $crate::base::fact::Level::$level,
                machine: Self::MACHINE,
            }),*];

            const MACHINE: &'static str = concat!("", $($machine)?);

            /// Returns the importance.
            #[must_use]
            pub const fn level(self) -> $crate::base::fact::Level {
                match self { $(Self::$kind => $crate::base::fact::Level::$level,)* }
            }
        }

        impl Fact {
            /// Returns the kind.
            #[must_use]
            pub const fn kind(&self) -> FactKind {
                match self { $(Self::$kind { .. } => FactKind::$kind,)* }
            }
        }

        impl core::fmt::Display for Fact {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self {
                    $(Self::$kind { $($field),* } => write!(f, $text $(, $word = $said)*),)*
                }
            }
        }
    };
}
