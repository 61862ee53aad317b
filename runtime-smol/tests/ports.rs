//! The ports that no command shows from outside, on smol.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use hax_smol::Smol as Runtime;

#[path = "../../driver/conformance/ports.rs"]
mod ports;
