//! The memory of a server with all redundancy nodes, and the size of the small program with this role alone.

use std::path::Path;

use anyhow::Context as _;
use hax_core::route::node::Index;
use hax_core::route::scripts::{self, Action};

use crate::router::Router;
use crate::row::Row;
use crate::table::skipped;

const MIB: f64 = 1024.0 * 1024.0;

pub(super) fn rss(hax: &Path, _quick: bool) -> anyhow::Result<Vec<Row>> {
    let router = Router::new(hax, &[])?;
    for index in 1..=Index::MAX {
        let line = format!("-i {index} -p linux -t {index} -r 192.0.2.0/24 -n 10.0.0.2 -m primary");
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let script = scripts::named("create_node").context("the script")?;
        let Ok(Action::Ask(request)) = script.parse(&words) else { anyhow::bail!("{line}") };
        router.ask(&request)?;
    }
    let value = router.rss()?;
    Ok(vec![Row {
        name: "rss_nodes",
        value,
        unit: "MiB",
        target: "1,023 nodes ≤ 8 MiB",
        ok: value <= 8.0,
        more: "after as many create_node, each written with fsync".into(),
        ..Row::default()
    }])
}

pub(super) fn size(_hax: &Path, _quick: bool) -> anyhow::Result<Vec<Row>> {
    const NAME: &str = "smol_route_binary";
    if cfg!(debug_assertions) {
        return Ok(vec![skipped(NAME, "only a release run builds it")]);
    }
    let features = ["--no-default-features", "--features", "route"];
    let program = ["--profile", "release-small", "-p", "hax-smol", "--bin", "hax-smol"];
    crate::table::cargo(&[&program[..], &features].concat())?;
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(2).context("a target directory")?;
    let value = std::fs::metadata(target.join("release-small/hax-smol"))?.len() as f64 / MIB;
    Ok(vec![Row {
        name: NAME,
        value,
        unit: "MiB",
        target: "≤ 3.5",
        ok: value <= 3.5,
        more: "hax-smol with the feature route alone, stripped".into(),
        ..Row::default()
    }])
}
