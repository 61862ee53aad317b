//! Places: the nodes on which a type's instances run.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::Words;

/// The labels of a node, set by `hax run --label`.
pub type Labels = BTreeMap<Box<str>, Box<str>>;

/// The nodes of a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Place {
    /// The nodes' names. `*` stands for any characters, `?` for any one.
    pub nodes: Words,
    /// Labels that a node has to have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
    /// How many instances there are.
    pub count: Count,
}

impl Default for Place {
    fn default() -> Self {
        Self { nodes: ["*".into()].into(), labels: Labels::new(), count: Count::Each }
    }
}

/// How many instances of a type there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Count {
    /// One on each node of the place.
    Each,
    /// This many in the cluster.
    Number(u32),
}

/// The form of a [`Count`] in a record.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Word(String),
    Number(u32),
}

impl TryFrom<Written> for Count {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Word(word) if word == "each" => Ok(Self::Each),
            Written::Number(number) if number > 0 => Ok(Self::Number(number)),
            Written::Word(word) => Err(format!("{word:?}: count is \"each\" or a number")),
            Written::Number(_) => Err("count is \"each\" or at least 1".into()),
        }
    }
}

impl From<Count> for Written {
    fn from(count: Count) -> Self {
        match count {
            Count::Each => Self::Word("each".into()),
            Count::Number(number) => Self::Number(number),
        }
    }
}

impl Place {
    /// Returns whether a node belongs to the place.
    #[must_use]
    pub fn has(&self, node: &str, labels: &Labels) -> bool {
        let labelled = |(name, value)| labels.get(name) == Some(value);
        self.nodes.iter().any(|glob| matches(glob, node)) && self.labels.iter().all(labelled)
    }
}

/// Returns whether a name matches a pattern with `*` and `?`.
fn matches(glob: &str, name: &str) -> bool {
    let (glob, name) = (glob.as_bytes(), name.as_bytes());
    let (mut g, mut n) = (0, 0);
    // The last star, and the place in the name up to which it reaches.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match glob.get(g) {
            Some(b'*') => {
                star = Some((g, n));
                g += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[n] => (g, n) = (g + 1, n + 1),
            Some(_) | None => {
                let Some((at, reach)) = star else { return false };
                star = Some((at, reach + 1));
                (g, n) = (at + 1, reach + 1);
            }
        }
    }
    glob[g..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    #[test]
    fn a_node_is_in_a_place_by_its_name_and_its_labels() {
        let place: Place =
            serde_json::from_str(r#"{"nodes":["ssu*","cmu?"],"labels":{"rack":"a"}}"#).unwrap();
        let rack: Labels = [("rack".into(), "a".into()), ("x".into(), "y".into())].into();
        for (node, is_in) in
            [("ssu1", true), ("ssu", true), ("cmu1", true), ("cmu12", false), ("x", false)]
        {
            assert_eq!(place.has(node, &rack), is_in, "{node}");
            assert!(!place.has(node, &Labels::new()));
        }
        assert!(Place::default().has("any", &Labels::new()));
    }

    #[test]
    fn a_count_is_each_or_a_number() {
        for text in [r#""each""#, "3"] {
            let count: Count = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&count).unwrap(), text);
        }
        for text in [r#""all""#, "0", "-1", "[]"] {
            assert!(serde_json::from_str::<Count>(text).is_err(), "{text}");
        }
    }

    /// The rule of patterns in its shortest form.
    fn naive(glob: &[u8], name: &[u8]) -> bool {
        match (glob, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=name.len()).any(|n| naive(rest, &name[n..])),
            ([b'?', rest @ ..], [_, name @ ..]) => naive(rest, name),
            ([a, rest @ ..], [b, name @ ..]) if a == b => naive(rest, name),
            _ => false,
        }
    }

    quickcheck! {
        fn a_pattern_matches_as_its_rule_says(glob: alloc::vec::Vec<u8>, name: alloc::vec::Vec<u8>) -> bool {
            let of = |bytes: &[u8], letters: &[u8; 4]| -> alloc::vec::Vec<u8> {
                bytes.iter().take(8).map(|byte| letters[usize::from(*byte % 4)]).collect()
            };
            let (glob, name) = (of(&glob, b"ab*?"), of(&name, b"abab"));
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            matches(&text(&glob), &text(&name)) == naive(&glob, &name)
        }
    }
}
