//! Schemas: what the types that share one have in common (the RFC's section "Schema").
//!
//! Types with the same schema accept the same parameters, may attach the same kinds of resources, and store
//! their configuration in the same way.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::name::digest;
use super::parameters::{Declared, Kind};
use super::{form, stored};

/// The version of the way in which a configuration is stored.
const LAYOUT: u32 = 1;

/// The schema of a type, as its record names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// The schema's name.
    pub id: Box<str>,
    /// The kinds of resources that an instance may attach.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub kinds: super::Words,
}

/// The record of a schema in Consul.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaRecord {
    /// The version of the record.
    #[serde(default = "form")]
    pub v: u32,
    /// The digest of the shape, for display.
    pub digest: Box<str>,
    /// What the types with this schema have in common.
    pub shape: Shape,
}

/// What the types of one schema have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// The version of the way in which a configuration is stored.
    layout: u32,
    /// The kinds of resources that an instance may attach.
    kinds: BTreeSet<Box<str>>,
    /// The parameters. Defaults may differ, since they do not change what a type accepts.
    parameters: BTreeMap<Box<str>, Accepts>,
}

/// The values that a parameter accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Accepts {
    kind: Kind,
    min: Option<i64>,
    max: Option<i64>,
    values: Option<Vec<Value>>,
    /// Whether a configuration without it is accepted.
    optional: bool,
}

impl Shape {
    /// Returns the shape of a type with these parameters.
    #[must_use]
    pub fn of(schema: &Schema, declared: &Declared) -> Self {
        let parameters = declared.iter().map(|(name, parameter)| {
            let accepts = Accepts {
                kind: parameter.kind,
                min: parameter.min,
                max: parameter.max,
                values: parameter.values.clone(),
                optional: parameter.default.is_some(),
            };
            (name.clone(), accepts)
        });
        let kinds = schema.kinds.iter().cloned().collect();
        Self { layout: LAYOUT, kinds, parameters: parameters.collect() }
    }

    /// Returns the record of the schema.
    #[must_use]
    pub fn record(self) -> SchemaRecord {
        let digest = format!("{:016x}", digest(&stored::encode(&self))).into();
        SchemaRecord { v: form(), digest, shape: self }
    }

    /// Returns the differences to another shape, in words.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        if self.layout != other.layout {
            found.push(format!("layout {} and not {}", self.layout, other.layout));
        }
        for kind in self.kinds.symmetric_difference(&other.kinds) {
            let has = if self.kinds.contains(kind) { "is only here" } else { "is missing" };
            found.push(format!("the kind {kind} {has}"));
        }
        let names: BTreeSet<&Box<str>> =
            self.parameters.keys().chain(other.parameters.keys()).collect();
        for name in names {
            match (self.parameters.get(name), other.parameters.get(name)) {
                (Some(a), Some(b)) if a != b => {
                    found.push(format!("the parameter {name} accepts other values"));
                }
                (Some(_), None) => found.push(format!("the parameter {name} is only here")),
                (None, Some(_)) => found.push(format!("the parameter {name} is missing")),
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shape(kinds: &[&str], parameters: Value) -> Shape {
        let kinds = kinds.iter().map(|kind| Box::from(*kind)).collect();
        Shape::of(&Schema { id: "s".into(), kinds }, &serde_json::from_value(parameters).unwrap())
    }

    #[test]
    fn h36_types_with_one_schema_may_differ_in_defaults_and_order_only() {
        let a = shape(&["db", "file"], json!({"port": {"kind": "integer", "default": 1}}));
        let b = shape(&["file", "db"], json!({"port": {"kind": "integer", "default": 2}}));
        assert_eq!(a, b);
        assert_eq!(a.record().digest, b.record().digest);
    }

    #[test]
    fn h37_every_difference_is_named() {
        let a = shape(
            &["db"],
            json!({"port": {"kind": "integer", "default": 1}, "x": {"kind": "string"}}),
        );
        let b = shape(&["file"], json!({"port": {"kind": "string"}, "y": {"kind": "string"}}));
        assert_eq!(
            a.differences(&b),
            [
                "the kind db is only here",
                "the kind file is missing",
                "the parameter port accepts other values",
                "the parameter x is only here",
                "the parameter y is missing",
            ]
        );
        assert_ne!(a.clone().record().digest, b.record().digest);
        let text = stored::encode(&a.clone().record());
        assert_eq!(stored::decode::<SchemaRecord>(&text).unwrap().shape, a);
    }
}
