//! What the tests of the wire share: tapes of captured traffic.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "each test uses a part of it"
)]

pub mod tape;
