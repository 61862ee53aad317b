//! The file of a type: TOML, with each error at its line.

use std::fmt;
use std::path::{Path, PathBuf};

use hax_core::services::model::kind::TypeRecord;
use toml::de::{DeTable, DeValue};

use crate::commands::bounded;
use crate::settings::recover;

/// The maximum of a file that is read.
const READ_MAX: u64 = 64 << 10;

/// The form of a type's record. An operator's file does not name it.
const FORM: &str = "v = 1\n";

/// The errors of a file, each with its line.
#[derive(Debug)]
pub(super) struct Wrong {
    path: PathBuf,
    /// The line, counted from 1, where it is known.
    errors: Vec<(Option<usize>, String)>,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, (line, why)) in self.errors.iter().enumerate() {
            if nth > 0 {
                writeln!(f)?;
            }
            let path = self.path.display();
            match line {
                Some(line) => write!(f, "{path}: line {line}: {why}")?,
                None => write!(f, "{path}: {why}")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Wrong {}

/// Reads the file of a type, and checks all of its fields.
pub(super) fn read(path: &Path) -> anyhow::Result<TypeRecord> {
    let text = bounded::text(path, READ_MAX)?;
    parse(&text).map_err(|errors| Wrong { path: path.into(), errors }.into())
}

fn parse(text: &str) -> Result<TypeRecord, Vec<(Option<usize>, String)>> {
    let (record, wrong) = recover::parse::<TypeRecord>(&format!("{FORM}{text}"));
    if !wrong.is_empty() {
        // The line of the form is not in the file.
        let line = |line: usize| if line == 0 { None } else { Some(line) };
        return Err(wrong
            .into_iter()
            .map(|(nth, why)| (line(nth), why.message().to_owned()))
            .collect());
    }
    let record = record.ok_or_else(|| vec![(None, "the file is empty".to_owned())])?;
    let problems = record.problems();
    if problems.is_empty() {
        return Ok(record);
    }
    let with_line = problems.into_iter().map(|problem| {
        let line = line_of(text, &problem.field);
        (line, format!("{}: {}", problem.field, problem.why))
    });
    Err(with_line.collect())
}

/// Returns the line of a field, counted from 1; of a field that is missing, that of its table.
fn line_of(text: &str, field: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut table = Some(document.get_ref());
    let mut found = None;
    for part in field.split('.') {
        let Some((key, value)) = table.and_then(|table| table.get_key_value(part)) else { break };
        found = Some(key.span().start);
        table = match value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => None,
        };
    }
    found.map(|start| recover::line_of(text, start) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = r#"
type = "web"
holds = "http"
command = ["/usr/lib/hax/services/web", "--port", "{port}"]
user = "www"
ready = "tcp:{port}"
check = { http = "http://127.0.0.1:{port}/", every = "1s", timeout = "5s" }
[parameters]
port = { kind = "integer", default = 8080 }
[restart]
policy = "on-failure"
stable = "10s"
give_up = "5 in 300s"
[place]
nodes = ["*"]
labels = { rack = "a" }
count = "each"
[schema]
id = "web-1"
kinds = ["database-connection"]
[message.rotate]
command = ["/usr/lib/hax/services/web-rotate"]
"#;

    #[test]
    fn the_example_of_the_guide_is_a_type() {
        let web = parse(WEB).unwrap();
        assert_eq!((web.name.as_str(), web.service_name().as_str()), ("web", "http"));
        assert_eq!(&*web.place.labels["rack"], "a");
    }

    #[test]
    fn each_error_has_its_line() {
        for (from, to, expected) in [
            ("\"web\"\nholds", "\"Web\"\nholds", &[(Some(2), "1 to 48")][..]),
            ("[\"/usr/lib/hax/services/web\", ", "[\"web\", ", &[(Some(4), "command: ")]),
            ("user = ", "usr = ", &[(Some(5), "unknown field `usr`")]),
            ("\"10s\"", "\"10\"", &[(Some(12), "")]),
            ("\"10s\"", "\"0s\"", &[(Some(12), "restart.stable: ")]),
            ("default = 8080", "default = \"x\"", &[(Some(9), "parameters.port: ")]),
            (
                "command = [\"/usr/lib/hax/services/web-rotate\"]",
                "command = [\"x\"]",
                &[(Some(21), "message.rotate: ")],
            ),
            ("type = \"web\"", "", &[(None, "missing field `type`")]),
            (
                "user = \"www\"\nready = \"tcp:{port}\"",
                "usr = 1\nready = \"file:x\"",
                &[(Some(5), "unknown field `usr`")],
            ),
        ] {
            let text = WEB.replace(from, to);
            assert_ne!(text, WEB);
            let wrong = parse(&text).unwrap_err();
            assert_eq!(wrong.len(), expected.len(), "{to}: {wrong:?}");
            for ((line, why), (at, part)) in wrong.iter().zip(expected) {
                assert!(line == at && why.contains(part), "{to}: {wrong:?}");
            }
        }
    }
}
