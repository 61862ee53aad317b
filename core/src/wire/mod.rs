//! Motr's wire on its `sock` transport, without Motr's library.
//!
//! Layers, from TCP upwards: [`frame`] → [`packet`] → [`item`] → [`fop`], with [`message`] and
//! [`params`] inside. Names of files in the documentation are Motr's.

mod bytes;
pub mod fop;
pub mod frame;
pub mod item;
mod message;
pub mod name;
pub mod net;
pub mod packet;
pub mod params;

pub use bytes::Bad;
