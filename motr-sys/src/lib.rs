//! Raw bindings to the HA interface of Motr's library, `libmotr`.
//!
//! The library is not linked: [`Library::open`] loads it if it exists. So one binary serves sites with and
//! without it, and all code here builds and is tested on machines without Motr. [`Ha`] and [`Spiel`] are
//! tables of its functions; [`abi`] has their types and data. The types are generated from our own headers in
//! `abi/`. `scripts/check-motr-abi` compares these with Motr's headers if they are installed.
//!
//! With the feature `fake` there is the same table over `fake::FakeLibrary`, which behaves like libmotr and
//! detects calls on which libmotr would abort.
#![expect(unsafe_code, reason = "the C library's functions are called through pointers")]

#[path = "bindings.rs"]
#[expect(missing_docs, reason = "the names are Motr's, see its headers")]
#[expect(non_camel_case_types, non_snake_case, reason = "the names are Motr's")]
pub mod abi;
mod errno;
#[cfg(feature = "fake")]
pub mod fake;
mod library;
mod table;

pub use errno::clear_errno;
pub use library::{Error, Library};
pub use table::{Function, Ha, Spiel, message};
