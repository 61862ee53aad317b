//! Scripted instances: OCF resource agents and units of systemd. Short programs start, monitor and stop them.
//!
//! The meaning of exit codes is that of the OCF Resource Agent API 1.1. A unit's state is translated to them.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Words;
use super::class::Class;
use super::template::Values;
use crate::exec::Origin;

/// The folder of resource agents.
const AGENTS: &str = "/usr/lib/ocf/resource.d";
/// The program that controls systemd.
const SYSTEMCTL: &str = "/usr/bin/systemctl";

/// How a scripted instance is started, monitored and stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scripted {
    /// What runs it.
    pub script: Script,
    /// The time between two monitors, in milliseconds.
    pub every_ms: u64,
    /// The time limit of a monitor, in milliseconds.
    pub timeout_ms: u64,
    /// The time limit of a stop, in milliseconds.
    pub stop_within_ms: u64,
}

/// What runs a scripted instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Script {
    /// A resource agent, `PROVIDER:NAME`, with its parameters.
    Ocf {
        /// The agent.
        agent: Box<str>,
        /// The parameters.
        parameters: Values,
    },
    /// A unit of systemd.
    Systemd {
        /// The unit.
        unit: Box<str>,
    },
}

/// An action on a scripted instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Looks whether it runs already, before a start.
    Look,
    /// Starts it.
    Start,
    /// Looks whether it runs.
    Monitor,
    /// Stops it.
    Stop,
}

impl Action {
    /// Returns the action's name, for texts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Look | Self::Monitor => "monitor",
            Self::Start => "start",
            Self::Stop => "stop",
        }
    }
}

/// The meaning of an action's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The action has succeeded, or the instance runs. The main process id is known for units.
    Good(Option<u32>),
    /// The instance runs, with a problem.
    Degraded,
    /// The instance does not run.
    NotRunning,
    /// The action has failed.
    Failed(Class),
}

/// The command line of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// The program and its arguments.
    pub argv: Words,
    /// Environment variables.
    pub env: Box<[(Box<str>, Box<str>)]>,
    /// The origin of the command line.
    pub origin: Origin,
}

/// The output of an action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActionOutput {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Script {
    /// Returns the command line of an action. `limit_ms` is the time limit
    /// that an agent is told, and `instance` the name of the resource.
    #[must_use]
    pub fn command(&self, action: Action, instance: &str, limit_ms: u64) -> CommandLine {
        match self {
            Self::Systemd { unit } => {
                let argv: Vec<&str> = match action {
                    Action::Start => Vec::from([SYSTEMCTL, "start", "--", unit]),
                    Action::Stop => Vec::from([SYSTEMCTL, "stop", "--", unit]),
                    Action::Look | Action::Monitor => {
                        let what = "--property=ActiveState,MainPID,Restart,Result,LoadState";
                        Vec::from([SYSTEMCTL, "show", what, "--", unit])
                    }
                };
                let argv = argv.into_iter().map(Box::from).collect();
                CommandLine { argv, env: [].into(), origin: Origin::Own }
            }
            Self::Ocf { agent, parameters } => {
                let path = format!("{AGENTS}/{}", agent.replacen(':', "/", 1));
                let argv = [path.into(), action.name().into()];
                let interval = if action == Action::Monitor { "1000" } else { "0" };
                let (provider, name) = agent.split_once(':').unwrap_or(("", agent));
                let own = [
                    ("OCF_ROOT", "/usr/lib/ocf".into()),
                    ("OCF_RA_VERSION_MAJOR", "1".into()),
                    ("OCF_RA_VERSION_MINOR", "1".into()),
                    ("OCF_RESOURCE_INSTANCE", String::from(instance)),
                    ("OCF_RESOURCE_TYPE", name.into()),
                    ("OCF_RESOURCE_PROVIDER", provider.into()),
                    ("OCF_CHECK_LEVEL", "0".into()),
                    ("OCF_RESKEY_CRM_meta_timeout", format!("{limit_ms}")),
                    ("OCF_RESKEY_CRM_meta_interval", interval.into()),
                    ("OCF_RESKEY_CRM_meta_name", action.name().into()),
                ];
                let own = own.into_iter().map(|(name, value)| (Box::from(name), value.into()));
                let given = parameters
                    .iter()
                    .map(|(name, value)| (format!("OCF_RESKEY_{name}").into(), value.clone()));
                let (argv, env) = (argv.into(), own.chain(given).collect());
                CommandLine { argv, env, origin: Origin::Configured }
            }
        }
    }

    /// Returns the meaning of an action that has ended with this code.
    #[must_use]
    pub fn meaning(&self, action: Action, code: i32, said: &ActionOutput) -> Meaning {
        match self {
            Self::Ocf { .. } => of_agent(action, code),
            Self::Systemd { .. } => of_unit(action, code, said),
        }
    }

    /// Returns the reason of a failed action, in words.
    #[must_use]
    pub fn reason(&self, action: Action, code: i32, said: &ActionOutput) -> String {
        let what = action.name();
        if let Self::Systemd { .. } = self
            && matches!(action, Action::Look | Action::Monitor)
        {
            let of = |name: &str| property(said, name).unwrap_or("unknown");
            return match (of("LoadState"), of("Restart")) {
                ("loaded", "no") => format!("the unit is {} ({})", of("ActiveState"), of("Result")),
                ("loaded", restart) => format!(
                    "the unit has Restart={restart}, so two managers would start it; set Restart=no"
                ),
                (load, _) => format!("the unit is {load}"),
            };
        }
        let told =
            said.err.lines().rev().find_map(|line| line.trim().strip_prefix("ocf-exit-reason:"));
        let last = || said.err.lines().map(str::trim).rfind(|line| !line.is_empty());
        let told: String = told
            .or_else(last)
            .unwrap_or("")
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect();
        let about = if told.is_empty() { "" } else { ": " };
        format!("{what}: {} ({code}){about}{told}", words(code))
    }
}

/// Returns the meaning of an agent's exit code (OCF RA API 1.1, 2.3).
fn of_agent(action: Action, code: i32) -> Meaning {
    match (action, code) {
        (Action::Look | Action::Monitor, 190 | 191) => Meaning::Degraded,
        (Action::Look | Action::Monitor, 0 | 8) | (Action::Start | Action::Stop, 0) => {
            Meaning::Good(None)
        }
        (Action::Look | Action::Monitor | Action::Stop, 7) => Meaning::NotRunning,
        (_, 2..=6) => Meaning::Failed(Class::Config),
        (Action::Start, _) => Meaning::Failed(Class::NotStarted),
        (Action::Look | Action::Monitor, _) => Meaning::Failed(Class::Check),
        (Action::Stop, _) => Meaning::Failed(Class::NotStopped),
    }
}

const fn words(code: i32) -> &'static str {
    match code {
        1 => "generic error",
        2 => "bad parameter",
        3 => "not implemented",
        4 => "no privilege",
        5 => "not installed",
        6 => "not configured",
        7 => "not running",
        9 => "failed while promoted",
        _ => "an unknown error",
    }
}

/// Returns the meaning of the exit code and the output of `systemctl`.
fn of_unit(action: Action, code: i32, said: &ActionOutput) -> Meaning {
    match action {
        Action::Start if code == 0 => Meaning::Good(None),
        Action::Start => Meaning::Failed(Class::NotStarted),
        Action::Stop if code == 0 => Meaning::Good(None),
        Action::Stop => Meaning::Failed(Class::NotStopped),
        Action::Look | Action::Monitor if code != 0 => Meaning::Failed(Class::Check),
        Action::Look | Action::Monitor => {
            if property(said, "LoadState") != Some("loaded")
                || property(said, "Restart") != Some("no")
            {
                return Meaning::Failed(Class::Config);
            }
            match property(said, "ActiveState") {
                Some("active" | "reloading") => {
                    let pid = property(said, "MainPID").and_then(|pid| pid.parse().ok());
                    Meaning::Good(pid.filter(|pid| *pid > 0))
                }
                Some("activating" | "deactivating" | "inactive" | "failed") => Meaning::NotRunning,
                Some(_) | None => Meaning::Failed(Class::Check),
            }
        }
    }
}

/// Returns a property in the output of `systemctl show`.
fn property<'s>(said: &'s ActionOutput, name: &str) -> Option<&'s str> {
    let mut pairs = said.out.lines().filter_map(|line| line.split_once('='));
    pairs.find(|(of, _)| *of == name).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h33_the_exit_codes_of_an_agent_have_their_meaning() {
        let ocf = Script::Ocf { agent: "heartbeat:Dummy".into(), parameters: Values::new() };
        let of = |action, code| ocf.meaning(action, code, &ActionOutput::default());
        for (action, code, meaning) in [
            (Action::Start, 0, Meaning::Good(None)),
            (Action::Start, 1, Meaning::Failed(Class::NotStarted)),
            (Action::Start, 5, Meaning::Failed(Class::Config)),
            (Action::Start, 124, Meaning::Failed(Class::NotStarted)),
            (Action::Monitor, 0, Meaning::Good(None)),
            (Action::Monitor, 7, Meaning::NotRunning),
            (Action::Monitor, 190, Meaning::Degraded),
            (Action::Monitor, 1, Meaning::Failed(Class::Check)),
            (Action::Monitor, 102, Meaning::Failed(Class::Check)),
            (Action::Stop, 0, Meaning::Good(None)),
            (Action::Stop, 1, Meaning::Failed(Class::NotStopped)),
        ] {
            assert_eq!(of(action, code), meaning, "{action:?} {code}");
        }
        let err = "x\nocf-exit-reason:no such address\nbye\n".into();
        let said = ActionOutput { err, ..ActionOutput::default() };
        assert_eq!(
            ocf.reason(Action::Start, 1, &said),
            "start: generic error (1): no such address"
        );
    }

    #[test]
    fn an_agent_is_called_as_its_interface_says() {
        let parameters = [("ip".into(), "10.0.0.1".into())].into();
        let ocf = Script::Ocf { agent: "heartbeat:IPaddr2".into(), parameters };
        let CommandLine { argv, env, origin } = ocf.command(Action::Look, "web", 20_000);
        let argv: Vec<&str> = argv.iter().map(|word| &**word).collect();
        assert_eq!(argv, ["/usr/lib/ocf/resource.d/heartbeat/IPaddr2", "monitor"]);
        assert_eq!(origin, Origin::Configured);
        let of = |name: &str| env.iter().find(|(of, _)| **of == *name).map(|(_, value)| &**value);
        assert_eq!(of("OCF_RESKEY_ip"), Some("10.0.0.1"));
        assert_eq!(of("OCF_RESKEY_CRM_meta_interval"), Some("0"), "a probe");
        assert_eq!(of("OCF_RESOURCE_INSTANCE"), Some("web"));
        assert_eq!(of("OCF_ROOT"), Some("/usr/lib/ocf"));
    }

    #[test]
    fn a_unit_that_another_manager_restarts_is_refused() {
        let unit = Script::Systemd { unit: "x.service".into() };
        let show = |state: &str, restart: &str| ActionOutput {
            out: format!(
                "Restart={restart}\nMainPID=7\nLoadState=loaded\nActiveState={state}\nResult=success\n"
            ),
            err: String::new(),
        };
        let of = |said: &ActionOutput| unit.meaning(Action::Monitor, 0, said);
        assert_eq!(of(&show("active", "no")), Meaning::Good(Some(7)));
        assert_eq!(of(&show("failed", "no")), Meaning::NotRunning);
        let two = show("active", "always");
        assert_eq!(of(&two), Meaning::Failed(Class::Config));
        assert!(unit.reason(Action::Look, 0, &two).contains("two managers"));
        assert_eq!(of(&ActionOutput::default()), Meaning::Failed(Class::Config));
    }
}
