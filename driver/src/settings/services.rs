//! The settings of services.

use std::path::PathBuf;
use std::time::Duration;

use hax_core::services::model::name::NodeName;
use hax_core::services::model::place::Labels;

use super::Error;
use super::flags::Flags;
use super::values::{BadValue, Label, MotrTransport, Switch};

/// The default folder of the keeper.
pub const KEEPER: &str = "/run/hax/keeper";

/// The default local socket of HTTP, where services are on.
pub const SOCKET: &str = "/run/hax/http/socket";

/// The default socket for instances.
pub const INSTANCE_SOCKET: &str = "/run/hax/instance/socket";

/// The default folder of rule programs.
pub const RULES: &str = "/etc/hax/rules";

/// Whether and how this node has services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicesSettings {
    /// Whether it has services.
    pub on: bool,
    /// The labels of the node, by which types choose their nodes.
    pub labels: Labels,
    /// The folder of the keeper.
    pub keeper: PathBuf,
    /// The folders and programs that may be run besides those of hax.
    pub allow_exec: Vec<PathBuf>,
    /// The path of the local socket of HTTP; none if there is no such socket.
    pub socket: Option<PathBuf>,
    /// The path of the socket for instances; none if there is no such socket.
    pub instance_socket: Option<PathBuf>,
    /// The folder of rule programs; none if there are none.
    pub rules: Option<PathBuf>,
    /// The time without heartbeats after which the node counts as down.
    pub node_down: Duration,
}

/// Merges the settings.
pub(super) fn merge(flags: &Flags, file: &Flags) -> ServicesSettings {
    // Without Motr there is nothing else to run.
    let without_motr = flags.motr.or(file.motr) == Some(MotrTransport::None);
    let on =
        flags.services.or(file.services).map_or(without_motr, |services| services == Switch::On);
    let labels = flags.label.as_ref().or(file.label.as_ref());
    let keeper = flags.keeper.as_ref().or(file.keeper.as_ref());
    let socket = flags.http_socket.as_ref().or(file.http_socket.as_ref()).cloned();
    let socket = socket.or_else(|| on.then(|| SOCKET.into()));
    let instances = flags.instance_socket.as_ref().or(file.instance_socket.as_ref()).cloned();
    let instances = instances.or_else(|| on.then(|| INSTANCE_SOCKET.into()));
    let rules = flags.rules.as_ref().or(file.rules.as_ref()).cloned();
    let rules = rules.unwrap_or_else(|| RULES.into());
    let allow_exec = flags.allow_exec.as_ref().or(file.allow_exec.as_ref());
    let node_down = flags.node_down.or(file.node_down);
    ServicesSettings {
        on,
        labels: labels.into_iter().flatten().map(|Label(k, v)| (k.clone(), v.clone())).collect(),
        keeper: keeper.cloned().unwrap_or_else(|| KEEPER.into()),
        allow_exec: allow_exec.cloned().unwrap_or_default(),
        socket: socket.filter(|path| path.as_os_str() != "none"),
        instance_socket: instances.filter(|path| path.as_os_str() != "none"),
        rules: Some(rules).filter(|path| path.as_os_str() != "none"),
        node_down: node_down.map_or(Duration::from_secs(1), |span| span.0),
    }
}

impl ServicesSettings {
    /// Returns the error of the settings together with others, if there is one.
    pub(super) fn check(
        &self,
        motr: MotrTransport,
        node: Option<&str>,
        has_journal: bool,
    ) -> Option<Error> {
        let bad = |from, why: &str| Some(Error::Value { from, why: BadValue::new(why) });
        if !self.on && motr == MotrTransport::None {
            return bad("--services", "off leaves nothing to run with --motr none");
        }
        if !self.on {
            return None;
        }
        if self.instance_socket.as_ref().is_some_and(|path| !path.is_absolute()) {
            return bad("--instance-socket", "an absolute path is expected: instances get it");
        }
        if self.node_down < Duration::from_secs(1) || self.node_down > Duration::from_secs(60) {
            return bad("--node-down", "it is from 1s, which is Consul's least TTL, to 60s");
        }
        if node.is_some_and(|node| NodeName::new(node).is_none()) {
            let why = "a node with services has a name of letters, digits, - _ and ., 64 at most";
            return bad("--node", why);
        }
        if has_journal {
            return bad("--journal", "it is kept of a node without services only");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn load(flags: Flags) -> Result<Settings, String> {
        Settings::load(None, flags, |_| None).map_err(|why| why.to_string())
    }

    #[test]
    fn services_are_off_unless_they_are_switched_on() {
        let off = load(Flags::default()).unwrap().services;
        assert_eq!((off.on, off.socket), (false, None));
        let label = Some(vec!["rack=a".parse().unwrap(), "disk=ssd".parse().unwrap()]);
        let flags = Flags { services: Some(Switch::On), label, ..Flags::default() };
        let on = load(flags.clone()).unwrap().services;
        assert_eq!((&*on.labels["rack"], &*on.labels["disk"]), ("a", "ssd"));
        assert_eq!((on.socket, on.keeper), (Some(SOCKET.into()), KEEPER.into()));
        let none = load(Flags { http_socket: Some("none".into()), ..flags }).unwrap();
        assert_eq!(none.services.socket, None);
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_do() {
        for label in ["", "a", "=b", "a=", "a b=c", "a=b=c d"] {
            label.parse::<Label>().unwrap_err();
        }
        let on = || Flags { services: Some(Switch::On), ..Flags::default() };
        let none = || Flags { motr: Some(MotrTransport::None), ..Flags::default() };
        assert!(load(none()).unwrap().services.on);
        for (flags, part) in [
            (Flags { services: Some(Switch::Off), ..none() }, "--services"),
            (Flags { instance_socket: Some("s".into()), ..on() }, "--instance-socket"),
            (Flags { node_down: Some("10ms".parse().unwrap()), ..on() }, "--node-down"),
            (Flags { node: Some("a/b".into()), ..on() }, "--node"),
            (Flags { journal: Some("/j".into()), ..on() }, "--journal"),
        ] {
            let why = load(flags).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }
}
