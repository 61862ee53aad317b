//! A watch's payload as plain structs: what any program that reads it has to do.

use std::borrow::Cow;

use serde::Deserialize;

/// An instance of a service with its checks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Instance<'a> {
    /// Its checks.
    #[serde(borrow)]
    pub checks: Vec<Check<'a>>,
}

/// The fields of a check that matter; the others are passed over.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[expect(missing_docs, reason = "Consul's own names")]
pub struct Check<'a> {
    #[serde(borrow)]
    pub node: Cow<'a, str>,
    #[serde(borrow, rename = "CheckID")]
    pub check_id: Cow<'a, str>,
    #[serde(borrow)]
    pub status: Cow<'a, str>,
    #[serde(borrow, rename = "ServiceID")]
    pub service_id: Cow<'a, str>,
    pub modify_index: u64,
}

/// Reads a payload; how many checks it has.
///
/// # Panics
///
/// If it is not one.
#[must_use]
pub fn read(body: &[u8]) -> usize {
    let instances: Vec<Instance<'_>> = serde_json::from_slice(body).expect("a payload");
    instances.iter().map(|instance| instance.checks.len()).sum()
}
