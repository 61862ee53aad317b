//! Answers as text.

use std::fmt::Write as _;

use serde_json::Value;

/// Returns a table with a head; its columns are as wide as their longest words.
fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(|word| word.chars().count());
    for row in rows {
        for (width, word) in widths.iter_mut().zip(row) {
            *width = (*width).max(word.chars().count());
        }
    }
    let mut text = String::new();
    let head = head.map(str::to_owned);
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (width, word) in widths.iter().zip(row) {
            // Writing to a string does not fail.
            let _ = write!(line, "{word:width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Returns the instances as a table.
pub(super) fn instances(all: &Value) -> String {
    let rows = all.as_array().into_iter().flatten().map(|one| {
        let reason = &one["reason"]["text"];
        [
            text(&one["type"]),
            text(&one["node"]),
            text(&one["state"]),
            text(&one["pid"]),
            text(&one["instance"]),
            if reason.is_null() { String::new() } else { text(reason) },
        ]
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return "no instances; hax service start TYPE starts some\n".into();
    }
    table(["TYPE", "NODE", "STATE", "PID", "INSTANCE", "REASON"], &rows)
}

/// Returns the types as a table.
pub(super) fn types(all: &Value) -> String {
    let rows = all.as_array().into_iter().flatten().map(|one| {
        let kind = &one["type"];
        let words = |value: &Value| {
            let words = value.as_array().into_iter().flatten().map(text);
            words.collect::<Vec<_>>().join(",")
        };
        let runs = if one["runs"] == true { "runs" } else { "-" };
        [
            text(&kind["type"]),
            text(&kind["runner"]),
            runs.to_owned(),
            words(&one["nodes"]),
            words(&kind["needs"]),
        ]
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return "no types; hax service define FILE defines one\n".into();
    }
    table(["TYPE", "RUNNER", "GOAL", "NODES", "NEEDS"], &rows)
}

/// Returns the status of the services of a node.
pub(in crate::commands) fn status(said: &Value) -> String {
    let yes = |value: &Value| if *value == true { "yes" } else { "no" };
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(out, "node         {}", text(&said["node"]));
    let why = said["reason"].as_str().map_or_else(String::new, |why| format!(": {why}"));
    let _ = writeln!(out, "ready        {}{why}", yes(&said["ready"]));
    let _ = writeln!(out, "coordinator  {}", yes(&said["coordinates"]));
    let _ =
        writeln!(out, "instances    {}, {} live", text(&said["instances"]), text(&said["living"]));
    let keeper = &said["keeper"];
    let keeper = match keeper {
        Value::Null => "cannot be reached".to_owned(),
        of => {
            format!("process {}, generation {}, {}", of["pid"], of["generation"], text(&of["held"]))
        }
    };
    let _ = writeln!(out, "keeper       {keeper}");
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn instances_are_a_table() {
        let all = json!([
            {"type": "web", "node": "n1", "state": "running", "pid": 7, "instance": "web-n1-1"},
            {"type": "database", "node": "n1", "state": "failed", "pid": null, "instance": null,
                "reason": {"text": "exit code 3"}},
        ]);
        assert_eq!(
            instances(&all),
            "\
TYPE      NODE  STATE    PID  INSTANCE  REASON
web       n1    running  7    web-n1-1
database  n1    failed   -    -         exit code 3
"
        );
        assert!(instances(&json!([])).contains("hax service start"));
        assert!(types(&json!([])).contains("hax service define"));
    }

    #[test]
    fn why_a_node_is_not_ready_is_said() {
        let said = json!({"node": "n1", "ready": false, "reason": "no keeper", "coordinates": true,
            "instances": 2, "living": 0, "keeper": null});
        let text = status(&said);
        assert!(text.contains("ready        no: no keeper") && text.contains("cannot be reached"));
    }
}
