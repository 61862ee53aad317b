//! Tests of routes in the clouds: against moto, and against fakes of Azure and Google Cloud that the vendors'
//! own SDKs hold to the truth.

mod arm;
mod aws;
mod aws_faults;
mod azure;
mod compute;
mod discovery;
mod gcp;
mod http;
mod moto;
mod python;
mod tls;

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::hax::HAX;

/// Runs an event handler with this job and this environment. Returns its result and all of its output.
fn handler(job: &Value, env: &[(&str, &str)]) -> (Value, String) {
    let mut command = Command::new(HAX);
    command.arg("event-handler").env_clear().envs(env.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(job.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8([output.stdout.clone(), output.stderr].concat()).unwrap();
    let result: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|why| panic!("no result: {why}: {text}"));
    let has_failed = result["outcome"] == "failed";
    assert_eq!(output.status.code(), Some(i32::from(has_failed)), "{text}");
    (result, text)
}

/// Returns the text of a result.
fn detail(result: &Value) -> &str {
    result["detail"].as_str().unwrap()
}
