//! Direct access of a test to the state of the servers, whatever the responses of agents say.

use super::agent::Presence;
use super::{AgentId, Consul};

/// One key of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvView<'a> {
    /// The whole key.
    pub key: &'a str,
    /// Its value.
    pub value: &'a [u8],
    /// The session that holds the key's lock. Empty if the key is not locked.
    pub session: &'a str,
    /// The index of its last change.
    pub index: u64,
}

/// One check of the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckView<'a> {
    /// The node of the registration.
    pub node: &'a str,
    /// Its id.
    pub id: &'a str,
    /// The service of the check. Empty for a check of the node.
    pub service: &'a str,
    /// Whether its status is `passing`.
    pub passing: bool,
    /// The index of its last change.
    pub index: u64,
}

impl Consul {
    /// Returns the keys at and below a prefix.
    pub fn entries<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = KvView<'a>> {
        self.store.below(prefix).map(|entry| KvView {
            key: &entry.key,
            value: entry.value.as_deref().unwrap_or_default(),
            session: &entry.session,
            index: entry.modify_index,
        })
    }

    /// Returns one key, if it exists.
    #[must_use]
    pub fn entry<'a>(&'a self, key: &'a str) -> Option<KvView<'a>> {
        self.entries(key).next().filter(|held| held.key == key)
    }

    /// Returns all checks.
    pub fn checks(&self) -> impl Iterator<Item = CheckView<'_>> {
        self.store.checks.values().map(|check| CheckView {
            node: &check.node,
            id: &check.id,
            service: &check.service_id,
            passing: check.status == "passing",
            index: check.modify_index,
        })
    }

    /// Returns the node of a session, if the session exists.
    #[must_use]
    pub fn session_node(&self, session: &str) -> Option<&str> {
        self.store.sessions.get(session).map(|session| &*session.node)
    }

    /// Returns whether an agent has left the cluster. Such an agent does not listen.
    #[must_use]
    pub fn has_left(&self, agent: AgentId) -> bool {
        self.agents[agent].presence == Presence::Left
    }

    /// Returns whether the cluster has a leader.
    #[must_use]
    pub fn has_leader(&self) -> bool {
        self.leader
    }
}
