//! The codec, layer by layer: frame → packet → item → fop, with messages and parameters inside.

pub(crate) mod bytes;
pub mod fop;
pub mod frame;
pub mod item;
pub(crate) mod message;
pub mod packet;
pub mod params;
