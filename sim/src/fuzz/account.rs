//! The promises of the server's port: one reply for each request, one outcome for each message, and no excess
//! of the limits.

use std::collections::{BTreeMap, BTreeSet};

use hax_core::base::id::{EntryId, LinkId, MsgId, SendId};
use hax_core::ha::motr::{Command, Event};
use hax_core::wire::Config;

/// The open requests and messages between the server and its bridge.
#[derive(Default)]
pub(super) struct Account {
    pub(super) entries: BTreeSet<EntryId>,
    /// The links, each with its sent messages.
    pub(super) links: BTreeMap<LinkId, BTreeSet<SendId>>,
    pub(super) received: BTreeSet<(LinkId, MsgId)>,
    last_entry: EntryId,
    last_link: LinkId,
    last_msg: MsgId,
}

impl Account {
    /// Observes a command of the bridge.
    pub(super) fn command(&mut self, command: &Command) {
        match command {
            Command::Reply { entry, .. } => {
                self.entries.remove(entry);
            }
            Command::Send { send, to, .. } => {
                for link in to {
                    if let Some(sent) = self.links.get_mut(link) {
                        sent.insert(*send);
                    }
                }
            }
            Command::Ack { link, msg } => {
                self.received.remove(&(*link, *msg));
            }
            // After a stop the pending requests get no reply.
            Command::Stop => self.entries.clear(),
            Command::Owe { .. } | Command::Disconnect { .. } | Command::Peers(_) => {}
        }
    }

    /// Checks an event from the server to the bridge.
    pub(super) fn event(&mut self, config: &Config, event: &Event) {
        match event {
            Event::Asked(request) => {
                assert!(request.entry > self.last_entry, "each request has a name of its own");
                self.last_entry = request.entry;
                self.entries.insert(request.entry);
                assert!(self.entries.len() <= config.entries_max, "entries are bounded");
            }
            Event::LinkUp { link, .. } | Event::LinkKept { link, .. } => {
                assert!(*link > self.last_link, "each link has a name of its own");
                self.last_link = *link;
                self.links.insert(*link, BTreeSet::new());
            }
            Event::LinkReused { link, .. }
            | Event::LinkDown { link }
            | Event::LinkBack { link } => {
                assert!(self.links.contains_key(link), "{link} is none");
            }
            Event::LinkClosed { link } => {
                let owed = self.links.remove(link).expect("a link that is up closes once");
                assert!(owed.is_empty(), "{owed:?} have no outcome");
                self.received.retain(|(of, _)| of != link);
            }
            Event::Received { link, msg, .. } => {
                assert!(self.links.contains_key(link), "{link} is none");
                assert!(*msg > self.last_msg, "each message has a name of its own");
                self.last_msg = *msg;
                self.received.insert((*link, *msg));
                let of_it = self.received.iter().filter(|(of, _)| of == link).count();
                assert!(of_it <= config.unacked_max, "what is not acknowledged is bounded");
            }
            Event::Delivered { link, send } | Event::Undelivered { link, send } => {
                let sent = self.links.get_mut(link).expect("a link that is there");
                assert!(sent.remove(send), "{send} has one outcome");
            }
        }
    }
}
