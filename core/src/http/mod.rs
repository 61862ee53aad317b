//! The HTTP side: what watch handlers and operators ask, and what they get.

pub mod answer;
pub mod payload;
pub mod port;
pub mod router;
pub mod stream;
