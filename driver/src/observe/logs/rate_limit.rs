//! The rate limit of the log. It keeps the log readable under attack: lines above the limit are left out and
//! counted.
//!
//! Lines that remote peers and clients can cause (the kinds of [`is_remote`], and lines without a fact)
//! share [`REMOTE_MAX`] lines a window. One of these lines is reserved for the first line of each kind.
//! The others are for lines that differ, ignoring numbers of connections and the like. Lines that only
//! Consul, Motr's library or hax itself can cause have a limit for each kind.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use hax_core::base::fact::Level as FactLevel;
use hax_core::base::time::Instant;
use hax_core::ha::fact::FactKind;
use tracing::Level;

/// The length of a window. At its end the lines left out are reported, and all counts start again.
const WINDOW: Duration = Duration::from_secs(60);

/// The maximum number of lines in a window that peers and clients cause, including the report of the lines
/// left out.
const REMOTE_MAX: u32 = 100;

/// The maximum number of lines of one kind in a window.
const KIND_MAX: u32 = 40;

/// The maximum number of lines of one kind with the same text in a window.
const SAME_MAX: u32 = 5;

/// The number of kinds of lines without a fact that have a reserved line.
const PLACES_RESERVED: u32 = 8;

/// The kinds of facts of other machines that a client can cause as often as it likes.
const REMOTE_OF_MACHINES: [&str; 3] = ["Asked", "Misunderstood", "Refused"];

/// The source of a line: a kind of fact of the node, a kind of another machine, or a place in the code.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Fact(FactKind),
    Machine(String),
    Place(&'static str),
}

impl Source {
    fn is_limited(&self, level: Level) -> bool {
        match self {
            Self::Fact(kind) => is_remote(*kind) || level <= Level::WARN,
            Self::Machine(_) => self.is_remote() || level <= Level::WARN,
            // An error ends the program, or is a panic.
            Self::Place(_) => level == Level::WARN || level == Level::INFO,
        }
    }

    fn is_remote(&self) -> bool {
        match self {
            Self::Fact(kind) => is_remote(*kind),
            Self::Machine(kind) => REMOTE_OF_MACHINES.contains(&&**kind),
            Self::Place(_) => true,
        }
    }
}

/// Returns whether a client that can reach a port can cause the fact as often as it likes. New warnings are
/// assumed to be of this kind.
const fn is_remote(kind: FactKind) -> bool {
    use FactKind as K;
    match kind.level() {
        FactLevel::Trace | FactLevel::Debug => false,
        FactLevel::Info => matches!(
            kind,
            K::LinkUnknown
                | K::LinkUp
                | K::LinkDown
                | K::LinkBack
                | K::LinkClosed
                | K::EntrypointAgain
                | K::Undelivered
                | K::OwedDropped
                | K::ProcessEvent
                | K::ProcessRestarted
                | K::DevicesSet
                | K::SnsBegun
                | K::SnsEnded
                | K::WriteConflict
                | K::HttpRefused
        ),
        FactLevel::Warn => !matches!(
            kind,
            K::RoundFailed
                | K::ProcessDied
                | K::ProcessLives
                | K::ProcessRetyped
                | K::ConfContradicts
                | K::NodeMissing
                | K::TableUnreadable
                | K::TableEmpty
                | K::ProcessMissing
                | K::LeaderLost
                | K::QueueSkipped
                | K::SpielFailed
                | K::StatisticsFailed
                | K::ConsulFailed
                | K::ConsulBadAnswer
                | K::ReplicaReset
                | K::EntrySkipped
                | K::DrainTimedOut
                | K::JournalEnded
        ),
        FactLevel::Error => matches!(kind, K::Unsendable),
    }
}

/// Returns the number of lines reserved for first lines.
fn reserved_lines() -> u32 {
    let kinds = FactKind::ALL.iter().filter(|kind| is_remote(**kind)).count();
    let kinds = kinds + REMOTE_OF_MACHINES.len();
    u32::try_from(kinds).unwrap_or(u32::MAX).saturating_add(PLACES_RESERVED)
}

/// The lines of one source in this window.
#[derive(Debug)]
struct Count {
    shown: u32,
    left_out: u64,
    level: Level,
    /// The beginning of the line, for a source without a name.
    prefix: String,
    /// The number of lines by the hash of their text.
    texts: BTreeMap<u64, u32>,
}

/// The report of the lines left out in a window.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) level: Level,
    pub(super) text: String,
}

#[derive(Debug)]
pub(super) struct RateLimit {
    window: Duration,
    /// The start of the window, if there is one.
    begun: Option<Instant>,
    kinds: BTreeMap<Source, Count>,
    /// The number of lines that peers and clients caused, beyond the first of each kind.
    remote: u32,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::new(WINDOW)
    }
}

impl RateLimit {
    /// Creates a guard with windows of this length.
    pub(super) const fn new(window: Duration) -> Self {
        Self { window, begun: None, kinds: BTreeMap::new(), remote: 0 }
    }

    /// Returns whether this line is written; otherwise it is counted.
    pub(super) fn admits(
        &mut self,
        now: Instant,
        source: Source,
        level: Level,
        text: &str,
    ) -> bool {
        if !source.is_limited(level) {
            return true;
        }
        self.begun.get_or_insert(now);
        let is_remote = source.is_remote();
        let more_max = REMOTE_MAX.saturating_sub(reserved_lines()).saturating_sub(1);
        let is_new = !self.kinds.contains_key(&source);
        let places_taken = self.kinds.keys().filter(|k| matches!(k, Source::Place(_))).count();
        let kind = self.kinds.entry(source.clone()).or_insert_with(|| Count {
            shown: 0,
            left_out: 0,
            level,
            prefix: text.chars().take(40).collect(),
            texts: BTreeMap::new(),
        });
        let has_place = match source {
            Source::Fact(_) | Source::Machine(_) => is_new,
            Source::Place(_) => is_new && places_taken < PLACES_RESERVED as usize,
        };
        if has_place {
            kind.shown = 1;
            kind.texts.insert(text_hash(text), 1);
            return true;
        }
        let has_room = kind.shown < KIND_MAX && (!is_remote || self.remote < more_max);
        if !has_room {
            kind.left_out += 1;
            return false;
        }
        let said = kind.texts.entry(text_hash(text)).or_default();
        if *said >= SAME_MAX {
            kind.left_out += 1;
            return false;
        }
        *said += 1;
        kind.shown += 1;
        self.remote += u32::from(is_remote);
        true
    }

    /// Returns the end of the window, if lines were left out in it.
    pub(super) fn window_end(&self) -> Option<Instant> {
        let any = self.kinds.values().any(|kind| kind.left_out > 0);
        self.begun.filter(|_| any).map(|begun| begun.after(self.window))
    }

    /// Ends the window if its time is over; returns the report, if lines were left out in it.
    pub(super) fn end_if_due(&mut self, now: Instant) -> Option<LeftOut> {
        let begun = self.begun?;
        if now < begun.after(self.window) { None } else { self.end_window(now) }
    }

    /// Ends the window.
    pub(super) fn end_window(&mut self, now: Instant) -> Option<LeftOut> {
        let seconds = now.since(self.begun.take()?).as_secs();
        self.remote = 0;
        let kinds = std::mem::take(&mut self.kinds);
        let mut left: Vec<_> = kinds.iter().filter(|(_, kind)| kind.left_out > 0).collect();
        left.sort_by_key(|(_, kind)| std::cmp::Reverse(kind.left_out));
        // The smallest level is the most severe.
        let level = left.iter().map(|(_, kind)| kind.level).min()?;
        let mut text = String::from("…");
        for (nth, (source, kind)) in left.iter().enumerate() {
            let and = if nth == 0 { " and" } else { "," };
            let n = thousands(kind.left_out);
            // Writing to a string does not fail.
            let _ = match source {
                Source::Fact(kind) => write!(text, "{and} {n} more of the kind {}", kind.name()),
                Source::Machine(kind) => write!(text, "{and} {n} more of the kind {kind}"),
                Source::Place(_) => write!(text, "{and} {n} more as \"{}…\"", kind.prefix),
            };
        }
        let _ = write!(text, " in the last {seconds} s are left out here; /metrics counts all");
        Some(LeftOut { level, text })
    }
}

/// Returns a hash of the line's text, without the id of its connection, link or request.
fn text_hash(text: &str) -> u64 {
    let said = match text.split_once(": ") {
        Some((id, said)) if is_id(id) => said,
        _ => text,
    };
    let mut hash = DefaultHasher::new();
    said.hash(&mut hash);
    hash.finish()
}

fn is_id(word: &str) -> bool {
    let parts = word.rsplit_once('-');
    parts.is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn level(kind: FactKind) -> Level {
        match kind.level() {
            FactLevel::Error => Level::ERROR,
            FactLevel::Warn => Level::WARN,
            FactLevel::Info => Level::INFO,
            FactLevel::Debug => Level::DEBUG,
            FactLevel::Trace => Level::TRACE,
        }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn f40_the_first_line_of_each_kind_is_seen_under_any_flood_of_the_others() {
        let mut limit = RateLimit::default();
        let lines = Cell::new(0_u32);
        let mut say = |source, level, text: &str| {
            let shown = limit.admits(at(1), source, level, text);
            lines.set(lines.get() + u32::from(shown));
            shown
        };
        let is_remote: Vec<_> =
            FactKind::ALL.iter().copied().filter(|kind| is_remote(*kind)).collect();
        // One kind after another floods the log, each line with another text.
        for kind in &is_remote {
            for n in 0..1_000 {
                let shown = say(Source::Fact(*kind), level(*kind), &format!("conn-{n}: text {n}"));
                assert!(shown || n > 0, "the first of {}", kind.name());
            }
        }
        for place in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
            for n in 0..1_000 {
                let shown = say(Source::Place(place), Level::WARN, &n.to_string());
                assert!(shown || n > 0 || place > "h", "the first of {place}");
            }
        }
        assert!((50..100).contains(&lines.get()), "{}", lines.get());
        for n in 0..1_000 {
            let shown = say(Source::Machine("Refused".into()), Level::INFO, &n.to_string());
            assert!(shown || n > 0, "the first of another machine");
        }
        assert!((50..100).contains(&lines.get()), "{}", lines.get());
        // The flood does not suppress the lines of hax itself.
        assert!(say(Source::Machine("Failed".into()), Level::WARN, "web: failed"));
        assert!(say(Source::Machine("Starts".into()), Level::INFO, "web: starts"));
        assert!(say(Source::Fact(FactKind::LeaderLost), Level::WARN, "lost"));
        assert!(say(Source::Fact(FactKind::Ready), Level::INFO, "ready"));
        assert!(say(Source::Place("an end"), Level::ERROR, "cannot listen"));
    }

    #[test]
    fn f40_what_differs_is_shown_before_what_is_the_same() {
        let mut limit = RateLimit::default();
        let mut shown = 0;
        for n in 0..1_000 {
            let text = format!("conn-{n}: closed, the peer at 10.0.0.1 sent a bad frame");
            shown += u32::from(limit.admits(
                at(1),
                Source::Fact(FactKind::BadFrame),
                Level::WARN,
                &text,
            ));
        }
        assert_eq!(shown, SAME_MAX);
        for n in 0..30 {
            let text = format!("link-{n}: up with 0x7200000000000001:{n:#x}");
            assert!(limit.admits(at(2), Source::Fact(FactKind::LinkUp), Level::INFO, &text), "{n}");
        }
    }

    #[test]
    fn f40_what_is_left_out_is_told_when_the_window_ends_and_all_begins_anew() {
        let mut limit = RateLimit::default();
        assert_eq!(limit.end_if_due(at(9)), None);
        let refuse = |limit: &mut RateLimit, n: u32| {
            for _ in 0..n {
                limit.admits(
                    at(10),
                    Source::Fact(FactKind::HttpRefused),
                    Level::INFO,
                    "http-7: no",
                );
            }
        };
        refuse(&mut limit, 5);
        assert_eq!(limit.window_end(), None, "nothing is left out yet");
        refuse(&mut limit, 1_234);
        limit.admits(at(10), Source::Place("x"), Level::WARN, "a connection of Motr is reset");
        assert_eq!(limit.window_end(), Some(at(70)));
        assert_eq!(limit.end_if_due(at(69)), None);
        let text = "… and 1,234 more of the kind HttpRefused in the last 60 s are left out here; \
            /metrics counts all";
        assert_eq!(
            limit.end_if_due(at(70)),
            Some(LeftOut { level: Level::INFO, text: text.into() })
        );
        assert_eq!(limit.end_if_due(at(200)), None);
        assert!(limit.admits(at(200), Source::Fact(FactKind::HttpRefused), Level::INFO, "no"));
        assert_eq!(limit.end_window(at(201)), None);
    }

    #[test]
    fn f40_of_what_only_consul_brings_about_each_kind_has_its_own_limit() {
        let mut limit = RateLimit::default();
        let mut shown = 0;
        for n in 0..1_000 {
            let text = format!("passed over in Consul: key {n}");
            let source = Source::Fact(FactKind::EntrySkipped);
            shown += u32::from(limit.admits(at(1), source, Level::WARN, &text));
        }
        assert_eq!(shown, KIND_MAX);
        let left_out = limit.end_window(at(61)).unwrap();
        assert_eq!(left_out.level, Level::WARN);
        assert!(
            left_out.text.starts_with("… and 960 more of the kind EntrySkipped"),
            "{left_out:?}"
        );
    }
}
