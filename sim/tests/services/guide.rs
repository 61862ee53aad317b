//! The guide and the code agree.

use hax_core::base::fact::{Level, Report as _};
use hax_core::services::facts::ServicesFact;

const GUIDE: &str = include_str!("../../../docs/SERVICES.md");

#[test]
fn every_fact_of_warn_and_above_has_a_row() {
    let (_, rest) = GUIDE.split_once("\n### Log lines of services that want somebody\n").unwrap();
    let section = rest.split("\n### ").next().unwrap();
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").collect())
        .collect();
    for kind in ServicesFact::KINDS.iter().filter(|kind| kind.level >= Level::Warn) {
        let level = format!("{:?}", kind.level).to_lowercase();
        let name = format!("`{}`", kind.name);
        let row = rows.iter().find(|row| row[0] == name && row[1] == level);
        assert!(row.is_some_and(|row| row.len() == 4), "{name}");
    }
}

/// The paths of the guide exist: none is answered as unknown.
#[test]
fn every_path_of_the_guide_exists() {
    let mut field = super::seen::with_web(1, &serde_json::json!({}));
    let (_, rest) = GUIDE.split_once("\n### HTTP\n").unwrap();
    let section = rest.split("\n### ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let mut paths = 0;
    for (path, _) in rows {
        let (method, target) = path.split_once(' ').unwrap();
        let target = target.split('?').next().unwrap();
        let target = target.replace("TYPE", "web").replace("NODE", "n1");
        let target = target.replace("MESSAGE", "status");
        if target != "/v1/events/stream" {
            let (status, _) = field.call(0, method, &target, "");
            assert!(![404, 405].contains(&status), "{path}: {status}");
        }
        paths += 1;
    }
    assert!(paths > 10, "{paths}");
}
