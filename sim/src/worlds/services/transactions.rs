//! The rules for transactions: who writes what, and under which lease.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hax_core::machine::Output;
use hax_core::services::facts::ServicesFact;
use serde_json::Value;

use super::{NAMES, transactions_of};
use crate::engine::Violation;

/// The maximum number of operations in a transaction.
const OPS_MAX: usize = 64;

/// Checks all transactions among some outputs.
pub(super) fn check(node: usize, out: &[Output<ServicesFact>]) -> Result<(), Violation> {
    transactions_of(out).try_for_each(|call| {
        let ops: Vec<Value> = serde_json::from_slice(&call.body).unwrap_or_default();
        if ops.is_empty() || ops.len() > OPS_MAX {
            return Violation::of("a transaction has 1 to 64 operations", ops.len().to_string());
        }
        let guarded = ops
            .first()
            .is_some_and(|op| op["KV"]["Verb"] == "check-session" && op["KV"]["Key"] == "ha/coord");
        ops.iter().try_for_each(|op| one(node, guarded, &op["KV"]))?;
        told(&ops)
    })
}

/// Checks that the coordinator is told of each observation that it waits for, in the same transaction.
fn told(ops: &[Value]) -> Result<(), Violation> {
    let values = |prefix: &str, end: &str| {
        let of = |op: &&Value| {
            let key = op["KV"]["Key"].as_str().unwrap_or("");
            op["KV"]["Verb"] == "cas" && key.starts_with(prefix) && key.ends_with(end)
        };
        let value = |op: &Value| -> Option<Value> {
            let encoded = op["KV"]["Value"].as_str()?;
            serde_json::from_slice(&STANDARD.decode(encoded).ok()?).ok()
        };
        ops.iter().filter(of).filter_map(value).collect::<Vec<Value>>()
    };
    let told = values("ha/ev/", "");
    let untold = values("ha/inst/", "/observed").into_iter().find(|observed| {
        let is_awaited = !matches!(observed["state"].as_str(), Some("starting" | "stopping"));
        is_awaited && !told.iter().any(|event| event["what"]["changed"]["observed"] == *observed)
    });
    untold.map_or(Ok(()), |observed| {
        let rule = "an observation and its event are one transaction";
        Violation::of(rule, observed.to_string())
    })
}

fn one(node: usize, guarded: bool, op: &Value) -> Result<(), Violation> {
    let (verb, key) = (op["Verb"].as_str().unwrap_or(""), op["Key"].as_str().unwrap_or(""));
    let is_delete = verb.starts_with("delete");
    if !is_delete && !matches!(verb, "cas" | "set" | "lock") {
        return Ok(());
    }
    let name = NAMES[node];
    let is_of = |prefix: &str| key.starts_with(&format!("{prefix}{name}/"));
    let of_coordinator = key.starts_with("ha/goal/")
        || key.starts_with("ha/job/")
        || key.starts_with("ha/sup/")
        || key.ends_with("/wanted")
        || key.starts_with("ha/ev/") && is_delete;
    let of_node = key.starts_with("ha/inst/") && key.ends_with("/observed")
        || key.starts_with("ha/name/")
        || key.starts_with("ha/node/")
        || key.starts_with("ha/ev/");
    let holds = if of_coordinator {
        guarded
    } else if of_node {
        ["ha/inst/", "ha/name/", "ha/node/", "ha/ev/"].into_iter().any(is_of)
    } else {
        ["ha/type/", "ha/schema/", "ha/config/"].iter().any(|prefix| key.starts_with(prefix))
            || key == "ha/coord"
    };
    if holds {
        return Ok(());
    }
    Violation::of("each record is written by its owner alone", format!("{name}: {verb} {key}"))
}
