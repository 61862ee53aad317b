//! moto as a foreign EC2, for all tests of this process.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{LazyLock, Mutex};

use serde_json::{Value, json};

use super::python::Python;

/// The one moto of this process. It ends with the process, since its standard input does.
static MOTO: LazyLock<(Mutex<Python>, Value)> = LazyLock::new(|| {
    let mut python = Python::start("ec2.py", &[]);
    let facts = python.read();
    (Mutex::new(python), facts)
});

fn fact(name: &str) -> &'static str {
    MOTO.1[name].as_str().unwrap()
}

pub(super) fn url() -> &'static str {
    fact("url")
}

pub(super) fn authority() -> &'static str {
    url().strip_prefix("http://").unwrap()
}

/// Returns the interface of this router.
pub(super) fn own() -> &'static str {
    fact("own")
}

/// Returns the interface of the other router.
pub(super) fn other() -> &'static str {
    fact("other")
}

fn ask(line: &Value) -> Value {
    MOTO.0.lock().unwrap().ask(line)
}

/// Makes a route table. The routes lead to `own`, `other` or `gateway`.
pub(super) fn table(routes: &[(&str, &str)]) -> String {
    let routes: BTreeMap<&str, &str> = routes.iter().copied().collect();
    ask(&json!({ "do": "table", "routes": routes })).as_str().unwrap().into()
}

/// Returns where a route leads, as boto3 reads it.
pub(super) fn leads(table: &str, route: &str) -> String {
    let routes = ask(&json!({ "do": "routes", "table": table }));
    routes[route].as_str().unwrap_or("nowhere").into()
}

/// Lets routes lead to the other router, by boto3.
pub(super) fn give_away(table: &str, routes: &[&str]) {
    ask(&json!({ "do": "move", "table": table, "routes": routes }));
}

/// Returns credentials of the role, as the metadata service has them.
pub(super) fn of_role() -> Value {
    MOTO.1["of_role"].clone()
}

/// Returns the secret of one of the users `writer` and `reader`.
pub(super) fn secret(user: &str) -> &'static str {
    MOTO.1["keys"][user]["secret"].as_str().unwrap()
}

/// Returns the environment with the credentials of a user.
pub(super) fn env(user: &str) -> [(&'static str, &'static str); 3] {
    let key = MOTO.1["keys"][user]["key"].as_str().unwrap();
    [
        ("AWS_ENDPOINT_URL", url()),
        ("AWS_ACCESS_KEY_ID", key),
        ("AWS_SECRET_ACCESS_KEY", secret(user)),
    ]
}

/// Adds the credentials of a user to a command's environment.
pub(super) fn with(mut command: Command, user: &str) -> Command {
    command.envs(env(user));
    command
}
