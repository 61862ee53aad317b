//! The rules for the outcomes of sent messages, and for links.

use std::collections::BTreeSet;

use hax_core::base::id::{LinkId, SendId};
use hax_core::ha::fact::Fact;

use super::broken;
use crate::engine::Violation;

#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// The sent messages that have their outcome.
    settled: BTreeSet<(LinkId, SendId)>,
    up: BTreeSet<LinkId>,
    ready: bool,
}

impl Outcomes {
    pub(super) fn on_fact(&mut self, fact: &Fact) -> Result<(), Violation> {
        match fact {
            Fact::LinkUp { link, .. } | Fact::LinkKept { link, .. } if !self.up.insert(*link) => {
                return broken("each link has a name of its own", format!("{link} again"));
            }
            Fact::LinkClosed { link, .. } => {
                self.settled.retain(|(of, _)| of != link);
                if !self.up.remove(link) {
                    return broken("a link that is up closes once", format!("{link}"));
                }
                return Ok(());
            }
            Fact::Delivered { link, send } | Fact::Undelivered { link, send }
                if !self.settled.insert((*link, *send)) =>
            {
                return broken("what is sent has one outcome", format!("{send} over {link} again"));
            }
            Fact::Ready {} if std::mem::replace(&mut self.ready, true) => {
                return broken("a bridge gets ready once", "");
            }
            Fact::EntryUnknown { entry } => {
                return broken("an entrypoint request has one reply", format!("{entry}"));
            }
            Fact::Unsendable { send } => {
                return broken("nothing is sent that makes its receiver abort", format!("{send}"));
            }
            _ => {}
        }
        Ok(())
    }
}
