//! A watch's payload as plain structs: the minimum work of any program that reads it.

use std::borrow::Cow;

use serde::Deserialize;

/// An instance of a service with its checks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Instance<'a> {
    /// The checks of the instance.
    #[serde(borrow)]
    pub checks: Vec<Check<'a>>,
}

/// The relevant fields of a check; the others are skipped.
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

/// Reads a payload; returns the number of its checks.
///
/// # Panics
///
/// If the payload is not valid.
#[must_use]
pub fn read(body: &[u8]) -> usize {
    let instances: Vec<Instance<'_>> = serde_json::from_slice(body).expect("a payload");
    instances.iter().map(|instance| instance.checks.len()).sum()
}
