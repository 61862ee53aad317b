//! The payload of Consul's service watch (Consul: "Watches", type `service`; 5/HAX's sample).

use alloc::boxed::Box;
use alloc::vec::Vec;

use serde::Deserialize;

use crate::consul::json::{self, RawCheck};

/// The instances of a service.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Payload<'a> {
    #[serde(borrow)]
    instances: Option<Vec<Instance<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance<'a> {
    #[serde(borrow)]
    checks: Option<Vec<RawCheck<'a>>>,
}

impl<'a> Payload<'a> {
    /// Parses a payload. `null` and `[]` have no checks.
    ///
    /// # Errors
    ///
    /// A text that says what is wrong and where.
    pub fn read(body: &'a [u8]) -> Result<Self, Box<str>> {
        json::parse(body)
    }

    /// Returns all checks of the payload in their order.
    pub fn checks(&self) -> impl Iterator<Item = &RawCheck<'a>> {
        self.instances.iter().flatten().filter_map(|instance| instance.checks.as_ref()).flatten()
    }
}
