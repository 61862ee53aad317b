//! The Motr processes of the demo. Each one is a `hax ham`.

use std::process::Stdio;

use anyhow::Context as _;
use async_channel::{Receiver, Sender};
use hax_core::base::fid::Fid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};

/// The identity of one process.
#[derive(Clone, Debug)]
pub struct Role {
    /// Its name in the timeline.
    pub name: &'static str,
    /// Its fid.
    pub fid: Fid,
    /// The process's own endpoint.
    pub endpoint: String,
    /// The kind of process, as in `ham`'s `process` command.
    pub kind: &'static str,
    /// The name of its check in Consul.
    pub check: String,
}

/// One output line of a process.
#[derive(Clone, Debug)]
pub struct Line {
    /// The name of the process.
    pub who: &'static str,
    /// The content of the line, as `ham` prints it.
    pub said: Value,
}

/// A running process.
pub struct Player {
    child: Child,
    commands: ChildStdin,
}

/// Creates the channel for all processes' lines.
pub fn stage() -> (Sender<Line>, Receiver<Line>) {
    async_channel::bounded(256)
}

impl Player {
    /// Starts the process of `role` and connects it to hax at `hax`.
    pub fn start(role: &Role, hax: &str, stage: Sender<Line>) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("the own program")?;
        let mut command = Command::new(program);
        command.args(["ham", "--connect", hax, "--listen", &role.endpoint]);
        command.args(["--fid", &role.fid.to_string(), "--log-level", "error"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("starting a process of the show")?;
        let commands = child.stdin.take().context("its input")?;
        let lines = BufReader::new(child.stdout.take().context("its output")?);
        let who = role.name;
        tokio::spawn(async move {
            let mut lines = lines.lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let said = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if stage.send(Line { who, said }).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, commands })
    }

    /// Sends a command to the process.
    pub async fn say(&mut self, command: &str) -> anyhow::Result<()> {
        self.commands.write_all(format!("{command}\n").as_bytes()).await.context("a process died")
    }

    /// Kills the process with SIGKILL and waits for its end.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("killing a process")
    }

    /// Waits for the end of the process; returns whether it was successful.
    pub async fn end(mut self) -> anyhow::Result<bool> {
        drop(self.commands);
        Ok(self.child.wait().await?.success())
    }
}
