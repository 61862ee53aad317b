//! The texts of the clouds' errors.

use alloc::format;
use alloc::string::String;

use serde_json::Value;

use super::http::Reply;

/// The maximum length of the text of a cloud's error, in characters.
const SAID_MAX: usize = 300;

/// Returns the text of a cloud's error as one line of bounded length.
#[must_use]
pub fn bounded(text: &str) -> String {
    let line = text.trim().split(['\r', '\n']).next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(SAID_MAX).collect()
}

/// Returns the description of a reply of failure: its status, and the cloud's own words.
pub(super) fn refusal(what: &str, reply: &Reply) -> String {
    describe(what, reply.status, &said(reply))
}

/// Returns the description of a failure with this status and this text of the cloud.
pub(super) fn describe(what: &str, status: u16, said: &str) -> String {
    let gap = if said.is_empty() { "" } else { ": " };
    format!("{what}: status {status}{gap}{said}")
}

/// Returns the error's code and message of a reply in JSON, in the notations of Azure, its login, and Google.
/// Any other text is returned as it is.
pub(super) fn said(reply: &Reply) -> String {
    let Ok(value) = serde_json::from_slice::<Value>(&reply.body) else {
        return bounded(&String::from_utf8_lossy(&reply.body));
    };
    let text = |value: &Value, name: &str| value[name].as_str().map(String::from);
    let error = &value["error"];
    let code = text(error, "code").or_else(|| error.as_str().map(String::from));
    let code = code.or_else(|| text(&error["errors"][0], "reason"));
    let message = text(error, "message").or_else(|| text(&value, "error_description"));
    match (code, message) {
        (Some(code), Some(message)) => bounded(&format!("{code}: {message}")),
        (Some(one), None) | (None, Some(one)) => bounded(&one),
        (None, None) => bounded(&String::from_utf8_lossy(&reply.body)),
    }
}
