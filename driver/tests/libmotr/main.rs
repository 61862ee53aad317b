//! Tests of Motr's library with the fake library, which fails a test for every call on which the real library
//! aborts: the glue alone, and a bridge behind it in a small world.
#![cfg(feature = "libmotr")]
#![expect(clippy::print_stdout, reason = "the history of a failed test")]

mod glue;
mod rig;
mod spiel;
mod world;
