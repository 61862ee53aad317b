//! Loads the site's library.
#![expect(unsafe_code, reason = "loading a library runs its initialisers")]

use std::path::Path;

use motr_sys::{Error, Library};

/// The library `file`, or the one that the system has.
///
/// # Errors
///
/// In one sentence, with what to do about it.
pub fn open(file: Option<&Path>) -> Result<Library, Error> {
    // SAFETY: the file is one that the operator names, or that the system's loader finds under the name
    // of Motr's library and its ABI's number. That whoever may change either is trusted is as true of hax's
    // own file; that it is Motr's is checked by the names of 31 functions.
    unsafe { Library::open(file) }
}
