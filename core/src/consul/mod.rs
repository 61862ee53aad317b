//! Consul's HTTP API as data: requests, answers, and how a copy of a prefix is kept current.

pub mod json;
pub mod op;
pub mod port;
pub mod url;
