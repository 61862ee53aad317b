//! The answers of rule programs: what a program asks for, a JSON object a line.
//!
//! `{"restart": "web", "node": "n1"}`, with `start`, `stop` or `restart`. Without a node it is about all nodes of the
//! type's place. A `start` may have `parameters`. Lines that begin with another character than `{` are the program's
//! own words.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde::Deserialize;

use super::name::{NodeName, TypeName};
use super::parameters::Given;
use super::record::{Ask, Verb};

/// The maximum number of requests in one answer.
pub const ASKS_MAX: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    start: Option<TypeName>,
    stop: Option<TypeName>,
    restart: Option<TypeName>,
    node: Option<NodeName>,
    #[serde(default)]
    parameters: Given,
}

impl Line {
    fn ask(self, by: &str) -> Result<Ask, String> {
        let Self { start, stop, restart, node, parameters } = self;
        let (verb, kind) = match (start, stop, restart) {
            (Some(kind), None, None) => (Verb::Start, kind),
            (None, Some(kind), None) => (Verb::Stop, kind),
            (None, None, Some(kind)) => (Verb::Restart, kind),
            _ => return Err("exactly one of start, stop and restart is expected".into()),
        };
        if verb != Verb::Start && !parameters.is_empty() {
            return Err("only a start has parameters".into());
        }
        Ok(Ask { verb, kind, node, given: parameters, serials: BTreeMap::new(), by: by.into() })
    }
}

/// Returns what a program asks for.
///
/// # Errors
///
/// The first line that cannot be used, and why. Nothing of such an answer counts.
pub fn parse(text: &[u8], by: &str) -> Result<Vec<Ask>, Box<str>> {
    let text = String::from_utf8_lossy(text);
    let mut asks = Vec::new();
    for (nth, line) in
        text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with('{'))
    {
        let ask = serde_json::from_str::<Line>(line).map_err(|why| why.to_string());
        let ask = ask.and_then(|line| line.ask(by));
        let ask = ask.map_err(|why| alloc::format!("line {}: {why}", nth + 1))?;
        if asks.len() == ASKS_MAX {
            return Err(alloc::format!("it asks for more than {ASKS_MAX} things").into());
        }
        asks.push(ask);
    }
    Ok(asks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_asks_for_something_in_each_line_that_is_an_object() {
        let text = b"looking at it\n{\"restart\":\"web\",\"node\":\"n1\"}\n\n {\"start\":\"db\",\"parameters\":{\"port\":1}}\n";
        let asks = parse(text, "rule x").unwrap();
        assert_eq!(asks.len(), 2);
        assert_eq!((asks[0].verb, asks[0].node.as_ref().unwrap().as_str()), (Verb::Restart, "n1"));
        assert_eq!((asks[1].verb, &asks[1].node, &*asks[1].by), (Verb::Start, &None, "rule x"));
        assert_eq!(asks[1].given["port"], 1);
        assert_eq!(parse(b"", "").unwrap(), []);
    }

    #[test]
    fn of_an_answer_that_is_wrong_somewhere_nothing_counts() {
        for (text, part) in [
            ("{\"start\":\"web\"}\n{\"dance\":\"web\"}", "line 2: unknown field `dance`"),
            ("{\"start\":\"web\",\"stop\":\"web\"}", "exactly one"),
            ("{}", "exactly one"),
            ("{\"stop\":\"web\",\"parameters\":{\"a\":1}}", "only a start"),
            ("{\"start\":\"Web\"}", "1 to 48"),
            ("{", "EOF"),
            (&"{\"stop\":\"web\"}\n".repeat(ASKS_MAX + 1), "more than 16"),
        ] {
            let why = parse(text.as_bytes(), "").unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
        assert!(parse(b"{\xff}", "").is_err());
    }
}
