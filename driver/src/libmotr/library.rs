//! Loading of the site's library.
#![expect(unsafe_code, reason = "loading a library runs its initialisers")]

use std::path::Path;

use motr_sys::{Error, Library};

/// Loads the library `file`, or by default the system's library.
///
/// # Errors
///
/// If it cannot be loaded; the text is one sentence that says what to do.
pub fn open(file: Option<&Path>) -> Result<Library, Error> {
    // SAFETY: the operator names the file, or the system's loader finds it under the name of Motr's library
    // and its ABI's number. Everyone who may change either is trusted, which also holds for hax's own file.
    // The names of 31 functions are checked to ensure that it is Motr's library.
    unsafe { Library::open(file) }
}
