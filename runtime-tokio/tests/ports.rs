//! The ports that no command shows from outside, on tokio.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "real clients take real time")]

use hax_tokio::Tokio as Runtime;

#[path = "../../driver/conformance/ports.rs"]
mod ports;
