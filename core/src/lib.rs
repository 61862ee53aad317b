//! The HA bridge between Motr and Consul, as pure state machines.
#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::std_instead_of_core, clippy::alloc_instead_of_core, clippy::std_instead_of_alloc)]

extern crate alloc;

// Downwards only: a module uses what stands below it in this list.
pub mod discover;

pub mod journal;
pub mod node;

pub mod bridge;
pub mod wire;

pub mod model;

pub mod store;

pub mod machine;

pub mod http;

pub mod consul;

pub mod net;

pub mod ha;

pub mod exec;
pub mod file;

pub mod base;
