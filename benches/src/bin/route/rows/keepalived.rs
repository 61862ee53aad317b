//! keepalived with its shortest useful advertisement (0.1 s) and hax's notify hook: how much later the route
//! moves than keepalived's own address.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hax_benches::rig::clock;
use hax_tokio::demo::lab::Lab;

use crate::router::Router;
use crate::row::Row;
use crate::sample::{Sample, ms, until};
use crate::table::skipped;

/// The address that keepalived moves.
const VIP: &str = "10.0.0.50";

/// The time that the hook may add.
const MARGIN: Duration = Duration::from_millis(50);

/// The notify script of this repository.
const HOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../contrib/keepalived-notify.sh");

pub(super) fn rows(hax: &Path, quick: bool) -> anyhow::Result<Vec<Row>> {
    const NAME: &str = "keepalived_hook";
    if Command::new("keepalived").arg("--version").stderr(Stdio::null()).output().is_err() {
        return Ok(vec![skipped(NAME, "keepalived is not installed")]);
    }
    let lab = match Lab::new() {
        Ok(lab) => lab,
        Err(why) => return Ok(vec![skipped(NAME, format!("{why:#}"))]),
    };
    let router = Router::new(hax, &[])?;
    for node in lab.nodes(1, "-m secondary") {
        router.ok(&node)?;
    }
    install_scripts(hax, &router)?;
    let (mut own, mut ours) = (Sample::default(), Sample::default());
    for _ in 0..if quick { 1 } else { 11 } {
        lab.set_links(0, "up")?;
        router_takes_back(&lab)?;
        let _pair = [Vrrp::new(&lab, &router, "a", 150)?, Vrrp::new(&lab, &router, "b", 100)?];
        let owns = |of: &str| lab.ip(of, "addr show dev lan").is_ok_and(|text| text.contains(VIP));
        until("the first keepalived is the master", || owns("a") && !owns("b"))?;
        router_takes_back(&lab)?;
        let began = clock();
        lab.set_links(0, "down")?;
        let mut address = None;
        until("the routes lead to the second router", || {
            if address.is_none() && owns("b") {
                address = Some(began.elapsed());
            }
            lab.leads_to(1)
        })?;
        ours.add(began.elapsed());
        until("the second keepalived is the master", || owns("b"))?;
        own.add(address.unwrap_or_else(|| began.elapsed()));
    }
    let (median, limit) = (ours.median(), own.median() + MARGIN);
    Ok(vec![Row {
        name: NAME,
        value: ms(median),
        unit: "ms",
        ceiling: Some(ms(own.median())),
        target: "keepalived's own median of the run + 50 ms",
        ok: median <= limit,
        more: format!(
            "advertisements of 0.1 s, the master's links down; routes {}; its address {}",
            ours.text(),
            own.text()
        ),
        ..Row::default()
    }])
}

/// Makes both routes lead to the first router.
fn router_takes_back(lab: &Lab) -> anyhow::Result<()> {
    use hax_tokio::demo::lab::{BACK, THERE};
    for (of, (route, [hop, _])) in [("client", THERE), ("server", BACK)] {
        lab.ip(of, &format!("route replace {route} via {hop}"))?;
    }
    Ok(())
}

/// Installs the scripts for the hook in the router's folder.
fn install_scripts(hax: &Path, router: &Router) -> anyhow::Result<()> {
    let bin = router.folder().join("bin");
    std::fs::create_dir(&bin)?;
    let installed = Command::new(hax).args(["route", "install-scripts"]).arg(bin).output()?;
    anyhow::ensure!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    Ok(())
}

/// A keepalived in the namespace of a router.
struct Vrrp(Child);

impl Vrrp {
    fn new(lab: &Lab, router: &Router, of: &str, priority: u32) -> anyhow::Result<Self> {
        let folder = router.folder();
        let file = |name: &str| folder.join(format!("{of}.{name}")).display().to_string();
        // Only the second router has a server here.
        let notify =
            if of == "b" { format!("notify \"{}\"", file("notify")) } else { String::new() };
        let (bin, dir) = (folder.join("bin"), folder.display());
        let script = format!(
            "#!/bin/sh\nPATH={}:$PATH HAX_ROUTE_DIR={dir} exec {HOOK} \"$@\"\n",
            bin.display()
        );
        std::fs::write(file("text"), script)?;
        Command::new("install").args(["-m", "755", &file("text"), &file("notify")]).status()?;
        let config = format!(
            "global_defs {{\n vrrp_version 3\n script_user root\n enable_script_security\n}}\n\
             vrrp_instance V {{\n state BACKUP\n interface lan\n virtual_router_id 7\n \
             priority {priority}\n advert_int 0.1\n {notify}\n virtual_ipaddress {{\n {VIP}/32 dev lan\n }}\n}}\n"
        );
        std::fs::write(file("conf"), config)?;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &lab.namespace(of), "keepalived", "--dont-fork", "--vrrp"]);
        command.args(["--log-console", "--use-file", &file("conf"), "--pid", &file("pid")]);
        command.args(["--vrrp_pid", &file("vrrp.pid")]);
        let log = std::fs::File::create(file("log"))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Vrrp {
    fn drop(&mut self) {
        // Its end takes its own child along, and gives its address back.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}
