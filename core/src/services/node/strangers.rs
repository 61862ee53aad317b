//! Instances of hax in the keeper's table that Consul does not know: a restored snapshot has forgotten them.
//!
//! They are left alone, since a record that is missing says nothing. Once their type is wanted here again, they
//! are taken over. One with the wanted configuration goes on, and is the wanted start. Another one is stopped before
//! that start.

use super::State;
use super::context::Cx;
use super::keeper::find_unlisted;
use crate::keeper::answer::{self, View};
use crate::keeper::name::InstanceId;
use crate::services::fact::Fact;
use crate::services::model::name::parts_of;
use crate::services::model::record::Want;

impl State {
    /// Leaves an instance alone that Consul does not know.
    pub(super) fn leave_alone(&mut self, cx: &mut Cx<'_>, view: &View) {
        cx.emit(Fact::Stranger { instance: view.instance.clone() });
        if parts_of(&view.instance).is_some() {
            self.strangers.push(view.clone());
        }
    }

    /// Takes over the instances whose types are known again.
    pub(super) fn adopt_strangers(&mut self, cx: &mut Cx<'_>) {
        let Some(boot) = self.keeper.as_ref().map(|keeper| keeper.boot.clone()) else { return };
        for view in core::mem::take(&mut self.strangers) {
            let kind = self.kind_of(&view.instance);
            let row = kind.as_ref().and_then(|kind| self.instances.get_mut(kind));
            match (kind, row.filter(|row| row.live.is_none())) {
                // Its records are there again.
                (Some(_), Some(row)) if row.seen.instance.as_ref() == Some(&view.instance) => {
                    self.adopt(cx, &view, &boot);
                }
                (Some(kind), Some(row)) if row.wanted.is_some() => {
                    // One with the wanted configuration is what is wanted. Else each wanted start is later.
                    let wanted = row.wanted.as_ref().filter(|wanted| {
                        let is_same = view.tag.as_ref() == Some(&wanted.launch.revision);
                        let runs = view.state == answer::State::Running;
                        let is_open =
                            wanted.want == Want::Running && row.seen.serial < wanted.serial;
                        is_open && is_same && runs
                    });
                    let serial = wanted.map_or(0, |wanted| wanted.serial);
                    self.adopt_as(cx, (&kind, serial), &view, &boot);
                }
                (_, _) => self.strangers.push(view),
            }
        }
        self.settle_found(cx, &boot);
    }

    /// Compares the observations that were found after the reconciliation with what lives: they may be from
    /// before a reboot.
    fn settle_found(&mut self, cx: &mut Cx<'_>, boot: &str) {
        for kind in core::mem::take(&mut self.found) {
            if let Some(row) = self.instances.get_mut(&kind).filter(|row| row.live.is_none()) {
                find_unlisted(cx, row, boot);
            }
        }
    }

    /// An instance has started: it may be one that the keeper was about to start when it was listed.
    pub(super) fn stranger_started(&mut self, view: View) {
        let stranger = self.strangers.iter_mut().find(|of| of.instance == view.instance);
        if let Some(stranger) = stranger {
            *stranger = view;
        }
    }

    /// An instance has ended.
    pub(super) fn forget_stranger(&mut self, id: &InstanceId) {
        self.strangers.retain(|view: &View| view.instance != *id);
    }
}
