//! `hax service`: types and instances of services, from any node.

mod file;
mod hax;
mod logs;
mod names;
mod send;
mod show;
mod tell;
mod watch;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::block_on;
use super::output::Output;
use crate::exit::{CommandError, Exit};
use crate::host::platform::Platform;
use crate::observe::logs::init;
use crate::settings::values::{LogFormat, LogLevel, Span};
use hax::{Hax, HaxArgs, Said};
use names::{kind_name, node_name};
pub(super) use show::status;

pub(super) const ABOUT: &str = "\
Define, start, stop and watch the services of the cluster.

Any hax with services answers for all nodes; without --http the one of this node is
asked, over its local socket. What changes something may be repeated: it is done once.
It waits until it is done, and says so meanwhile; the exit code tells how it ended.";

pub(super) const EXITS: &str = "\
Exit codes:
  0  done
  1  refused, or an instance has failed; the reason is printed
  2  wrong flags, environment or file
  4  under way: the wait is over, and hax goes on with it
  5  hax service status: not ready";

/// `hax service`.
#[derive(Debug, Args)]
pub struct ServiceArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ServiceCommand,
    /// Who is asked.
    #[command(flatten)]
    pub hax: HaxArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Define a type from its file, or change it: running instances try the new configuration.
    #[command(after_long_help = EXITS)]
    Define(FileArgs),
    /// Check the file of a type and print it with all defaults; nothing is changed.
    #[command(after_long_help = EXITS)]
    Check(FileArgs),
    /// Show the types.
    Types(ListArgs),
    /// Start a type on all nodes of its place, or on one.
    #[command(after_long_help = EXITS)]
    Start(StartArgs),
    /// Stop a type everywhere, or on one node.
    #[command(after_long_help = EXITS)]
    Stop(MoveArgs),
    /// Stop a type and start it again.
    #[command(after_long_help = EXITS)]
    Restart(MoveArgs),
    /// Store parameters of a type; running instances try them.
    #[command(after_long_help = EXITS)]
    Reconfigure(ReconfigureArgs),
    /// Delete all records of a node that is down and does not return; what may still run there is lost sight
    /// of.
    #[command(after_long_help = EXITS)]
    Forget(NodeArgs),
    /// Show the instances.
    List(ListArgs),
    /// Show all that is known of a type and its instances, as JSON.
    Show(TypeArgs),
    /// Say in a sentence why each instance is in its state, and what comes next.
    Why(WhyArgs),
    /// Show the last output of an instance of this node.
    Logs(logs::LogsArgs),
    /// Show each change of an instance as it happens.
    Watch(WatchArgs),
    /// Show nodes, types, instances and what is between them.
    Graph(GraphArgs),
    /// Send a message to the instance of the asked node, and print what its program says.
    #[command(after_long_help = EXITS)]
    Send(send::SendArgs),
    /// Say something of oneself, as a process of a service instance.
    #[command(after_long_help = EXITS)]
    Tell(tell::TellArgs),
    /// Show the services' state on the asked node: ready, keeper, coordinator.
    #[command(after_long_help = EXITS)]
    Status(StatusArgs),
}

/// `hax service define` and `check`.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// The TOML file of the type.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print hax's answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `hax service list` and `types`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only this type.
    #[arg(value_name = "TYPE", value_parser = kind_name)]
    pub kind: Option<String>,
    /// Only this node.
    #[arg(long, value_name = "NODE", value_parser = node_name)]
    pub node: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `hax service show`.
#[derive(Debug, Args)]
pub struct TypeArgs {
    /// The type.
    #[arg(value_name = "TYPE", value_parser = kind_name)]
    pub kind: String,
}

/// `hax service why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The type.
    #[arg(value_name = "TYPE", value_parser = kind_name)]
    pub kind: String,
    /// Only this node.
    #[arg(long, value_name = "NODE", value_parser = node_name)]
    pub node: Option<String>,
}

/// `hax service stop` and `restart`.
#[derive(Debug, Args)]
pub struct MoveArgs {
    /// The type.
    #[arg(value_name = "TYPE", value_parser = kind_name)]
    pub kind: String,
    /// Only on this node.
    #[arg(long, value_name = "NODE", value_parser = node_name)]
    pub node: Option<String>,
    /// How long to wait until it is done, 5m at most.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub wait: Span,
    /// Print hax's answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `hax service start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// What is started.
    #[command(flatten)]
    pub what: MoveArgs,
    /// Parameters for this start. What is stored replaces them. A text that looks like a number is put in
    /// quotes: version='"10"'.
    #[arg(value_name = "NAME=VALUE")]
    pub parameters: Vec<String>,
}

/// `hax service reconfigure`.
#[derive(Debug, Args)]
pub struct ReconfigureArgs {
    /// The type.
    #[arg(value_name = "TYPE", value_parser = kind_name)]
    pub kind: String,
    /// The parameters to store; NAME= takes a stored value away.
    #[arg(value_name = "NAME=VALUE", required = true)]
    pub parameters: Vec<String>,
    /// Print hax's answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `hax service forget`.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The node.
    #[arg(value_name = "NODE", value_parser = node_name)]
    pub node: String,
    /// Print hax's answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `hax service watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// End after this time; without it, never.
    #[arg(long = "for", value_name = "TIME")]
    pub within: Option<Span>,
    /// Print an object a line.
    #[arg(long)]
    pub json: bool,
}

/// `hax service graph`.
#[derive(Debug, Args)]
pub struct GraphArgs {
    /// In the language of graphviz: `hax service graph --dot | dot -Tsvg`.
    #[arg(long)]
    pub dot: bool,
}

/// `hax service status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Does what is asked for.
pub(super) fn run<P: Platform>(args: &ServiceArgs) -> Result<Exit, CommandError> {
    init(LogFormat::Human, LogLevel::Error);
    match &args.command {
        ServiceCommand::Logs(logs) => {
            let hax = Hax::new(&args.hax)?;
            let mut place = None;
            block_on::<P>(async {
                place = Some(logs::place::<P>(&hax, logs).await?);
                Ok(Exit::Clean)
            })?;
            place.map_or(Ok(Exit::Failure), |place| logs::print(logs, place))
        }
        ServiceCommand::Watch(watch) => Ok(watch::run(&args.hax, watch)?),
        ServiceCommand::Send(message) => {
            block_on::<P>(async { send::send::<P>(&Hax::new(&args.hax)?, message).await })
        }
        ServiceCommand::Tell(told) => block_on::<P>(tell::tell::<P>(told)),
        command => block_on::<P>(async { ask::<P>(&Hax::new(&args.hax)?, command).await }),
    }
}

async fn ask<P: Platform>(hax: &Hax, command: &ServiceCommand) -> Result<Exit, CommandError> {
    match command {
        ServiceCommand::Define(args) => define::<P>(hax, args).await,
        ServiceCommand::Check(args) => check::<P>(hax, args).await,
        ServiceCommand::Types(args) => {
            let mut all = hax.get::<P>("/v1/types").await?;
            let is_it =
                |one: &Value| args.kind.as_ref().is_none_or(|kind| one["type"]["type"] == **kind);
            retain(&mut all, is_it);
            print(&all, args.json, show::types)
        }
        ServiceCommand::List(args) => {
            let target = match &args.kind {
                Some(kind) => format!("/v1/services/{kind}"),
                None => "/v1/services".to_owned(),
            };
            let mut all = hax.get::<P>(&target).await?;
            retain(&mut all, |one| args.node.as_ref().is_none_or(|node| one["node"] == **node));
            print(&all, args.json, show::instances)
        }
        ServiceCommand::Show(args) => {
            let kind = hax.get::<P>(&format!("/v1/types/{}", args.kind)).await?;
            let instances = hax.get::<P>(&format!("/v1/services/{}", args.kind)).await?;
            let all = json!({ "type": kind, "instances": instances });
            Ok(write(&format!("{all:#}\n")).map(|()| Exit::Clean)?)
        }
        ServiceCommand::Why(args) => {
            let node = args.node.as_ref().map_or_else(String::new, |node| format!("?node={node}"));
            let all = hax.get::<P>(&format!("/v1/services/{}/why{node}", args.kind)).await?;
            let words = all.as_array().into_iter().flatten();
            let words = words.map(|one| one["why"].as_str().unwrap_or_default().to_owned() + "\n");
            Ok(write(&words.collect::<String>()).map(|()| Exit::Clean)?)
        }
        ServiceCommand::Graph(args) => graph::<P>(hax, args).await,
        ServiceCommand::Status(args) => {
            let said = hax.get::<P>("/status/services").await?;
            print(&said, args.json, status)?;
            Ok(if said["ready"] == true { Exit::Clean } else { Exit::NotReady })
        }
        ServiceCommand::Start(StartArgs { what, parameters }) => {
            change::<P>(hax, "start", what, parameters).await
        }
        ServiceCommand::Stop(what) => change::<P>(hax, "stop", what, &[]).await,
        ServiceCommand::Restart(what) => change::<P>(hax, "restart", what, &[]).await,
        ServiceCommand::Reconfigure(args) => {
            let target = format!("/v1/types/{}/reconfigure", args.kind);
            let body = json!({ "parameters": given(&args.parameters)?, "by": by() }).to_string();
            let asked = (Method::POST, &*target);
            let said = hax.said::<P>(asked, body.into(), Duration::from_secs(30)).await?;
            finish(hax, &said, args.json, |_| "stored\n".to_owned())
        }
        ServiceCommand::Forget(args) => {
            let target = format!("/v1/nodes/{}/forget", args.node);
            let body = json!({ "by": by() }).to_string();
            let asked = (Method::POST, &*target);
            let said = hax.said::<P>(asked, body.into(), Duration::from_secs(30)).await?;
            finish(hax, &said, args.json, |_| format!("{} is forgotten\n", args.node))
        }
        ServiceCommand::Logs(_)
        | ServiceCommand::Watch(_)
        | ServiceCommand::Send(_)
        | ServiceCommand::Tell(_) => unreachable!("they are no single requests"),
    }
}

async fn graph<P: Platform>(hax: &Hax, args: &GraphArgs) -> Result<Exit, CommandError> {
    if !args.dot {
        let graph = hax.get::<P>("/v1/graph").await?;
        return Ok(write(&format!("{graph:#}\n")).map(|()| Exit::Clean)?);
    }
    let asked = (Method::GET, "/v1/graph?format=dot");
    let (status, body) = hax.ask::<P>(asked, Bytes::new(), Duration::ZERO).await?;
    if status != 200 {
        return Err(anyhow!("the hax at {} says {status}", hax.place()).into());
    }
    Ok(write(&String::from_utf8_lossy(&body)).map(|()| Exit::Clean)?)
}

async fn define<P: Platform>(hax: &Hax, args: &FileArgs) -> Result<Exit, CommandError> {
    let record = file::read(&args.file).map_err(|why| CommandError(Exit::Usage, why))?;
    let body = serde_json::to_vec(&record).context("the type as JSON")?;
    let wait = Duration::from_secs(30);
    let said = hax.said::<P>((Method::POST, "/v1/types"), body.into(), wait).await?;
    finish(hax, &said, args.json, |body| match &body["state"] {
        state if *state == "unchanged" => format!("{} is as it was\n", record.name),
        _ => format!("{} is defined\n", record.name),
    })
}

async fn check<P: Platform>(hax: &Hax, args: &FileArgs) -> Result<Exit, CommandError> {
    let record = file::read(&args.file).map_err(|why| CommandError(Exit::Usage, why))?;
    let body = serde_json::to_vec(&record).context("the type as JSON")?;
    let asked = (Method::POST, "/v1/types/check");
    match hax.said::<P>(asked, body.into(), Duration::ZERO).await {
        Ok(said) => finish(hax, &said, args.json, |body| format!("{:#}\n", body["type"])),
        Err(_) => {
            // The file is well; what it needs of the cluster is not known.
            write(&format!("{:#}\n", json!(record)))?;
            let note = format!(
                "the file is valid; no hax answers at {}, so the types that it needs and its schema were not compared",
                hax.place()
            );
            super::complain(&note);
            Ok(Exit::Clean)
        }
    }
}

async fn change<P: Platform>(
    hax: &Hax,
    verb: &str,
    what: &MoveArgs,
    parameters: &[String],
) -> Result<Exit, CommandError> {
    let wait = what.wait.0.as_secs().max(1);
    let node = what.node.as_ref().map_or_else(String::new, |node| format!("&node={node}"));
    let target = format!("/v1/services/{}/{verb}?wait={wait}{node}", what.kind);
    let body = json!({ "parameters": given(parameters)?, "by": by() }).to_string();
    let wait = Duration::from_secs(wait);
    let said = hax.said::<P>((Method::POST, &*target), body.into(), wait).await?;
    finish(hax, &said, what.json, |body| match &body["instances"] {
        Value::Array(all) if all.is_empty() => "there is nothing to do on any node\n".to_owned(),
        all => show::instances(all),
    })
}

/// Prints the answer to a change, and returns how it has ended.
fn finish(
    hax: &Hax,
    said: &Said,
    json: bool,
    text: impl FnOnce(&Value) -> String,
) -> Result<Exit, CommandError> {
    let is_list = said.body["instances"].is_array();
    match said.status {
        200 => print(&said.body, json, text),
        202 => {
            let state = said.body["state"].as_str().unwrap_or("under way");
            let text = format!("{state}; hax service why says what it waits for\n");
            print(&said.body, json, |_| text)?;
            Ok(Exit::UnderWay)
        }
        409 if is_list => {
            print(&said.body, json, text)?;
            Err(anyhow!("an instance has failed; hax service why and hax service logs say more")
                .into())
        }
        _ => {
            let mut why = said.reason(&hax.place());
            for problem in said.body["problems"].as_array().into_iter().flatten() {
                let word = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
                why += &format!("\n{}: {}", word("field"), word("why"));
            }
            Err(anyhow!(why).into())
        }
    }
}

fn print(
    value: &Value,
    json: bool,
    text: impl FnOnce(&Value) -> String,
) -> Result<Exit, CommandError> {
    let text = if json { format!("{value:#}\n") } else { text(value) };
    Ok(write(&text).map(|()| Exit::Clean)?)
}

fn write(text: &str) -> anyhow::Result<()> {
    Ok(Output::new().write_all(text.as_bytes())?)
}

fn retain(all: &mut Value, keep: impl FnMut(&Value) -> bool) {
    if let Value::Array(all) = all {
        all.retain(keep);
    }
}

/// Returns who asks, for the record.
fn by() -> String {
    let user =
        ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    user.unwrap_or_else(|| format!("user {}", rustix::process::geteuid().as_raw()))
}

/// Returns parameters as JSON. A value that is a number or a truth value is one, and one in quotes is a text.
/// Without a value it is null.
fn given(words: &[String]) -> anyhow::Result<Map<String, Value>> {
    let mut all = Map::new();
    for word in words {
        let Some((name, text)) = word.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            bail!("{word:?} is no parameter: NAME=VALUE is expected");
        };
        let quoted = serde_json::from_str::<Value>(text).ok().filter(Value::is_string);
        let value = match (text, text.parse::<i64>(), text.parse::<bool>()) {
            ("", ..) => Value::Null,
            // A text like 007 is no number.
            (_, Ok(number), _) if number.to_string() == text => number.into(),
            (_, _, Ok(truth)) => truth.into(),
            _ => quoted.unwrap_or_else(|| text.into()),
        };
        all.insert(name.to_owned(), value);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_the_kind_that_they_look_like() {
        let words =
            ["port=80", "name=a=b", "on=true", "gone=", "id=007", "version=\"10\"", "empty=\"\""];
        let words = words.map(str::to_owned);
        let expected = json!({"port": 80, "name": "a=b", "on": true, "gone": null, "id": "007",
            "version": "10", "empty": ""});
        assert_eq!(Value::from(given(&words).unwrap()), expected);
        given(&["port".to_owned()]).unwrap_err();
        given(&["=1".to_owned()]).unwrap_err();
    }
}
