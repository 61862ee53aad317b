//! `hax service send`: a message to the instance of a node.

use std::io::stdin;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use http::Method;

use super::hax::Hax;
use super::names::{kind_name, message_name, node_name};
use super::write;
use crate::commands::{bounded, complain};
use crate::exit::{CommandError, Exit};
use crate::host::platform::Platform;

/// The time that hax gives a message's program, with its grace.
const WITHIN: Duration = Duration::from_secs(32);

/// The maximum of what a message carries.
const READ_MAX: u64 = 64 << 10;

/// `hax service send`.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// The type.
    #[arg(value_name = "TYPE", value_parser = kind_name)]
    kind: String,
    /// One of the type's messages; or check: is it well; or status: write its state to hax's log.
    #[arg(value_name = "MESSAGE", value_parser = message_name)]
    message: String,
    /// Refuse it unless the asked hax is that of this node.
    #[arg(long, value_name = "NODE", value_parser = node_name)]
    node: Option<String>,
    /// What the message carries, 64 KiB at most: a file; - is standard input.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Print hax's answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Sends it, and ends as its program has ended.
pub(super) async fn send<P: Platform>(hax: &Hax, args: &SendArgs) -> Result<Exit, CommandError> {
    let usage = |why: anyhow::Error| CommandError(Exit::Usage, why);
    let body = match args.input.as_deref() {
        None => Ok(Vec::new()),
        Some(path) if path.as_os_str() == "-" => {
            bounded::bytes(stdin(), "standard input", READ_MAX)
        }
        Some(path) => bounded::file(path, READ_MAX),
    };
    let body = body.context("--input").map_err(usage)?;
    let node = args.node.as_ref().map_or_else(String::new, |node| format!("?node={node}"));
    let target = format!("/v1/services/{}/send/{}{node}", args.kind, args.message);
    let said = hax.said::<P>((Method::POST, &*target), body.into(), WITHIN).await?;
    if said.status != 200 {
        return Err(anyhow!(said.reason(&hax.place())).into());
    }
    let word = |name: &str| said.body[name].as_str().unwrap_or_default();
    if args.json {
        write(&format!("{:#}\n", said.body))?;
    } else {
        if let Some(state) = said.body["state"].as_str() {
            write(&format!("{state} {}\n", word("reason")))?;
        }
        write(word("output"))?;
        if !word("errors").is_empty() {
            complain(word("errors").trim_end());
        }
    }
    match said.body["exit"].as_i64() {
        Some(0) => Ok(Exit::Clean),
        Some(code) => Err(anyhow!("the program of {} has ended with {code}", args.message).into()),
        None => Err(anyhow!("the program of {}: {}", args.message, word("end")).into()),
    }
}
