//! The table of redundancy nodes, with operations to add, modify, delete, find by index and iterate in order.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Bound;

use super::node::{Index, Node};
use super::parameters;
use super::provider::Provider;
use super::request::{Clear, Set};

/// All redundancy nodes of a router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table(BTreeMap<Index, Node>);

/// The kind of a change, for the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node was added.
    Created,
    /// A node's parameters were changed.
    Modified,
    /// A node was deleted.
    Deleted,
    /// Nothing was changed.
    Unchanged,
}

/// The reason why a change is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The node does not exist.
    Unknown,
    /// A given value is malformed, or its parameter does not belong to the node's provider.
    Usage(String),
    /// The changed node would be inconsistent.
    Contradiction(String),
}

impl Table {
    /// Returns the number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether the table is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the node with this index.
    #[must_use]
    pub fn find(&self, index: Index) -> Option<&Node> {
        self.0.get(&index)
    }

    /// Returns the next node after an index, or the first node.
    #[must_use]
    pub fn next(&self, after: Option<Index>) -> Option<(Index, &Node)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (index, node) = self.0.range((from, Bound::Unbounded)).next()?;
        Some((*index, node))
    }

    /// Returns all nodes in the order of their indexes.
    pub fn iter(&self) -> impl Iterator<Item = (Index, &Node)> {
        self.0.iter().map(|(index, node)| (*index, node))
    }

    /// Inserts or replaces a node.
    pub fn put(&mut self, index: Index, node: Node) {
        self.0.insert(index, node);
    }

    /// Adds a node, which needs all required parameters of its provider. An existing node is changed, since
    /// scripts at a start may run again.
    ///
    /// # Errors
    ///
    /// The reason why the given properties are invalid.
    pub fn create(
        &mut self,
        index: Index,
        given: &Set,
        default: Option<Provider>,
    ) -> Result<Change, Refusal> {
        let existing = self.0.get(&index);
        let of_node = existing.map(|node| node.provider);
        let Some(provider) = given.provider.or(of_node).or(default) else {
            return Err(Refusal::Usage("-p PROVIDER is missing, and no default is set".into()));
        };
        let node = existing.cloned().unwrap_or_else(|| Node::new(provider));
        let node = changed(node, given)?;
        let lacks: Vec<_> = parameters::missing(&node).map(|parameter| parameter.flag).collect();
        if !lacks.is_empty() {
            let why = format!("{} requires {}", provider.name(), lacks.join(", "));
            return Err(Refusal::Usage(why));
        }
        Ok(self.replace(index, node))
    }

    /// Changes the given properties of an existing node.
    ///
    /// # Errors
    ///
    /// The node does not exist, or the given properties are invalid.
    pub fn set(&mut self, index: Index, given: &Set) -> Result<Change, Refusal> {
        let node = self.0.get(&index).ok_or(Refusal::Unknown)?;
        let node = changed(node.clone(), given)?;
        Ok(self.replace(index, node))
    }

    /// Removes parameters from a node.
    ///
    /// # Errors
    ///
    /// The node does not exist, or its provider has no such parameter.
    pub fn clear(&mut self, index: Index, given: &Clear) -> Result<Change, Refusal> {
        let mut node = self.0.get(&index).ok_or(Refusal::Unknown)?.clone();
        for flag in &given.parameters {
            let parameter = parameters::find(node.provider, flag).map_err(Refusal::Usage)?;
            node.parameters.remove(parameter.name);
        }
        if given.mode {
            node.mode = None;
        }
        parameters::check_together(&node).map_err(Refusal::Contradiction)?;
        Ok(self.replace(index, node))
    }

    /// Deletes a node if it exists.
    pub fn delete(&mut self, index: Index) -> Change {
        if self.0.remove(&index).is_some() { Change::Deleted } else { Change::Unchanged }
    }

    fn replace(&mut self, index: Index, node: Node) -> Change {
        match self.0.insert(index, node) {
            None => Change::Created,
            Some(before) if self.0.get(&index) == Some(&before) => Change::Unchanged,
            Some(_) => Change::Modified,
        }
    }
}

/// Returns a node with the given properties changed.
fn changed(mut node: Node, given: &Set) -> Result<Node, Refusal> {
    let provider = node.provider;
    if given.provider.is_some_and(|given| given != provider) {
        let why = format!("the node is of {}; delete it to change its provider", provider.name());
        return Err(Refusal::Contradiction(why));
    }
    for (flag, value) in &given.parameters {
        let parameter = parameters::find(provider, flag).map_err(Refusal::Usage)?;
        parameter.set(&mut node.parameters, value).map_err(Refusal::Usage)?;
    }
    node.mode = given.mode.or(node.mode);
    parameters::check_together(&node).map_err(Refusal::Contradiction)?;
    Ok(node)
}

#[cfg(test)]
mod tests;
