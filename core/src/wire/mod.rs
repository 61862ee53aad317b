//! Motr's wire on its `sock` transport, without Motr's library.
//!
//! Layers, from TCP upwards, in [`codec`]: frame → packet → item → fop, with messages and parameters
//! inside. Above them the machines: connections → rpc (its server and its client) → `link`,
//! which [`Endpoint`] and [`Process`] share. Names of files in the documentation are Motr's.

pub mod codec;
mod conns;
pub mod endpoint;
mod link;
pub mod name;
pub mod process;
mod queue;
mod rpc;

pub use codec::bytes::DecodeError;
pub use endpoint::{Config, Endpoint, Input, Output, View};
pub use process::Process;
