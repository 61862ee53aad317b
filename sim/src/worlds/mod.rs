//! The casts that play in the [engine](crate::engine).

pub mod bridge;
pub mod route;
pub mod services;
pub mod toy;
