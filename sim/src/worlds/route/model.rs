//! The model of redundancy nodes after the specification: the effect of a change, the content of a file, and
//! the response to an event. It is written without the server's code.

use std::collections::BTreeMap;

use serde_json::Value;

use super::ask::{Ask, Given};
use super::groups::GROUP_FLAG;
use super::provider::{Kind, of_index};

/// All redundancy nodes of a router.
pub(super) type Nodes = BTreeMap<u16, Node>;

/// One redundancy node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) provider: String,
    pub(super) mode: Option<String>,
    /// The parameters, by their stored names.
    pub(super) parameters: BTreeMap<String, String>,
}

impl Node {
    /// Returns the role of this router.
    pub(super) fn mode(&self) -> &str {
        self.mode.as_deref().unwrap_or("secondary")
    }

    /// Checks that a next hop is of the same address family as its route.
    fn can_stand(&self) -> bool {
        let is_v6 = |name: &str| self.parameters.get(name).map(|value| value.contains(':'));
        is_v6("route").zip(is_v6("nextHop")).is_none_or(|(route, hop)| route == hop)
    }

    /// Returns whether the node has all parameters that an event needs.
    pub(super) fn is_complete(&self) -> bool {
        let has = |name: &str| self.parameters.contains_key(name);
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == self.provider);
        kind.is_some_and(|kind| kind.parameters().iter().all(|p| !p.required || has(p.name)))
    }

    fn change(mut self, kind: Kind, given: &Given) -> Option<Self> {
        for (flag, value) in &given.parameters {
            let own = kind.parameters().iter().find(|p| p.flag == *flag).map(|p| p.name);
            let name = own.or_else(|| (*flag == GROUP_FLAG).then_some("group"))?;
            self.parameters.insert(name.into(), value.clone());
        }
        self.mode = given.mode.map(str::to_owned).or(self.mode);
        self.can_stand().then_some(self)
    }
}

/// Applies a client's change, if it is permitted. Returns whether it is.
pub(super) fn apply(nodes: &mut Nodes, ask: &Ask, default: Option<Kind>) -> bool {
    let changed = match ask {
        Ask::Create { index, names_provider, given } => {
            let kind = of_index(*index);
            let existing = nodes.get(index).cloned();
            let is_new = existing.is_none();
            if given.is_bad || is_new && !names_provider && default != Some(kind) {
                return false;
            }
            let new = || Node { provider: kind.name().into(), ..Node::default() };
            let changed = existing.unwrap_or_else(new).change(kind, given);
            changed.filter(Node::is_complete).map(|node| (*index, node))
        }
        Ask::Set { index, given } => {
            let changed = nodes.get(index).cloned().filter(|_| !given.is_bad);
            changed.and_then(|node| node.change(of_index(*index), given)).map(|node| (*index, node))
        }
        Ask::Clear { index, mode, flags } => nodes.get(index).cloned().and_then(|mut node| {
            for flag in flags {
                let parameters = of_index(*index).parameters();
                let parameter = parameters.iter().find(|p| p.flag == *flag)?;
                node.parameters.remove(parameter.name);
            }
            node.mode = node.mode.filter(|_| !mode);
            Some((*index, node))
        }),
        Ask::Delete { index } => {
            nodes.remove(index);
            return true;
        }
        Ask::Show { .. } | Ask::Event { .. } | Ask::Ping | Ask::Erase | Ask::Malformed(_) => None,
    };
    let may = changed.is_some();
    nodes.extend(changed);
    may
}

/// Parses the redundancy nodes of a file. A missing file has no nodes.
pub(super) fn read(file: Option<&[u8]>) -> Result<Nodes, String> {
    let Some(file) = file else { return Ok(Nodes::new()) };
    let text = std::str::from_utf8(file).map_err(|why| why.to_string())?;
    let mut lines = text.lines();
    let header: Value = serde_json::from_str(lines.next().unwrap_or_default())
        .map_err(|why| format!("its header: {why}"))?;
    let nodes = lines.map(|line| {
        let line = serde_json::from_str(line).map_err(|why| format!("{line}: {why}"))?;
        shown(&line).ok_or_else(|| format!("{line}: no node"))
    });
    let nodes: Nodes = nodes.collect::<Result<_, String>>()?;
    if header["nodes"] == nodes.len() {
        return Ok(nodes);
    }
    Err(format!("{} of {} nodes", nodes.len(), header["nodes"]))
}

/// Parses a redundancy node from its JSON form, as the file and the answers have it.
pub(super) fn shown(value: &Value) -> Option<(u16, Node)> {
    let index = u16::try_from(value["index"].as_u64()?).ok()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let own = value["parameters"].as_object()?.iter();
    let parameters: Option<_> =
        own.map(|(name, value)| Some((name.clone(), text(value)?))).collect();
    let (provider, mode) = (text(&value["provider"])?, text(&value["mode"]));
    Some((index, Node { provider, mode, parameters: parameters? }))
}

/// Returns the response to an event of a redundancy node, after the tables of the specification.
pub(super) fn response(event: &str, node: &Node) -> &'static str {
    match (event, node.mode(), &*node.provider) {
        ("verify", _, _) => "write_back",
        ("peerFail", _, "azure") | ("peerFail", "secondary", "gcp") => "update",
        ("peerFail", "primary", "gcp") => "nothing",
        ("revert", "secondary", provider) if provider != "gcp" => "nothing",
        _ => "update_if_different",
    }
}
