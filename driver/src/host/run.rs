//! The loop that drives a machine, and its interface to a runtime.

use std::future::{Future, pending};

use async_channel::{Receiver, Sender};
use futures_lite::future::or;
use hax_core::base::time::{Instant, Next, Now};
use hax_core::machine::Input;

/// The operations of a runtime for a machine.
pub trait Runtime {
    /// The input of the machine.
    type Input: Tick;
    /// The output of the machine.
    type Output;

    /// Reads both clocks; never earlier than before.
    fn now(&mut self) -> Now;

    /// Completes at `at` or later.
    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()>;

    /// Executes an output of the machine and returns at once; the results arrive through the inbox.
    fn execute(&mut self, output: Self::Output);
}

/// Inputs with a variant for a reached deadline.
pub trait Tick {
    /// The deadline that was returned last is reached.
    const TICK: Self;
}

impl Tick for Input {
    const TICK: Self = Self::Tick;
}

/// Creates a bounded inbox for [`run`]: senders wait while it is full.
#[must_use]
pub fn inbox<I>(capacity: usize) -> (Sender<I>, Receiver<I>) {
    async_channel::bounded(capacity)
}

/// Drives `machine` until it exits. The first input is an immediate tick, which starts the work that needs no
/// event.
///
/// Inputs have priority over the timer. A machine fires due timers at every input, so a full inbox cannot
/// starve them.
pub async fn run<R: Runtime>(
    rt: &mut R,
    inbox: &Receiver<R::Input>,
    mut machine: impl FnMut(Now, R::Input, &mut Vec<R::Output>) -> Next,
) {
    let mut out = Vec::with_capacity(64);
    let mut input = R::Input::TICK;
    loop {
        let next = machine(rt.now(), input, &mut out);
        out.drain(..).for_each(|output| rt.execute(output));
        if next == Next::Exit {
            return;
        }
        let tick = async {
            match next {
                Next::WaitUntil { at, why: _ } => rt.sleep_until(at).await,
                Next::Wait | Next::Exit => pending().await,
            }
            Ok(R::Input::TICK)
        };
        // The runtime's ports hold the senders, so the inbox is open as long as they exist.
        let Ok(received) = or(inbox.recv(), tick).await else { return };
        input = received;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_lite::future::{block_on, yield_now};

    use super::*;

    /// A clock that advances by one millisecond at each read, with sleeps that jump.
    #[derive(Default)]
    struct Virtual {
        at: Cell<u64>,
        done: Vec<&'static str>,
    }

    impl Runtime for Virtual {
        type Input = Input;
        type Output = &'static str;

        fn now(&mut self) -> Now {
            self.at.set(self.at.get() + 1_000);
            Now { mono: Instant::from_micros(self.at.get()), ..Now::default() }
        }

        async fn sleep_until(&self, at: Instant) {
            yield_now().await;
            self.at.set(self.at.get().max(at.as_micros()));
        }

        fn execute(&mut self, output: &'static str) {
            self.done.push(output);
        }
    }

    #[test]
    fn a_machine_is_started_ticked_fed_and_left() {
        let (sender, receiver) = inbox(4);
        let mut rt = Virtual::default();
        let mut seen = Vec::new();
        block_on(run(&mut rt, &receiver, |now, input, out| {
            seen.push((now.mono.as_micros(), format!("{input:?}")));
            match seen.len() {
                1 => {
                    out.extend(["first", "second"]);
                    Next::WaitUntil { at: Instant::from_micros(50_000), why: "test" }
                }
                2 => {
                    sender.try_send(Input::Stop).unwrap();
                    Next::Wait
                }
                _ => {
                    out.push("last");
                    Next::Exit
                }
            }
        }));
        let seen: Vec<_> = seen.iter().map(|(at, input)| (*at, input.as_str())).collect();
        assert_eq!(seen, [(1_000, "Tick"), (51_000, "Tick"), (52_000, "Stop")]);
        assert_eq!(rt.done, ["first", "second", "last"]);
    }

    #[test]
    fn what_has_arrived_comes_before_a_deadline_in_the_past() {
        let (sender, receiver) = inbox(4);
        sender.try_send(Input::Stop).unwrap();
        let mut rt = Virtual::default();
        let mut seen = Vec::new();
        block_on(run(&mut rt, &receiver, |_, input, _| {
            seen.push(input);
            if seen.len() == 2 {
                Next::Exit
            } else {
                Next::WaitUntil { at: Instant::default(), why: "past" }
            }
        }));
        assert_eq!(seen, [Input::Tick, Input::Stop]);
    }
}
