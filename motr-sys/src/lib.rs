//! Raw bindings to the HA interface of Motr's library, `libmotr`.
//!
//! Nothing is linked: [`Library::open`] loads the library where there is one, so that one binary serves
//! sites with and without it, and everything here builds and is tested on machines that have never
//! seen Motr. [`Ha`] and [`Spiel`] are tables of its functions, [`abi`] their types and data. The
//! types are made from headers of our own in `abi/`, which `scripts/check-motr-abi` holds against
//! Motr's where those are installed.
//!
//! With the feature `fake` there is the same table over [`fake::Lab`], which does what libmotr does and
//! notices what libmotr would abort on.
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
