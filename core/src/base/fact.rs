//! What a machine reports that it did or saw.
//!
//! A fact has three uses: it is a line of the log, a counter of `/metrics` and a mark that the simulator
//! must hit. The text is the log's; the kind's name is the counter's.

use core::fmt;
use core::time::Duration;

/// How much a fact matters to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// One for each message.
    Trace,
    /// Of use when something is being looked for.
    Debug,
    /// A change of state that an operator wants to see in the log.
    Info,
    /// Somebody should look at it.
    Warn,
    /// The daemon stops, or cannot do what it is for.
    Error,
}

/// The facts of a machine, as a host logs and counts them.
pub trait Report: fmt::Display {
    /// All kinds.
    const KINDS: &'static [Kind];

    /// What some kinds say the duration of.
    const LATENCIES: &'static [Metric];

    /// The place of its kind among [`KINDS`](Self::KINDS).
    fn nth(&self) -> usize;

    /// How long what it reports has taken, with the place of that among [`LATENCIES`](Self::LATENCIES).
    fn took(&self) -> Option<(usize, Duration)>;
}

/// A series of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name, `hax_…`.
    pub name: &'static str,
    /// What it means, in a sentence.
    pub help: &'static str,
}

/// A kind of facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// As in the source; the label of its counter.
    pub name: &'static str,
    /// How much it matters.
    pub level: Level,
}

/// Declares a machine's facts: `enum Fact`, with a text for each, and `enum FactKind`, their kinds without
/// fields. `impl Report for Fact` stands beside it.
///
/// ```
/// use hax_core::base::fact::Level;
///
/// hax_core::facts! {
///     /// The count has changed.
///     Info Counted { n: u64 } "the count is {n}{round}", round = if n % 10 == 0 { ", a round number" } else { "" };
/// }
/// assert_eq!(Fact::Counted { n: 20 }.to_string(), "the count is 20, a round number");
/// assert_eq!(FactKind::Counted.level(), Level::Info);
/// ```
#[macro_export]
macro_rules! facts {
    ($($(#[$doc:meta])* $level:ident $kind:ident { $($field:ident: $ty:ty),* }
        $text:literal $(, $word:ident = $said:expr)*;)*) => {
        /// One thing that was done or seen.
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

            /// The same with their levels, for [`Report`]($crate::base::fact::Report).
            pub const KINDS: &'static [$crate::base::fact::Kind] = &[$($crate::base::fact::Kind {
                name: stringify!($kind),
                level: $crate::base::fact::Level::$level,
            }),*];

            /// How much it matters.
            #[must_use]
            pub const fn level(self) -> $crate::base::fact::Level {
                match self { $(Self::$kind => $crate::base::fact::Level::$level,)* }
            }
        }

        impl Fact {
            /// Its kind.
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
