//! The seven scripts: their command lines, and the help texts of `-h`.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::decide::Event;
use super::node::{Index, Mode};
use super::parameters;
use super::provider::Provider;
use super::request::{Clear, Nodes, Request, Set};

/// A script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Adds a redundancy node.
    CreateNode,
    /// Changes parameters.
    SetParams,
    /// Removes parameters.
    ClearParams,
    /// Shows a redundancy node.
    ShowNode,
    /// Deletes a redundancy node.
    DeleteNode,
    /// Reports an event.
    NodeEvent,
    /// Controls the server.
    HaApi,
}

/// The action of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Prints the help text.
    Help(String),
    /// Sends a request to the server.
    Ask(Request),
    /// Starts a server unless one responds.
    Start,
}

impl Script {
    /// All scripts.
    pub const ALL: [Self; 7] = [
        Self::CreateNode,
        Self::SetParams,
        Self::ClearParams,
        Self::ShowNode,
        Self::DeleteNode,
        Self::NodeEvent,
        Self::HaApi,
    ];

    /// Returns the script's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CreateNode => "create_node",
            Self::SetParams => "set_params",
            Self::ClearParams => "clear_params",
            Self::ShowNode => "show_node",
            Self::DeleteNode => "delete_node",
            Self::NodeEvent => "node_event",
            Self::HaApi => "ha_api",
        }
    }

    /// Returns the script with this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|script| script.name() == name)
    }

    /// Parses the arguments of a command line.
    ///
    /// # Errors
    ///
    /// All errors of the command line, in one line.
    pub fn parse(self, args: &[String]) -> Result<Action, String> {
        if args.iter().any(|arg| arg == "-h" || arg == "--help") {
            return Ok(Action::Help(self.help(args)));
        }
        let mut args = Args { left: args, given: Vec::new(), no_wait: false };
        args.read(self)?;
        let action = match self {
            Self::CreateNode => {
                Request::CreateNode { index: args.index()?, set: args.parameters()? }.into()
            }
            Self::SetParams => {
                Request::SetParams { index: args.index()?, set: args.parameters()? }.into()
            }
            Self::ClearParams => {
                Request::ClearParams { index: args.index()?, clear: args.cleared() }.into()
            }
            Self::ShowNode => {
                let is_all = args.value("-i").is_none_or(|text| text == "all");
                let index = if is_all { args.take("-i").and(None) } else { Some(args.index()?) };
                Request::ShowNode { index }.into()
            }
            Self::DeleteNode => Request::DeleteNode { index: args.index()? }.into(),
            Self::NodeEvent => args.event()?.into(),
            Self::HaApi => match args.take("-c").ok_or("-c COMMAND is missing")? {
                "start" => Action::Start,
                "stop" => Request::Stop.into(),
                "ping" => Request::Ping.into(),
                other => return Err(format!("-c {other:?}: expected start, stop or ping")),
            },
        };
        match args.given.first() {
            None => Ok(action),
            Some((flag, _)) => Err(format!("{flag}: {} has no such parameter", self.name())),
        }
    }

    /// Returns whether a flag of this script has a value. Returns none if the script does not have the flag.
    fn has_value(self, flag: &str) -> Option<bool> {
        let is_parameter = parameters::is_flag(flag) || flag == "-m";
        match self {
            Self::CreateNode | Self::SetParams => {
                (is_parameter || matches!(flag, "-i" | "-p")).then_some(true)
            }
            Self::ClearParams if is_parameter => Some(false),
            Self::ClearParams | Self::ShowNode | Self::DeleteNode => (flag == "-i").then_some(true),
            Self::NodeEvent => matches!(flag, "-i" | "-e" | "-mi").then_some(true),
            Self::HaApi => (flag == "-c").then_some(true),
        }
    }

    /// Returns the help text, with the parameters of the provider in `-p`, or of all providers.
    fn help(self, args: &[String]) -> String {
        let index = "  -i INDEX    the redundancy node: a number from 1 to 1023";
        let (usage, about, lines) = match self {
            Self::CreateNode => (
                "-i INDEX [-p PROVIDER] [-m MODE] PARAMETERS",
                "Adds a redundancy node. One that exists is changed as set_params does.",
                [index, PROVIDER, MODE].join("\n"),
            ),
            Self::SetParams => (
                "-i INDEX [-m MODE] [PARAMETERS]",
                "Changes each parameter that is given, of a redundancy node that exists.",
                [index, MODE].join("\n"),
            ),
            Self::ClearParams => (
                "-i INDEX [-m] [FLAGS]",
                "Deletes each parameter whose flag is given, of a redundancy node that exists.",
                [index, "  -m          the mode, which becomes secondary"].join("\n"),
            ),
            Self::ShowNode => (
                "[-i INDEX|all]",
                "Shows a redundancy node, or all of them, each a line of JSON.",
                index.into(),
            ),
            Self::DeleteNode => (
                "-i INDEX",
                "Deletes a redundancy node. It is no error if there is none.",
                index.into(),
            ),
            Self::NodeEvent => (
                "-i INDEX|all -e EVENT [-mi INDEX] [--no-wait]",
                "Tells the server that an event has occurred, and waits until it has been worked.",
                [index, EVENT].join("\n"),
            ),
            Self::HaApi => ("-c COMMAND", "Controls the server.", COMMAND.into()),
        };
        let mut text = format!("Usage: {} {usage}\n\n{about}\n\n{lines}\n", self.name());
        if matches!(self, Self::CreateNode | Self::SetParams | Self::ClearParams) {
            let named = args.iter().skip_while(|arg| *arg != "-p").nth(1);
            let chosen = named.and_then(|name| Provider::of(name));
            describe(&mut text, self, chosen);
        }
        text.push_str("\n  -h          this help\n\nExit codes:\n");
        text.push_str(match self {
            Self::CreateNode | Self::SetParams | Self::ClearParams | Self::ShowNode => {
                "  0  done\n  2  the command line is wrong\n  3  failed\n  4  no server answers\n"
            }
            Self::DeleteNode | Self::HaApi => {
                "  0  done\n  2  the command line is wrong\n  4  failed, or no server answers\n"
            }
            Self::NodeEvent => {
                "  0  worked: the route was read back, or nothing was to be done\n  \
                 2  the command line is wrong\n  4  no server answers\n  7  failed\n"
            }
        });
        text
    }
}

const PROVIDER: &str = "  -p NAME     the provider of the route table: linux, consul, aws, azure, \
azusgov, azchina or gcp;\n              may be left out where the server has a default";
const MODE: &str = "  -m MODE     primary or secondary: whether the route returns here at a revert; \
secondary\n              if it is not given";
const EVENT: &str =
    "  -e EVENT    peerFail: the other router has failed, this one becomes the next hop
              revert:   this router has recovered; the route returns if it is the primary
              verify:   test whether the route can be read and written
  -mi INDEX   all redundancy nodes from -i to this one, both included
  --no-wait   the server is told, and what comes of it is in its log and in `hax route status`
  With `-i all`, revert or verify of all redundancy nodes.";
const COMMAND: &str = "  -c COMMAND  start: starts the server, unless one answers
              stop:  deletes all redundancy nodes and ends the server
              ping:  tests whether the server answers";

/// Appends the parameters of one provider, or of all.
fn describe(text: &mut String, script: Script, chosen: Option<Provider>) {
    let all = Provider::ALL.into_iter().filter(|p| p.name() != "azusgov" && p.name() != "azchina");
    let shown: Vec<_> = chosen.map_or_else(|| all.collect(), |provider| [provider].into());
    for provider in shown {
        text.push_str(&format!("\nParameters of {}:\n", provider.name()));
        for parameter in parameters::of(provider) {
            let needed = script == Script::CreateNode && parameter.required;
            let needed = if needed { " (required)" } else { "" };
            text.push_str(&format!("  {:<11} {}{needed}\n", parameter.flag, parameter.help));
        }
    }
}

impl From<Request> for Action {
    fn from(request: Request) -> Self {
        Self::Ask(request)
    }
}

/// The arguments of a command line.
struct Args<'a> {
    left: &'a [String],
    given: Vec<(&'a str, &'a str)>,
    no_wait: bool,
}

impl<'a> Args<'a> {
    fn read(&mut self, script: Script) -> Result<(), String> {
        while let Some((flag, rest)) = self.left.split_first() {
            self.left = rest;
            if script == Script::NodeEvent && flag == "--no-wait" {
                self.no_wait = true;
                continue;
            }
            let Some(has_value) = script.has_value(flag) else {
                return Err(format!("{flag:?} is no parameter of {}", script.name()));
            };
            if self.value(flag).is_some() {
                return Err(format!("{flag} is given twice"));
            }
            let mut value = "";
            if has_value {
                let (first, rest) =
                    self.left.split_first().ok_or_else(|| format!("{flag} has no value"))?;
                (value, self.left) = (first, rest);
                if value.is_empty() {
                    return Err(format!("the value of {flag} is empty"));
                }
            }
            self.given.push((flag, value));
        }
        Ok(())
    }

    fn value(&self, flag: &str) -> Option<&'a str> {
        self.given.iter().find(|(given, _)| *given == flag).map(|(_, value)| *value)
    }

    fn take(&mut self, flag: &str) -> Option<&'a str> {
        let at = self.given.iter().position(|(given, _)| *given == flag)?;
        Some(self.given.remove(at).1)
    }

    fn index(&mut self) -> Result<Index, String> {
        let text = self.take("-i").ok_or("-i INDEX is missing")?;
        text.parse().map_err(|why| format!("-i {text:?}: {why}"))
    }

    /// Takes all remaining arguments as parameters.
    fn parameters(&mut self) -> Result<Set, String> {
        let provider = match self.take("-p") {
            Some(name) => {
                Some(Provider::of(name).ok_or_else(|| format!("-p {name:?}: no such provider"))?)
            }
            None => None,
        };
        let mode = match self.take("-m") {
            Some(name) => {
                let mode = Mode::of(name);
                Some(mode.ok_or_else(|| format!("-m {name:?}: expected primary or secondary"))?)
            }
            None => None,
        };
        let parameters = self.given.drain(..).map(|(flag, value)| (flag.into(), value.into()));
        let set = Set { provider, mode, parameters: parameters.collect() };
        if let Some(provider) = provider {
            // The script reports every error that can be detected without the server.
            let mut checked = super::node::Parameters::new();
            for (flag, value) in &set.parameters {
                parameters::find(provider, flag)?.set(&mut checked, value)?;
            }
        }
        Ok(set)
    }

    fn cleared(&mut self) -> Clear {
        let mode = self.take("-m").is_some();
        Clear { mode, parameters: self.given.drain(..).map(|(flag, _)| flag.into()).collect() }
    }

    fn event(&mut self) -> Result<Request, String> {
        let name = self.take("-e").ok_or("-e EVENT is missing")?;
        let event = Event::of(name)
            .ok_or_else(|| format!("-e {name:?}: expected peerFail, revert or verify"))?;
        let last = match self.take("-mi") {
            Some(text) => {
                let last: Result<Index, _> = text.parse();
                Some(last.map_err(|why| format!("-mi {text:?}: {why}"))?)
            }
            None => None,
        };
        let nodes = if self.value("-i") == Some("all") {
            self.take("-i");
            if event == Event::PeerFail {
                return Err("-e peerFail: not for all redundancy nodes at once".into());
            }
            if last.is_some() {
                return Err("-mi is given with -i INDEX, not with -i all".into());
            }
            Nodes::All
        } else {
            let first = self.index()?;
            match last {
                Some(last) if last < first => {
                    return Err(format!("-mi {last} is below -i {first}"));
                }
                Some(last) => Nodes::Range(first, last),
                None => Nodes::One(first),
            }
        };
        Ok(Request::NodeEvent { nodes, event, wait: !self.no_wait })
    }
}

/// Returns the script of a program's name, with or without a folder in front.
#[must_use]
pub fn named(program: &str) -> Option<Script> {
    Script::of(program.rsplit('/').next().unwrap_or_default())
}

/// Returns the names of all scripts.
#[must_use]
pub fn names() -> Box<[&'static str]> {
    Script::ALL.iter().map(|script| script.name()).collect()
}

#[cfg(test)]
mod tests;
