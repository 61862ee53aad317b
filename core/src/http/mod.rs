//! The HTTP side: requests of watch handlers and operators, and the responses.

pub mod answer;
pub mod payload;
pub mod port;
pub mod router;
pub mod stream;
