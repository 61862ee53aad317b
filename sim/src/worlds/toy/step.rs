//! The step that whoever holds the lease takes again and again: it runs a helper program, which does something
//! outside Consul and says in how many milliseconds it is to be run next.
//!
//! Consul cannot refuse what a helper does. So one is started only if all of it is over while nobody else can
//! have the lease; it is ended once the lease may be held no more; and what it says counts in its own term only.

use std::time::Duration;

use bytes::Bytes;
use hax_core::base::id::ExecId;
use hax_core::base::retry::Backoff;
use hax_core::exec::{Command, Event, Origin, Spawn, Status, Stream};
use hax_core::machine::Output;
use hax_core::store::lease::Lease;

use super::bug::Bug;
use super::context::{Cx, Timer};
use super::fact::Fact;

/// The program. Its argument is the term.
pub(super) const PROGRAM: &str = "/usr/lib/hax/toy/step";
/// How long it may run.
const DEADLINE: Duration = Duration::from_millis(500);
/// How long it may go on once it was told to end.
const GRACE: Duration = Duration::from_millis(200);
/// Within this a helper is started, or its host is not well.
pub(super) const STARTS: Duration = Duration::from_millis(300);
/// How long after it was asked for a helper is over at the latest.
const OVER: Duration = STARTS.saturating_add(DEADLINE).saturating_add(GRACE);
/// More than a number of milliseconds takes.
const OUTPUT_MAX: usize = 16;
/// The longest pause between two steps.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A helper that was asked for and has not ended.
#[derive(Debug)]
struct Running {
    id: ExecId,
    term: u64,
    said: Vec<u8>,
    /// It was told to end.
    ending: bool,
}

/// The steps of one counter.
#[derive(Debug)]
pub(super) struct Steps {
    running: Option<Running>,
    next: ExecId,
    backoff: Backoff,
    bug: Option<Bug>,
}

impl Steps {
    pub(super) fn new(bug: Option<Bug>) -> Self {
        Self { running: None, next: ExecId(1), backoff: Backoff::default(), bug }
    }

    /// Whether no helper runs.
    pub(super) fn rests(&self) -> bool {
        self.running.is_none()
    }

    /// Starts what is to run now and ends what may run no more. Called after all that happens.
    pub(super) fn keep_up(&mut self, cx: &mut Cx<'_>, lease: &Lease) {
        let held = lease.believes(cx.now().mono);
        match &mut self.running {
            Some(running) if held == Some(running.term) || running.ending => {}
            Some(_) if self.bug == Some(Bug::StepKept) => {}
            Some(running) => {
                running.ending = true;
                cx.emit(Output::Fact(Fact::StepEnded {}));
                cx.emit(Output::Exec(Command::Kill { id: running.id }));
            }
            None if held.is_some() && !cx.is_armed(Timer::Step) => self.start(cx, lease),
            None => {}
        }
    }

    fn start(&mut self, cx: &mut Cx<'_>, lease: &Lease) {
        let ahead = if self.bug == Some(Bug::StepLong) { Duration::ZERO } else { OVER };
        let Some(term) = lease.believes(cx.now().mono.after(ahead)) else {
            // The next proof is due.
            return cx.arm(Timer::Step, Backoff::FIRST);
        };
        let id = self.next.mint();
        self.running = Some(Running { id, term, said: Vec::new(), ending: false });
        cx.emit(Output::Exec(Command::Spawn(Box::new(Spawn {
            id,
            origin: Origin::Own,
            argv: [PROGRAM.into(), term.to_string().into()].into(),
            env: Box::default(),
            stdin: Bytes::new(),
            deadline: DEADLINE,
            grace: GRACE,
            output_max: OUTPUT_MAX,
        }))));
    }

    pub(super) fn on_event(&mut self, cx: &mut Cx<'_>, lease: &Lease, event: &Event) {
        let Some(running) = &mut self.running else { return };
        match event {
            Event::Started { .. } => {}
            Event::Output { stream: Stream::Stdout, bytes, .. } => {
                running.said.extend_from_slice(bytes);
            }
            Event::Output { stream: Stream::Stderr, .. } => {}
            Event::Refused { .. } => {
                self.running = None;
                self.failed(cx);
            }
            Event::Exited { status, .. } => {
                let pause = pause_in(&running.said).filter(|_| *status == Status::Code(0));
                let term = running.term;
                self.running = None;
                let counts = self.bug == Some(Bug::StepTakenLate)
                    || lease.believes(cx.now().mono) == Some(term);
                match pause {
                    _ if !counts => cx.emit(Output::Fact(Fact::StepVoid {})),
                    Some(pause) => {
                        cx.emit(Output::Fact(Fact::Stepped {}));
                        self.backoff.reset();
                        cx.arm(Timer::Step, pause);
                    }
                    None => self.failed(cx),
                }
            }
        }
    }

    fn failed(&mut self, cx: &mut Cx<'_>) {
        cx.emit(Output::Fact(Fact::StepFailed {}));
        cx.retry(Timer::Step, &mut self.backoff);
    }
}

/// The pause that a helper asks for.
fn pause_in(said: &[u8]) -> Option<Duration> {
    let ms = std::str::from_utf8(said).ok()?.trim_end().parse().ok()?;
    Some(Duration::from_millis(ms)).filter(|pause| *pause <= PAUSE_MAX)
}
