//! Links and the messages on them.

use std::collections::{BTreeMap, VecDeque};

use super::library::Link;
use super::locality::Call;
use super::state::{Phase, Ptr, State};
use crate::abi;

/// One life of a process: its fid and its pid.
pub(super) type Life = ((u64, u64), u64);

const STATE_FAILED: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Up {
    Active,
    /// `link_is_disconnecting` is pending.
    Failing,
    /// `link_is_disconnecting` has been called.
    Told,
    /// `disconnect` has been called.
    Stopped,
}

pub(super) struct LinkState {
    /// The pointer that the library's user takes for a link.
    pub(super) handle: Ptr<abi::m0_ha_link>,
    pub(super) life: Life,
    pub(super) up: Up,
    /// The received messages that are not acknowledged, by tag.
    pub(super) received: BTreeMap<u64, Ptr<abi::m0_ha_msg>>,
    next_received: u64,
    next_sent: u64,
    /// The sent messages that the test has not read.
    pub(super) sent: VecDeque<Box<abi::m0_ha_msg>>,
    /// The tags of sent messages that are not settled.
    pub(super) owed: VecDeque<u64>,
}

impl State {
    pub(super) fn make_link(&mut self, life: Life) -> Link {
        self.links_made += 1;
        // The memory is never read. It is a separate allocation, so that a sanitizer detects any access after
        // the link's end.
        let handle = Ptr(Box::into_raw(Box::new(0_u64)).cast());
        let link = LinkState {
            handle,
            life,
            up: Up::Active,
            received: BTreeMap::new(),
            next_received: 2,
            next_sent: 1,
            sent: VecDeque::new(),
            owed: VecDeque::new(),
        };
        self.links.insert(self.links_made, link);
        Link(self.links_made)
    }

    /// Returns the link of a function's argument.
    pub(super) fn link_of(&mut self, handle: *mut abi::m0_ha_link, function: &str) -> Option<Link> {
        let known = self.links.iter().find(|(_, link)| link.handle.0 == handle);
        match known {
            Some((id, link)) if link.up != Up::Stopped => Some(Link(*id)),
            Some(_) => {
                self.wrong(format!("{function} after disconnect"));
                None
            }
            None => {
                self.wrong(format!("{function} on a link that does not exist"));
                None
            }
        }
    }

    /// Receives a message of a peer.
    pub(super) fn receive(
        &mut self,
        Link(id): Link,
        mut message: Box<abi::m0_ha_msg>,
    ) -> Option<u64> {
        let link = self.links.get_mut(&id).filter(|link| link.up != Up::Stopped)?;
        let tag = link.next_received;
        link.next_received += 2;
        message.hm_tag = tag;
        let message = Ptr(Box::into_raw(message));
        link.received.insert(tag, message);
        self.calls.push_back(Call::Received { link: link.handle, message, tag });
        Some(tag)
    }

    pub(super) fn send(&mut self, Link(id): Link, message: Box<abi::m0_ha_msg>) -> u64 {
        self.check(&message);
        let prompt = self.prompt;
        let Some(link) = self.links.get_mut(&id) else { return 0 };
        let tag = link.next_sent;
        link.next_sent += 2;
        link.owed.push_back(tag);
        if Some(link.life) == self.own {
            // A message to ourselves passes through the library like any other, and has its effect there.
            self.withheld.push(Call::Ourselves { link: Link(id), message });
            self.pass_on();
            return tag;
        }
        link.sent.push_back(message);
        if prompt {
            self.settle(Link(id), true);
        }
        tag
    }

    /// Delivers our messages to ourselves, unless they are delayed.
    pub(super) fn pass_on(&mut self) {
        if !self.withhold {
            self.calls.extend(self.withheld.drain(..));
        }
    }

    /// Checks for content on which a receiver would abort.
    fn check(&mut self, message: &abi::m0_ha_msg) {
        if message.hm_data.hed_type != u64::from(abi::M0_HA_MSG_NVEC) {
            return;
        }
        // SAFETY: the type has been checked.
        let nvec = unsafe { &message.hm_data.u.hed_nvec };
        if nvec.hmnv_nr > u64::from(abi::M0_HA_STATE_UPDATE_LIMIT) {
            self.wrong("more than 1024 notes are sent");
            return;
        }
        if nvec.hmnv_ignore_same_state > 1 {
            self.wrong("ignore_same_state is neither 0 nor 1");
        }
        if nvec.hmnv_type == 0 && notes(nvec).any(|(_, state)| state == 0) {
            self.wrong("a state of 0 is sent");
        }
    }

    /// Handles a message to ourselves. A process that is reported as failed loses all its links, unless this
    /// is the first report about it.
    pub(super) fn hear_ourselves(&mut self, message: &abi::m0_ha_msg) {
        if message.hm_data.hed_type != u64::from(abi::M0_HA_MSG_NVEC) {
            return;
        }
        // SAFETY: the type has been checked.
        let nvec = unsafe { &message.hm_data.u.hed_nvec };
        for (fid, state) in notes(nvec).filter(|((container, _), _)| container >> 56 == 0x72) {
            let before = self.told.insert(fid, state);
            let same = before == Some(state) && nvec.hmnv_ignore_same_state == 1;
            if state == STATE_FAILED && before.is_some() && !same {
                self.fail(fid);
            }
        }
    }

    /// Starts to disconnect all links of a process.
    pub(super) fn fail(&mut self, process: (u64, u64)) {
        for link in self.links.values_mut() {
            if link.life.0 == process && link.up == Up::Active {
                link.up = Up::Failing;
                self.calls.push_back(Call::Disconnecting { link: link.handle });
            }
        }
    }

    pub(super) fn settle(&mut self, Link(id): Link, delivered: bool) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if let Some(tag) = link.owed.pop_front() {
            self.calls.push_back(Call::Settled { link: link.handle, tag, delivered });
        }
    }

    /// Takes a message back from the user: it is overwritten and freed.
    pub(super) fn acknowledge(&mut self, Link(id): Link, message: *const abi::m0_ha_msg) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let tag = link.received.iter().find(|(_, known)| known.0.cast_const() == message);
        let Some(tag) = tag.map(|(tag, _)| *tag) else {
            self.wrong("delivered for a message that is acknowledged or of another link");
            return;
        };
        if let Some(message) = link.received.remove(&tag) {
            free_message(message);
        }
    }

    pub(super) fn disconnect(&mut self, Link(id): Link) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let (up, unacknowledged) = (link.up, link.received.len());
        link.up = Up::Stopped;
        if up != Up::Told {
            self.wrong("disconnect of a link that is not disconnecting");
        }
        if unacknowledged > 0 {
            self.wrong(format!("disconnect with {unacknowledged} messages not acknowledged"));
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        for tag in std::mem::take(&mut link.owed) {
            self.calls.push_back(Call::Settled { link: link.handle, tag, delivered: false });
        }
        self.gone.insert(link.life);
        self.calls.push_back(Call::Disconnected { link: link.handle });
    }

    /// Removes a link after `link_disconnected`.
    pub(super) fn remove_link(&mut self, handle: Ptr<abi::m0_ha_link>) {
        let id = self.links.iter().find(|(_, link)| link.handle.0 == handle.0).map(|(id, _)| *id);
        if let Some(link) = id.and_then(|id| self.links.remove(&id)) {
            free_link(link);
        }
    }

    pub(super) fn fail_all(&mut self) {
        debug_assert_eq!(self.phase, Phase::Stopping, "only a stop takes all links");
        for link in self.links.values_mut().filter(|link| link.up == Up::Active) {
            link.up = Up::Failing;
            self.calls.push_back(Call::Disconnecting { link: link.handle });
        }
    }
}

pub(super) fn notes(nvec: &abi::m0_ha_msg_nvec) -> impl Iterator<Item = ((u64, u64), u32)> {
    let n = usize::try_from(nvec.hmnv_nr).unwrap_or(usize::MAX);
    nvec.hmnv_arr.hmna_arr.iter().take(n).map(|note| {
        let abi::m0_ha_note { no_id, no_state } = *note;
        ((no_id.f_container, no_id.f_key), no_state)
    })
}

pub(super) fn free_link(link: LinkState) {
    link.received.into_values().for_each(free_message);
    // SAFETY: it was made as a box of this type, and is freed only here, when it leaves the table.
    drop(unsafe { Box::from_raw(link.handle.0.cast::<u64>()) });
}

fn free_message(message: Ptr<abi::m0_ha_msg>) {
    // SAFETY: it was a box; it has just left the table that owned it.
    let mut message = unsafe { Box::from_raw(message.0) };
    // A later read sees invalid values.
    message.hm_data.hed_type = u64::MAX;
    message.hm_tag = u64::MAX;
}
