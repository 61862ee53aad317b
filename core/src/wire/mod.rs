//! Motr's wire on its `sock` transport, without Motr's library.
//!
//! Layers, from TCP upwards: [`frame`] → [`packet`] → [`item`] → [`fop`], with `message` and
//! [`params`] inside. Above them the machines: connections → rpc (`rpc`, `rpc_in`, `rpc_out`) → `link`,
//! which [`Endpoint`] and [`Process`] share. Names of files in the documentation are Motr's.

// A port of its own, which the wire is the first to use.

mod accepted;
mod asked;
mod bytes;
mod client;
mod conns;
mod crowd;
mod ending;
pub mod endpoint;
mod entry;
pub mod fop;
pub mod frame;
mod io;
pub mod item;
mod link;
mod links;
mod message;
pub mod name;
pub mod packet;
pub mod params;
mod peer;
pub mod process;
mod queue;
mod rpc;
mod rpc_in;
mod rpc_out;

pub use bytes::Bad;
pub use endpoint::{Config, Endpoint, Input, Output, View};
pub use process::Process;
