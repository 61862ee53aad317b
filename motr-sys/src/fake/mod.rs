//! Motr's library in process: the same functions, scripted by a [`Lab`].
//!
//! It does what libmotr was seen to do: callbacks come on a thread of its own, or inside
//! `entrypoint_reply` where the library does that; memory is given back as soon as the library may take
//! it back, overwritten first; starting connects to itself. Where libmotr would abort the process or never
//! return, the fake writes down what was done wrong, and the library fails its test at the end.

mod functions;
mod library;
mod links;
mod locality;
mod spiel;
mod state;

pub use library::{FakeLibrary, Link, Reply, Request, Started};
pub use spiel::Says;
