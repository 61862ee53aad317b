//! Motr's wire on its `sock` transport, without Motr's library.
//!
//! Layers, from TCP upwards: [`frame`] → [`packet`] → [`item`] → [`fop`], with `message` and
//! [`params`] inside. Above them the machines: connections → rpc (`rpc`, `rpc_in`, `rpc_out`) → `link`,
//! which [`Endpoint`] and [`Process`] share. Names of files in the documentation are Motr's.

pub mod codec;
mod conns;
pub mod endpoint;
mod link;
pub mod name;
pub mod process;
mod queue;
mod rpc;

pub use codec::bytes::Bad;
pub use endpoint::{Config, Endpoint, Input, Output, View};
pub use process::Process;
