//! A fake of Motr's library in the same process: the same functions, scripted by a [`FakeLibrary`].
//!
//! It behaves as libmotr was observed to behave. Callbacks run on a thread of its own, or inside
//! `entrypoint_reply` if the library does that. Memory is overwritten and freed as soon as the library may
//! take it back. The start connects to itself. If libmotr would abort the process or never return, the fake
//! records the error, and fails its test at the end.

mod functions;
mod library;
mod links;
mod locality;
mod spiel;
mod state;

pub use library::{FakeLibrary, Link, Reply, Request, Started};
pub use spiel::Says;
