//! What Consul's service watch posts (Consul: "Watches", type `service`; 5/HAX's sample).

use alloc::boxed::Box;
use alloc::vec::Vec;

use serde::Deserialize;

use crate::consul::json::{self, RawCheck};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance<'a> {
    #[serde(borrow)]
    checks: Option<Vec<RawCheck<'a>>>,
}

/// All checks of a payload, in its order. `null` and `[]` have none.
///
/// # Errors
///
/// A text that says what is wrong and where.
pub fn checks(body: &[u8]) -> Result<Vec<RawCheck<'_>>, Box<str>> {
    let instances: Option<Vec<Instance<'_>>> = json::parse(body)?;
    Ok(instances.unwrap_or_default().into_iter().filter_map(|i| i.checks).flatten().collect())
}
