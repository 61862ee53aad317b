//! Supervision: which supervisor watches which.
//!
//! Each node with services has a supervisor. It watches the instances of its own node and the supervisors of up to
//! two other nodes: of the sorted names of the living nodes, each is watched by the next two. So the duty is
//! spread evenly, and a node that comes or goes changes the sets of its neighbours only. A supervisor reports, and
//! moves nothing.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::form;
use super::name::NodeName;

/// The number of supervisors that watch each other one.
const WATCHERS: usize = 2;

/// What a supervisor watches beside its own node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervision {
    /// The version of the record.
    #[serde(default = "form")]
    pub v: u32,
    /// The nodes whose supervisors it watches, sorted.
    pub watches: Box<[NodeName]>,
}

/// Returns the record of each of these living nodes, which are sorted.
#[must_use]
pub fn spread(nodes: &[NodeName]) -> BTreeMap<NodeName, Supervision> {
    let count = nodes.len();
    let of = |(at, node): (usize, &NodeName)| {
        // Who is watched by node `at` is one or two places before it.
        let before = (1..=WATCHERS.min(count - 1)).map(|back| &nodes[(at + count - back) % count]);
        let mut watches: Vec<NodeName> = before.cloned().collect();
        watches.sort_unstable();
        (node.clone(), Supervision { v: form(), watches: watches.into() })
    };
    nodes.iter().enumerate().map(of).collect()
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::format;

    use super::*;

    fn nodes(numbers: impl IntoIterator<Item = u32>) -> Vec<NodeName> {
        numbers.into_iter().map(|n| NodeName::new(&format!("n{n:02}")).unwrap()).collect()
    }

    #[test]
    fn h29_each_supervisor_is_watched_by_two_others_where_there_are_two() {
        for count in 0..20 {
            let all = nodes(0..count);
            let sets = spread(&all);
            assert_eq!(sets.len(), all.len());
            for node in &all {
                let watchers =
                    sets.iter().filter(|(_, of)| of.watches.contains(node)).map(|(by, _)| by);
                let watchers: BTreeSet<_> = watchers.collect();
                assert!(!watchers.contains(node), "nobody watches itself");
                assert_eq!(watchers.len(), WATCHERS.min(all.len() - 1), "{count}");
            }
        }
    }

    #[test]
    fn h31_the_duty_is_even_and_a_change_moves_only_that_of_the_neighbours() {
        for count in 3..20 {
            for gone in 0..count {
                let before = spread(&nodes(0..count));
                let after = spread(&nodes((0..count).filter(|n| *n != gone)));
                let sizes = after.values().map(|of| of.watches.len());
                assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
                let changed = after.iter().filter(|(node, of)| before[*node] != **of).count();
                assert!(changed <= WATCHERS, "{changed} of {count} without {gone}");
            }
        }
    }
}
