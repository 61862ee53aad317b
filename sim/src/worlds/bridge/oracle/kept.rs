//! The rules for links that outlive a hax.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hax_core::ha::fact::Fact;
use hax_core::node::Node;
use hax_core::wire::codec::fop::Fop;
use hax_core::wire::codec::params::Uint128;

use super::super::hax::Fate;
use super::{broken, frames};
use crate::engine::Violation;

/// What is known of one hax over all its lives.
#[derive(Debug)]
struct Lives {
    fate: Fate,
    /// Links were taken over from an older copy. Until their processes have shown it, the next lives do not
    /// know better.
    had_stale: bool,
    /// The number of links that the next step has to show.
    expected: Option<usize>,
    /// The links on which a former life has spoken, and those on which this one has.
    former: BTreeSet<Uint128>,
    spoken: BTreeSet<Uint128>,
    /// The content that was sent with each tag of each link.
    tags: BTreeMap<(Uint128, u64), Bytes>,
}

#[derive(Debug)]
pub(super) struct Kept {
    lives: Vec<Lives>,
}

impl Kept {
    pub(super) fn new(haxes: usize) -> Self {
        let new = || Lives {
            fate: Fate::Kept,
            had_stale: false,
            expected: None,
            former: BTreeSet::new(),
            spoken: BTreeSet::new(),
            tags: BTreeMap::new(),
        };
        Self { lives: (0..haxes).map(|_| new()).collect() }
    }

    pub(super) fn on_start(&mut self, hax: usize, fate: Fate, links: usize) {
        let lives = &mut self.lives[hax];
        lives.fate = fate;
        let spoken = std::mem::take(&mut lives.spoken);
        lives.former.extend(spoken);
        lives.expected = (fate == Fate::Kept).then_some(links);
        lives.had_stale = match fate {
            Fate::Stale => true,
            Fate::Kept => lives.had_stale,
            Fate::Lost | Fate::Torn | Fate::Rebooted => false,
        };
        if fate == Fate::Stale {
            // What the older copy does not know may be contradicted, until a process shows it.
            lives.tags.clear();
        }
    }

    /// Checks that all links are taken over at once.
    pub(super) fn on_step(&mut self, hax: usize, node: &Node) -> Result<(), Violation> {
        let Some(expected) = self.lives[hax].expected.take() else { return Ok(()) };
        let links = node.wire().links.len();
        if links == expected {
            return Ok(());
        }
        broken("kept links are taken over at once", format!("hax {hax}: {links} of {expected}"))
    }

    /// Checks that a link is only taken over from a state that fits.
    pub(super) fn on_fact(&self, hax: usize, fact: &Fact) -> Result<(), Violation> {
        let fits = matches!(self.lives[hax].fate, Fate::Kept | Fate::Stale);
        match fact {
            Fact::LinkKept { process, .. } if !fits => {
                let text = format!("hax {hax}: {process}, {:?}", self.lives[hax].fate);
                broken("only a state that fits is taken over", text)
            }
            Fact::LinkContradicted { process, why, .. } if !self.lives[hax].had_stale => {
                // A process that has begun a new life does not know the link.
                if *why == "the process does not know it" {
                    return Ok(());
                }
                broken("a kept state is the last one", format!("hax {hax}: {process}: {why}"))
            }
            _ => Ok(()),
        }
    }

    /// Checks that no tag is used for two contents, in whichever lives, and none of a link that was taken over
    /// before its process was asked for its positions.
    pub(super) fn on_frame(&mut self, hax: usize, bytes: &Bytes) -> Result<(), Violation> {
        for item in frames::items(bytes)?.1 {
            let Fop::LinkMsg(msg) = item.fop else { continue };
            let (end, tag) = (msg.ids.local, msg.tag);
            let lives = &mut self.lives[hax];
            let is_first = lives.spoken.insert(end);
            if is_first && lives.former.contains(&end) && msg.message.is_some() {
                let text = format!("hax {hax}: tag {tag} of {end}");
                return broken("a link that was taken over asks before it speaks", text);
            }
            let Some(message) = msg.message else { continue };
            let content = Bytes::from(format!("{message:?}"));
            let tags = &mut lives.tags;
            if tags.get(&(end, tag)).is_some_and(|former| *former != content) {
                let text = format!("hax {hax}: tag {tag} of {end}");
                return broken("a tag belongs to its content for ever", text);
            }
            tags.insert((end, tag), content);
        }
        Ok(())
    }
}
