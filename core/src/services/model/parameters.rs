//! The parameters of a type: their kinds and defaults, and the values that a start uses.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::template::Values;

/// The maximum length of a text value, in bytes.
const TEXT_MAX: usize = 4096;

/// The values of parameters, as they were given or stored.
pub type Given = BTreeMap<Box<str>, Value>;

/// The declarations of a type's parameters by name.
pub type Declared = BTreeMap<Box<str>, Parameter>;

/// The kind of a parameter's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A whole number.
    Integer,
    /// A text without NUL.
    String,
    /// `true` or `false`.
    Boolean,
}

/// The declaration of a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// The kind of its values.
    pub kind: Kind,
    /// The built-in value. A parameter without it has to be given or stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// The smallest number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    /// The largest number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
    /// The only possible values. None means that all values of the kind are possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<Value>>,
}

impl Parameter {
    /// Returns a value as text, if it is a value of this parameter.
    fn text_of(&self, value: &Value) -> Result<Box<str>, String> {
        let text = match (self.kind, value) {
            (Kind::Integer, Value::Number(number)) if number.is_i64() => {
                let n = number.as_i64().unwrap_or_default();
                if self.min.is_some_and(|min| n < min) || self.max.is_some_and(|max| n > max) {
                    let bound =
                        |bound: Option<i64>| bound.map_or_else(|| "any".into(), |n| n.to_string());
                    let (min, max) = (bound(self.min), bound(self.max));
                    return Err(format!("{n} is not within {min} to {max}"));
                }
                n.to_string()
            }
            (Kind::String, Value::String(text)) if text.len() > TEXT_MAX || text.contains('\0') => {
                return Err(format!("a text has up to {TEXT_MAX} bytes and no NUL"));
            }
            (Kind::String, Value::String(text)) => text.clone(),
            (Kind::Boolean, Value::Bool(flag)) => flag.to_string(),
            (kind, value) => return Err(format!("{value} is no {}", kind.word())),
        };
        match &self.values {
            Some(values) if !values.contains(value) => {
                let values: Vec<String> = values.iter().map(Value::to_string).collect();
                Err(format!("{value} is none of {}", values.join(", ")))
            }
            Some(_) | None => Ok(text.into()),
        }
    }
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::String => "string",
            Self::Boolean => "boolean",
        }
    }
}

/// Returns the invalid declarations, each with the reason.
#[must_use]
pub fn problems(declared: &Declared) -> Vec<(String, String)> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut found = Vec::new();
    for (name, parameter) in declared {
        let field = format!("parameters.{name}");
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            found.push((field.clone(), "a name has 1 to 64 letters, digits and '_'".into()));
        }
        if BUILT_IN.contains(&&**name) {
            found.push((field.clone(), "hax sets this parameter itself".into()));
        }
        let values = parameter.default.iter().chain(parameter.values.iter().flatten());
        found.extend(
            values.filter_map(|value| Some((field.clone(), parameter.text_of(value).err()?))),
        );
    }
    found
}

/// The parameters that every type has.
const BUILT_IN: [&str; 2] = ["node", "type"];

/// Merges values: the later ones replace the earlier ones. The order is built-in < given < stored.
///
/// # Errors
///
/// All parameters that are not declared, that have an invalid value, or that have none.
pub fn merge(declared: &Declared, given: &Given, stored: &Given) -> Result<Given, Vec<String>> {
    let mut merged = Given::new();
    let mut problems = Vec::new();
    for (name, value) in given.iter().chain(stored) {
        match declared.get(name).map(|parameter| parameter.text_of(value)) {
            None => problems.push(format!("parameter {name}: the type has none of this name")),
            Some(Err(why)) => problems.push(format!("parameter {name}: {why}")),
            Some(Ok(_)) => drop(merged.insert(name.clone(), value.clone())),
        }
    }
    for (name, parameter) in declared {
        match (&parameter.default, merged.contains_key(name)) {
            (Some(value), false) => drop(merged.insert(name.clone(), value.clone())),
            (None, false) => problems.push(format!("parameter {name}: it has no value")),
            (_, true) => {}
        }
    }
    if problems.is_empty() { Ok(merged) } else { Err(problems) }
}

/// Returns merged values as texts for templates, with those that every type has.
#[must_use]
pub fn texts(declared: &Declared, merged: &Given, node: &str, kind: &str) -> Values {
    let own = [("node".into(), node.into()), ("type".into(), kind.into())];
    let mut texts: Values = own.into();
    for (name, value) in merged {
        if let Some(Ok(text)) = declared.get(name).map(|parameter| parameter.text_of(value)) {
            texts.insert(name.clone(), text);
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn declared() -> Declared {
        serde_json::from_value(json!({
            "port": { "kind": "integer", "default": 8080, "min": 1, "max": 65535 },
            "mode": { "kind": "string", "values": ["fast", "safe"], "default": "safe" },
            "root": { "kind": "string" },
            "debug": { "kind": "boolean", "default": false },
        }))
        .unwrap()
    }

    fn given(value: Value) -> Given {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn h44_stored_values_replace_given_ones_and_given_ones_the_built_in() {
        let (a, b) = (given(json!({"port": 1, "root": "/a"})), given(json!({"port": 2})));
        let merged = merge(&declared(), &a, &b).unwrap();
        let texts = texts(&declared(), &merged, "n1", "web");
        let of = |name: &str| &*texts[name];
        assert_eq!(
            ["port", "root", "mode", "debug", "node", "type"].map(of),
            ["2", "/a", "safe", "false", "n1", "web"]
        );
    }

    #[test]
    fn every_wrong_value_is_named() {
        let wrong = given(json!({"port": 0, "mode": "odd", "debug": "yes", "what": 1}));
        let said = merge(&declared(), &wrong, &Given::new()).unwrap_err().join("\n");
        for part in [
            "parameter port: 0 is not within 1 to 65535",
            "parameter mode: \"odd\" is none of \"fast\", \"safe\"",
            "parameter debug: \"yes\" is no boolean",
            "parameter what: the type has none",
            "parameter root: it has no value",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn a_declaration_is_checked_by_its_own_rule() {
        let bad: Declared = serde_json::from_value(json!({
            "port": { "kind": "integer", "default": "x" },
            "no-name": { "kind": "boolean" },
            "node": { "kind": "string" },
            "n": { "kind": "integer", "values": [1, true] },
        }))
        .unwrap();
        let fields: Vec<String> = problems(&bad).into_iter().map(|(field, _)| field).collect();
        assert_eq!(
            fields,
            ["parameters.n", "parameters.no-name", "parameters.node", "parameters.port"]
        );
        assert!(problems(&declared()).is_empty());
    }
}
