//! Motr's wire on its `sock` transport, without Motr's library.

pub mod net;
