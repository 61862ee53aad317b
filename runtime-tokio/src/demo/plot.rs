//! The steps of the demo and their expectations.

use std::time::Duration;

use anyhow::Context as _;
use async_channel::Sender;
use bytes::Bytes;
use hyper::Method;
use serde_json::Value;
use tokio::task::JoinSet;

use super::api::{Api, watch};
use super::cast::{Line, Player, Role};
use super::setting::Setting;
use super::show::{Show, says};

const AWAY: &[&str] = &["FAILED", "TRANSIENT"];
const BACK: &[&str] = &["ONLINE", "DTM_RECOVERING"];

/// Runs the steps.
pub(super) async fn play(
    show: &mut Show,
    setting: &Setting,
    consul: &Api,
    stage: &Sender<Line>,
    keep: Option<Duration>,
) -> anyhow::Result<()> {
    let hax = Api::new(setting.hax_http.clone());
    let ready = until_ready(&hax).await;
    show.check(ready, "hax is ready")?;
    show.tell("hax", format_args!("is ready: {} and {}", setting.hax, setting.hax_http));
    // These are Consul's watches, as hare configures them at the agent.
    let mut watches = JoinSet::new();
    for service in ["hax", "confd", "ios", "s3service"] {
        watches.spawn(watch(consul.clone(), hax.clone(), service));
    }
    show.act("a node starts").await;
    let [confd, ios, client] = &setting.roles[..] else { anyhow::bail!("three processes") };
    let mut play = Play { show, setting, consul, stage };
    let mut first = play.start(confd).await?;
    let victim = play.start(ios).await?;
    let mut third = play.start(client).await?;
    play.lookup(ios, "STARTED").await?;

    play.show.act("the io service dies").await;
    let mark = play.show.mark();
    victim.kill().await?;
    play.show.tell("ios", "is killed (kill -9)");
    play.check(ios, "fail").await?;
    play.show.tell("consul", "the check of ios is critical: its watch tells hax");
    let fid = ios.fid.to_string();
    for who in [confd, client] {
        play.show
            .expect(mark, who.name, "hears that ios is away", |said| says(said, &fid, AWAY))
            .await?;
    }
    play.lookup(ios, "STOPPED").await?;

    play.show.act("it comes back").await;
    let mark = play.show.mark();
    play.check(ios, "pass").await?;
    let mut second = play.start(ios).await?;
    for who in [confd, client] {
        play.show
            .expect(mark, who.name, "hears that ios is back", |said| says(said, &fid, BACK))
            .await?;
    }

    if let Some(time) = keep {
        play.keep(time, ios).await;
    }
    play.show.act("all stop").await;
    for (role, player) in [(client, &mut third), (ios, &mut second), (confd, &mut first)] {
        play.stop(role, player).await?;
    }
    for player in [first, second, third] {
        let ended = tokio::time::timeout(Duration::from_secs(5), player.end()).await;
        play.show.check(matches!(ended, Ok(Ok(true))), "a process ends well")?;
    }
    Ok(())
}

async fn until_ready(hax: &Api) -> bool {
    for _ in 0..100 {
        if hax.done(Method::GET, "/readyz", Bytes::new()).await.is_ok() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

struct Play<'a> {
    show: &'a mut Show,
    setting: &'a Setting,
    consul: &'a Api,
    stage: &'a Sender<Line>,
}

impl Play<'_> {
    /// Starts a process like Motr's processes: entrypoint, STARTING, STARTED.
    async fn start(&mut self, role: &Role) -> anyhow::Result<Player> {
        let mark = self.show.mark();
        self.show.tell(role.name, format_args!("starts as {} and asks hax", role.fid));
        let mut player = Player::start(role, &self.setting.hax, self.stage.clone())?;
        player.say("entrypoint").await?;
        let answered = |said: &Value| said["event"] == "entrypoint" && said["control"] == "consume";
        self.show.expect(mark, role.name, "has its entrypoint", answered).await?;
        self.show.expect(mark, role.name, "has a link", |said| said["event"] == "link-up").await?;
        for event in ["starting", "started"] {
            self.report(role, &mut player, event).await?;
        }
        Ok(player)
    }

    /// Keeps everything running for a while, so that a user can inspect it and try things.
    async fn keep(&mut self, time: Duration, ios: &Role) {
        self.show.act(&format!("up for {time:?} (Ctrl-C ends it); look and try")).await;
        let (hax, consul) = (&self.setting.hax_http, self.consul.base());
        for what in [
            format!("{hax}/"),
            format!("{hax}/readyz"),
            format!("'{consul}/v1/kv/processes/?recurse'"),
            format!("-X PUT {consul}/v1/agent/check/fail/{}", ios.check),
            format!("-X PUT {consul}/v1/agent/check/pass/{}", ios.check),
        ] {
            self.show.print(format_args!("  curl {what}"));
        }
        if let Some(role) = &self.setting.spare {
            let (to, from, fid) = (&self.setting.hax, &role.endpoint, role.fid);
            self.show.print(format_args!(
                "  hax ham --connect {to} --listen {from} --fid {fid} entrypoint 'process starting' 'process started' 'wait 2'"
            ));
        }
        self.show.print("");
        self.show.linger(time).await;
    }

    async fn stop(&mut self, role: &Role, player: &mut Player) -> anyhow::Result<()> {
        for event in ["stopping", "stopped"] {
            self.report(role, player, event).await?;
        }
        player.say("stop").await
    }

    /// Has a process report an event, and waits for the acknowledgement.
    async fn report(
        &mut self,
        role: &Role,
        player: &mut Player,
        event: &str,
    ) -> anyhow::Result<()> {
        let mark = self.show.mark();
        self.show.tell(role.name, format_args!("reports {}", event.to_uppercase()));
        player.say(&format!("process {event} type={}", role.kind)).await?;
        let what = format!("is told that its {event} is taken");
        self.show.expect(mark, role.name, &what, |said| said["event"] == "delivered").await
    }

    /// Sets the check of a process.
    async fn check(&self, role: &Role, to: &str) -> anyhow::Result<()> {
        let target = format!("/v1/agent/check/{to}/{}", role.check);
        self.consul.done(Method::PUT, &target, Bytes::new()).await.context("setting a check")?;
        Ok(())
    }

    /// Looks up Consul's record of a process.
    async fn lookup(&mut self, role: &Role, state: &str) -> anyhow::Result<()> {
        let key = format!("/v1/kv/processes/{}?raw", role.fid);
        let mut value = String::new();
        for _ in 0..40 {
            let answer = self.consul.send(Method::GET, &key, Bytes::new()).await?;
            value = String::from_utf8_lossy(&answer.body).into_owned();
            if answer.status == 200 && value.contains(&format!("M0_CONF_HA_PROCESS_{state}\"")) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let is_so = value.contains(&format!("M0_CONF_HA_PROCESS_{state}\""));
        self.show.tell("consul", format_args!("processes/{} = {value}", role.fid));
        self.show.check(is_so, format_args!("Consul says {state} about {}", role.name))
    }
}
