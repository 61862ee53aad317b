//! The timeline: the printed lines, the expectations, and the missed ones.

use std::fmt::Display;
use std::io::Write as _;
use std::time::Duration;

use async_channel::Receiver;
use hax_core::base::time::Instant;
use hax_driver::host::clock::Clock;
use serde_json::Value;

use super::cast::{Line, Role};

/// The timeout of an expectation.
const WITHIN: Duration = Duration::from_secs(5);

/// The time for the last lines of a step.
const BETWEEN_ACTS: Duration = Duration::from_millis(500);

/// The state of the demo.
pub(super) struct Show {
    clock: Clock,
    began: Instant,
    lines: Receiver<Line>,
    heard: Vec<Line>,
    roles: Vec<Role>,
    met: u32,
}

impl Show {
    pub(super) fn new(clock: Clock, lines: Receiver<Line>, roles: Vec<Role>) -> Self {
        let began = clock.now().mono;
        Self { clock, began, lines, heard: Vec::new(), roles, met: 0 }
    }

    /// Prints a line of the timeline.
    pub(super) fn tell(&self, who: &str, what: impl Display) {
        let at = self.clock.now().mono.since(self.began).as_secs_f64();
        // A reader may close the pipe early. The demo continues up to its exit code.
        let _ = writeln!(std::io::stdout(), "{at:7.3}s  {who:<7} {what}");
    }

    /// Prints a line as it is.
    pub(super) fn print(&self, what: impl Display) {
        let _ = writeln!(std::io::stdout(), "{what}");
    }

    /// Returns a mark: expectations consider the lines after it.
    pub(super) fn mark(&self) -> usize {
        self.heard.len()
    }

    /// Waits until `who` has printed a matching line since `mark`. The demo ends if there is none in time.
    pub(super) async fn expect(
        &mut self,
        mark: usize,
        who: &str,
        what: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<()> {
        let waiting = async {
            let mut looked = mark;
            loop {
                while let Some(line) = self.heard.get(looked) {
                    if line.who == who && fits(&line.said) {
                        return true;
                    }
                    looked += 1;
                }
                let Ok(line) = self.lines.recv().await else { return false };
                self.narrate(&line);
                self.heard.push(line);
            }
        };
        let is_so = tokio::time::timeout(WITHIN, waiting).await.unwrap_or(false);
        self.check(is_so, format_args!("{who} {what}"))
    }

    /// Begins a new step, after the lines of the last one.
    pub(super) async fn act(&mut self, what: &str) {
        self.linger(BETWEEN_ACTS).await;
        self.print(format_args!("\n{what}\n"));
    }

    /// Prints the lines during this time.
    pub(super) async fn linger(&mut self, time: Duration) {
        let rest = async {
            while let Ok(line) = self.lines.recv().await {
                self.narrate(&line);
                self.heard.push(line);
            }
        };
        let _ = tokio::time::timeout(time, rest).await;
    }

    /// Counts a checked fact. The demo ends if it is false.
    pub(super) fn check(&mut self, is_so: bool, what: impl Display) -> anyhow::Result<()> {
        if !is_so {
            self.tell("MISSED", format_args!("{what} (within {WITHIN:?})"));
            anyhow::bail!("the show ends here, since this was expected and did not happen: {what}");
        }
        self.met += 1;
        Ok(())
    }

    /// Ends the demo with success.
    pub(super) fn end(&self) {
        let took = self.clock.now().mono.since(self.began).as_secs_f64();
        self.print(format_args!("\nall {} expectations met in {took:.1} s", self.met));
    }

    fn narrate(&self, Line { who, said }: &Line) {
        let text = |name: &str| said[name].as_str().unwrap_or_default();
        let what = match text("event") {
            "entrypoint" if said["control"] == "consume" => format!(
                "has its entrypoint: quorum {} of {} confds, resource manager at {}",
                said["quorum"],
                said["confds"].as_array().map_or(0, Vec::len),
                text("rm_endpoint"),
            ),
            "entrypoint" => "is told to ask again".into(),
            "link-up" => "has its HA link".into(),
            "delivered" => "its report is in Consul, and acknowledged".into(),
            "message" if said["notes"].is_array() => match self.notes(said) {
                Some(notes) => format!("hears {notes}"),
                None => return,
            },
            "message" => format!("hears {}", text("kind")),
            "stopped" => "has ended its link".into(),
            _ => said.to_string(),
        };
        self.tell(who, what);
    }

    /// Describes notes: names the processes of the demo, and counts the other objects.
    fn notes(&self, said: &Value) -> Option<String> {
        let notes = said["notes"].as_array()?;
        let mut named = Vec::new();
        for note in notes {
            let fid = note["fid"].as_str()?;
            if let Some(role) = self.roles.iter().find(|role| role.fid.to_string() == fid) {
                named.push(format!("{} is {}", role.name, note["state"].as_str()?));
            }
        }
        let others = notes.len() - named.len();
        if others > 0 {
            named.push(format!("states of {others} other objects"));
        }
        Some(named.join(", "))
    }
}

/// Returns whether a line has a note of `fid` with one of these states.
pub(super) fn says(said: &Value, fid: &str, states: &[&str]) -> bool {
    said["notes"].as_array().is_some_and(|notes| {
        notes.iter().any(|note| {
            note["fid"] == fid
                && note["state"].as_str().is_some_and(|state| states.contains(&state))
        })
    })
}
