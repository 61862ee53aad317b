//! Motr's HA interface as plain data.
//!
//! The bridge cannot tell whether its [`motr::Event`]s come from the wire, from libmotr or from a simulator.
//! Names and numbers are those of Motr's `ha/msg.h`, `ha/note.h`, `conf/ha.h` and `ha/entrypoint_fops.h`.

pub mod entrypoint;
pub mod fact;
pub mod message;
pub mod motr;
pub mod note;
pub mod process;
pub mod report;
pub mod spiel;
