//! The destination, the format and the rate limit of log lines.
//!
//! Log lines always go to standard error. Standard output belongs to the results of a command (`ham`'s JSON,
//! the demo's timeline), and journald takes both. Colours are used only on a terminal. In the journal each
//! line begins with its priority (sd-daemon(3)) and has no time of day, which the journal adds.
//!
//! This is the only place that writes lines. Foreign text is escaped here. The number of lines that peers and
//! clients can cause is limited here, unless the level is debug or trace.

mod line;
mod rate_limit;

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use hax_core::base::time::Instant;
use hax_core::ha::fact::FactKind;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::host::clock::Clock;
use crate::settings::values::{LogFormat, LogLevel};
use line::{Line, LineStyle};
use rate_limit::{LeftOut, RateLimit, Source};

/// The installed log, for the final report.
static LOG: OnceLock<Arc<Log>> = OnceLock::new();

/// Installs the log for the whole program. A second call changes nothing.
pub fn init(format: LogFormat, level: LogLevel) {
    // Libraries log internal details at info, so they are limited to warnings; at trace they are included up
    // to debug.
    let level = level.filter();
    let others = if level == LevelFilter::TRACE { LevelFilter::DEBUG } else { LevelFilter::WARN };
    let targets = Targets::new().with_default(others.min(level)).with_target("hax", level);
    let log = Arc::new(Log {
        style: LineStyle {
            format,
            journal: is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref()),
            colours: io::stderr().is_terminal(),
        },
        clock: Clock::new(),
        limit: (level < LevelFilter::DEBUG).then(Mutex::default),
        // A failed write cannot be reported anywhere.
        out: |line| drop(io::stderr().lock().write_all(line)),
    });
    // This fails only if a subscriber is installed already, as in tests that share a process.
    let lines = Lines(Arc::clone(&log)).with_filter(targets);
    if tracing_subscriber::registry().with(lines).try_init().is_ok() {
        let _ = LOG.set(log);
    }
}

/// Reports at the program's end what was left out so far.
pub fn finish() {
    if let Some(log) = LOG.get() {
        log.finish();
    }
}

struct Log {
    style: LineStyle,
    clock: Clock,
    /// `None` if all lines are written.
    limit: Option<Mutex<Limited>>,
    /// Writes a whole line at once, so that the lines of two threads do not mix.
    out: fn(&[u8]),
}

#[derive(Default)]
struct Limited {
    limit: RateLimit,
    /// A thread waits for the window's end.
    waits: bool,
}

impl Log {
    fn now(&self) -> Instant {
        self.clock.now().mono
    }

    fn limited(&self) -> Option<MutexGuard<'_, Limited>> {
        Some(self.limit.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Handles a line. If lines were left out and no thread waits for the window's end, returns that end.
    fn write_or_leave_out(&self, source: Source, level: Level, line: &Line) -> Option<Instant> {
        let Some(mut limited) = self.limited() else {
            self.write(level, line);
            return None;
        };
        let now = self.now();
        self.report(limited.limit.end_if_due(now));
        if limited.limit.admits(now, source, level, &line.message) {
            self.write(level, line);
            return None;
        }
        let ends = limited.limit.window_end().filter(|_| !limited.waits)?;
        limited.waits = true;
        Some(ends)
    }

    /// Reports the lines left out if the window has ended. Returns the time to check again, if lines were
    /// left out since.
    fn end_window_if_due(&self) -> Option<Instant> {
        let mut limited = self.limited()?;
        self.report(limited.limit.end_if_due(self.now()));
        let ends = limited.limit.window_end();
        limited.waits = ends.is_some();
        ends
    }

    fn finish(&self) {
        if let Some(mut limited) = self.limited() {
            self.report(limited.limit.end_window(self.now()));
        }
    }

    fn report(&self, left_out: Option<LeftOut>) {
        if let Some(LeftOut { level, text }) = left_out {
            self.write(level, &Line { message: text, ..Line::default() });
        }
    }

    fn write(&self, level: Level, line: &Line) {
        (self.out)(line.render(level, self.style).as_bytes());
    }
}

/// Waits in a thread for the ends of windows while lines are left out, since no further line may come.
fn wait_for_the_end(log: &Arc<Log>, ends: Instant) {
    let owned = Arc::clone(log);
    let waits = move || {
        let mut next = Some(ends);
        while let Some(ends) = next {
            let rest = ends.since(owned.now());
            if rest.is_zero() {
                next = owned.end_window_if_due();
            } else {
                thread::park_timeout(rest);
            }
        }
    };
    // Without the thread the next line, or the end of the program, reports what was left out.
    if thread::Builder::new().name("log".into()).stack_size(256 << 10).spawn(waits).is_err()
        && let Some(mut limited) = log.limited()
    {
        limited.waits = false;
    }
}

struct Lines(Arc<Log>);

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = Line::of(event);
        let meta = event.metadata();
        let source = match (line.field("fact"), line.field("machine")) {
            (Some(fact), Some(_)) => Source::Machine(fact.into()),
            (fact, _) => {
                let kind = FactKind::ALL.iter().find(|kind| Some(kind.name()) == fact);
                kind.map_or_else(|| Source::Place(meta.name()), |kind| Source::Fact(*kind))
            }
        };
        if let Some(ends) = self.0.write_or_leave_out(source, *meta.level(), &line) {
            wait_for_the_end(&self.0, ends);
        }
    }
}

/// Returns whether standard error is the journal itself. The variable alone is not enough: it is inherited by
/// programs whose standard error is redirected (systemd.exec(5), `$JOURNAL_STREAM`).
fn is_journal(stream: Option<&str>) -> bool {
    let Some((device, inode)) = stream.and_then(|stream| stream.split_once(':')) else {
        return false;
    };
    let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() else { return false };
    let Ok(stderr) = File::from(stderr).metadata() else { return false };
    device.parse() == Ok(stderr.dev()) && inode.parse() == Ok(stderr.ino())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// No further line is written, and still the number of lines left out is reported in each window.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a real thread takes real time")]
    fn f40_what_was_left_out_is_told_though_nothing_more_happens() {
        static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let limit = RateLimit::new(Duration::from_millis(50));
        let log = Arc::new(Log {
            style: LineStyle { format: LogFormat::Human, journal: true, colours: false },
            clock: Clock::new(),
            limit: Some(Mutex::new(Limited { limit, waits: false })),
            out: |line| SAID.lock().unwrap().push(String::from_utf8(line.to_vec()).unwrap()),
        });
        let told = || SAID.lock().unwrap().iter().filter(|line| line.contains('…')).count();
        let line = Line { message: "link-1: up".into(), ..Line::default() };
        for window in 1..3 {
            for _ in 0..50 {
                let source = Source::Fact(FactKind::LinkUp);
                if let Some(ends) = log.write_or_leave_out(source, Level::INFO, &line) {
                    wait_for_the_end(&log, ends);
                }
            }
            for _ in 0..1_000 {
                if told() >= window {
                    break;
                }
                thread::sleep(Duration::from_millis(10));
            }
            assert!(told() >= window, "{:?}", SAID.lock().unwrap());
        }
        let said = SAID.lock().unwrap();
        assert!(said.iter().any(|line| line.starts_with("<6>… and ")), "{said:?}");
        assert!(said.iter().all(|line| line.ends_with('\n')), "{said:?}");
    }

    #[test]
    fn the_journal_is_known_by_its_numbers_only() {
        assert!(!is_journal(None));
        for other in ["", "1", "0:0", "a:b"] {
            assert!(!is_journal(Some(other)), "{other}");
        }
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned().unwrap());
        let stderr = stderr.metadata().unwrap();
        assert!(is_journal(Some(&format!("{}:{}", stderr.dev(), stderr.ino()))));
    }
}
