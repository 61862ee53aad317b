//! Motr's wire protocol on its `sock` transport, without Motr's library.
//!
//! The layers of [`codec`], from TCP upwards, are frame → packet → item → fop, with messages and parameters
//! inside. The machines above them are connections → rpc (its server and its client) → `link`, which
//! [`Endpoint`] and [`Process`] share. File names in the documentation are Motr's.

pub mod codec;
mod conns;
pub mod endpoint;
mod hand;
mod link;
pub mod name;
pub mod process;
mod queue;
mod rpc;

pub use codec::bytes::DecodeError;
pub use endpoint::{Config, Endpoint, Input, Output, View};
pub use process::Process;
