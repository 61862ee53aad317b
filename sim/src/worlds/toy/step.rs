//! The repeated step of the lease's holder. It runs a helper program, which changes something outside Consul
//! and prints the time in milliseconds until the next step.
//!
//! Consul cannot refuse the effects of a helper. So a helper is started only if it ends in any case while no
//! other machine can hold the lease. It is ended once the lease may be lost. Its output is accepted in its
//! own term only.

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
/// The time limit of a helper.
const DEADLINE: Duration = Duration::from_millis(500);
/// The grace period of a helper after it was told to end.
const GRACE: Duration = Duration::from_millis(200);
/// The time limit for the start of a helper. A host that takes longer is not healthy.
pub(super) const STARTS: Duration = Duration::from_millis(300);
/// The maximum time between the request for a helper and its end.
const OVER: Duration = STARTS.saturating_add(DEADLINE).saturating_add(GRACE);
/// The output limit, more than a number of milliseconds takes.
const OUTPUT_MAX: usize = 16;
/// The longest pause between two steps.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A requested helper before its end.
#[derive(Debug)]
struct Running {
    id: ExecId,
    term: u64,
    said: Vec<u8>,
    /// The helper was told to end.
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

    /// Returns whether no helper runs.
    pub(super) fn rests(&self) -> bool {
        self.running.is_none()
    }

    /// Starts a due helper, and ends a helper without a lease. It is called after every input.
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
            // The timer waits for the next proof of the lease.
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
            leaves_daemons: false,
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

/// Parses the requested pause of a helper.
fn pause_in(said: &[u8]) -> Option<Duration> {
    let ms = std::str::from_utf8(said).ok()?.trim_end().parse().ok()?;
    Some(Duration::from_millis(ms)).filter(|pause| *pause <= PAUSE_MAX)
}
