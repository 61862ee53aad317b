//! The table for hax's status (`GET /status`). Values that a hax of another version leaves out are shown as
//! `-`.

use std::fmt::Write as _;

use serde_json::Value;

use crate::observe::printable::printable;

/// Returns the table; each line has its end.
#[must_use]
pub(super) fn table(said: &Value) -> String {
    let mut out = String::new();
    let how = match (&said["ready"], &said["stopping"]) {
        (_, Value::Bool(true)) => "stopping",
        (Value::Bool(true), _) => "ready",
        (Value::Bool(false), _) => "NOT READY",
        _ => "-",
    };
    let (version, node, process) = (text(&said["version"]), text(&said["node"]), &said["process"]);
    // Writing to a string does not fail, here and below.
    let up = span(&said["uptime_ms"]);
    let _ = writeln!(out, "hax {version} on {node}, process {}: {how}, up {up}", text(process));
    if let Some(why) = said["why"].as_str().filter(|why| !why.is_empty()) {
        let _ = writeln!(out, "Not ready {}", printable(why));
    }
    let consul = &said["consul"];
    let answers = yes(&consul["answers"], "answers", "DOES NOT ANSWER");
    let (contact, calls) = (text(&consul["contact_ms"]), text(&consul["calls"]));
    let _ =
        writeln!(out, "Consul    {answers}, last answer {contact} ms ago, {calls} calls in flight");
    if said["in_catalog"] == false {
        let _ =
            writeln!(out, "Node      NOT IN CONSUL'S CATALOG; only links tell that processes live");
    }
    let _ = writeln!(out, "Leader    {}", leader(&said["leader"]));
    let (entries, questions) = (text(&said["entries"]), text(&said["questions"]));
    let _ =
        writeln!(out, "Waiting   {entries} entrypoint requests, {questions} questions for states");
    rows(&mut out, "Replicas", &said["replicas"], &["TABLE", "INDEX", "LOADED", "ENTRIES"], |r| {
        let loaded = yes(&r["loaded"], "yes", "NO");
        vec![text(&r["table"]), text(&r["index"]), loaded.into(), text(&r["entries"])]
    });
    let head = ["LINK", "PROCESS", "ENDPOINT", "UP", "FOR", "IN FLIGHT", "OWED", "KEPT"];
    rows(&mut out, "Links", &said["links"], &head, |l| {
        let (up, since) = (yes(&l["up"], "yes", "NO").into(), span(&l["since_ms"]));
        let [link, process, endpoint] = ["link", "process", "endpoint"].map(|f| text(&l[f]));
        let [in_flight, owed] = ["in_flight", "owed"].map(|f| text(&l[f]));
        let kept = yes(&l["kept"], "yes", "no").into();
        vec![link, process, endpoint, up, since, in_flight, owed, kept]
    });
    rows(&mut out, "Lanes", &said["lanes"], &["PROCESS", "QUEUED", "STAGE"], |lane| {
        vec![text(&lane["process"]), text(&lane["queued"]), text(&lane["stage"])]
    });
    out
}

/// Returns the leader, and the reason if it is not this hax.
fn leader(said: &Value) -> String {
    let node = match &said["node"] {
        Value::String(node) if !node.is_empty() => Some(node.as_str()),
        _ => None,
    };
    let is = |field: &str| said[field] == true;
    let (who, why) = match node {
        Some(node) if is("holds") => return format!("{}, this hax", printable(node)),
        _ if is("holds") => return "this hax".into(),
        Some(node) if said["session"].is_string() => {
            (format!("{}, by the session {}", printable(node), text(&said["session"])), "")
        }
        Some(node) => (printable(node), ""),
        None if is("stands") => ("NONE".into(), "; processes wait for their entrypoints"),
        None => ("not known here".into(), ""),
    };
    let how = match (&said["elects"], &said["stands"]) {
        _ if is("gives_way") => {
            "; this hax leaves it to others: its confd does not pass its checks, and another node's does"
        }
        (_, Value::Bool(true)) => "; this hax stands for election",
        (Value::Bool(false), _) => "; another program elects (no_elect)",
        (Value::Bool(true), _) => "; this hax does not stand: its node has no confd in m0conf/",
        _ => "",
    };
    format!("{who}{why}{how}")
}

/// Formats milliseconds for readers of a table.
fn span(ms: &Value) -> String {
    let Some(seconds) = ms.as_u64().map(|ms| ms / 1_000) else { return "-".into() };
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => printable(text),
        other => other.to_string(),
    }
}

fn yes(value: &Value, yes: &'static str, no: &'static str) -> &'static str {
    match value {
        Value::Bool(true) => yes,
        Value::Bool(false) => no,
        _ => "-",
    }
}

/// Adds a table with a title and columns of the necessary width; a single line if it has no rows.
fn rows(
    out: &mut String,
    title: &str,
    list: &Value,
    head: &[&str],
    row: impl Fn(&Value) -> Vec<String>,
) {
    let Some(list) = list.as_array() else {
        let _ = writeln!(out, "{title:<9} -");
        return;
    };
    if list.is_empty() {
        let _ = writeln!(out, "{title:<9} none");
        return;
    }
    let mut all = vec![head.iter().map(|word| (*word).to_owned()).collect()];
    all.extend(list.iter().map(row));
    let width =
        |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let _ = writeln!(out, "{title}");
    for row in &all {
        let mut line = String::from(" ");
        for (word, width) in row.iter().zip(&widths) {
            let _ = write!(line, " {word:<width$} ");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_of_it_is_shown() {
        let said = json!({
            "version": "0.1.0", "node": "ssc-1", "process": "0x7200000000000001:0x0",
            "uptime_ms": 7_199_999, "ready": true, "stopping": false,
            "consul": { "answers": true, "contact_ms": 12, "calls": 4 },
            "leader": { "elects": true, "stands": true, "holds": false, "gives_way": false,
                "node": "ssc-2", "session": "1f" },
            "replicas": [{ "table": "m0conf", "index": 120, "loaded": true, "entries": 269 }],
            "links": [
                { "link": "link-3", "process": "0x7200000000000001:0x3",
                  "endpoint": "inet:stream:10.0.0.2@3001", "up": true, "since_ms": 172_800_000,
                  "in_flight": 0, "owed": 0, "kept": true },
                { "link": "link-12", "process": "0x7200000000000001:0x2", "up": false,
                  "since_ms": 119_999, "in_flight": 1, "owed": 17, "kept": false },
            ],
            "lanes": [{ "process": "0x7200000000000001:0x3", "queued": 1, "stage": "writing" }],
            "entries": 2, "questions": 1,
        });
        let expected = "\
hax 0.1.0 on ssc-1, process 0x7200000000000001:0x0: ready, up 119 min
Consul    answers, last answer 12 ms ago, 4 calls in flight
Leader    ssc-2, by the session 1f; this hax stands for election
Waiting   2 entrypoint requests, 1 questions for states
Replicas
  TABLE   INDEX  LOADED  ENTRIES
  m0conf  120    yes     269
Links
  LINK     PROCESS                 ENDPOINT                   UP   FOR    IN FLIGHT  OWED  KEPT
  link-3   0x7200000000000001:0x3  inet:stream:10.0.0.2@3001  yes  2 d    0          0     yes
  link-12  0x7200000000000001:0x2  -                          NO   119 s  1          17    no
Lanes
  PROCESS                 QUEUED  STAGE
  0x7200000000000001:0x3  1       writing
";
        assert_eq!(table(&said), expected);
    }

    #[test]
    fn f43_why_consul_does_not_serve_is_said_and_nothing_moves_the_cursor() {
        let said = json!({
            "node": "a\u{1b}[2Jb\nc", "ready": false, "why": "refuses\nGET /v1/kv/x", "links": [],
            "consul": { "answers": false, "contact_ms": 7, "calls": 1 },
            "leader": { "holds": true, "node": "\u{202e}x" },
        });
        let table = table(&said);
        for line in [
            "hax - on a\\u{1b}[2Jb\\nc, process -: NOT READY, up -",
            "Not ready refuses\\nGET /v1/kv/x",
            "Leader    \\u{202e}x, this hax",
        ] {
            assert!(table.lines().any(|l| l == line), "{line}: {table}");
        }
    }

    #[test]
    fn why_this_hax_does_not_lead_is_said() {
        for (said, text) in [
            (json!({ "elects": true, "stands": true, "holds": true, "node": "a" }), "a, this hax"),
            (
                json!({ "elects": true, "stands": true, "holds": false, "node": null }),
                "NONE; processes wait for their entrypoints; this hax stands for election",
            ),
            (
                json!({ "elects": true, "stands": true, "gives_way": true, "node": "" }),
                "NONE; processes wait for their entrypoints; this hax leaves it to others: its confd \
                 does not pass its checks, and another node's does",
            ),
            (json!({ "elects": false, "node": "b" }), "b; another program elects (no_elect)"),
            (
                json!({ "elects": true, "stands": false, "node": null }),
                "not known here; this hax does not stand: its node has no confd in m0conf/",
            ),
            // This is the response of a hax of another version.
            (json!({ "stands": true, "node": "c" }), "c; this hax stands for election"),
        ] {
            assert_eq!(leader(&said), text);
        }
    }

    #[test]
    fn what_is_missing_is_a_dash() {
        let expected = "\
hax - on -, process -: NOT READY, up -
Consul    -, last answer - ms ago, - calls in flight
Leader    not known here
Waiting   - entrypoint requests, - questions for states
Replicas  -
Links     none
Lanes     -
";
        assert_eq!(table(&json!({ "ready": false, "links": [], "new": 1 })), expected);
        assert!(table(&json!([])).starts_with("hax -"));
    }
}
