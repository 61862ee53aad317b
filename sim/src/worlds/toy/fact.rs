//! What a counter reports.

use std::fmt;
use std::time::Duration;

use hax_core::base::fact::{Kind, Level, Metric, Report};
use hax_core::machine::Failure;

macro_rules! facts {
    ($($name:ident $text:literal,)*) => {
        /// One thing that a counter did or saw.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the text says it")]
        pub enum Fact {
            $($name,)*
        }

        impl fmt::Display for Fact {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$name => $text,)* })
            }
        }

        impl Report for Fact {
            const KINDS: &'static [Kind] =
                &[$(Kind { name: stringify!($name), level: Level::Debug }),*];
            const LATENCIES: &'static [Metric] = &[];

            fn nth(&self) -> usize {
                *self as usize
            }

            fn took(&self) -> Option<(usize, Duration)> {
                None
            }
        }
    };
}

facts! {
    Asked "an increment is asked for",
    Committed "an increment is written",
    Found "an increment had been written before",
    Conflict "somebody else has counted meanwhile",
    Failed "Consul gives no answer",
    Retried "an increment is begun again",
    Refused "there are too many increments",
    NotFound "there is no such route",
    Gained "the lease is held from now on",
    Lost "the lease is held no more",
    Lapsed "the lease may be held no more",
    Proved "the lease is held still",
    Stepped "a step is taken",
    StepFailed "a step has failed",
    StepEnded "a step is ended, as the lease may be held no more",
    StepVoid "a step counts no more, as the lease was lost meanwhile",
    TallyFailed "the tally cannot be read or written",
    Stopping "a stop has begun",
    Left "a stop leaves increments undone",
}

impl From<Failure> for Fact {
    fn from(_: Failure) -> Self {
        Self::Failed
    }
}
