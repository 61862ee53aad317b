//! Consul's HTTP API as data: requests and responses.

pub mod json;
pub mod op;
pub mod port;
pub mod url;
