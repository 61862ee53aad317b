//! Finding and loading of the library.

use std::ffi::{CStr, OsStr};
use std::path::{Path, PathBuf};

use libloading::os::unix;

use crate::abi;
use crate::table::{Ha, Spiel};

/// The name of the library with this ABI; the number is Motr's major version.
const NAME: &str = "libmotr.so.2";

/// The reason why there is no library.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The library cannot be loaded.
    #[error(
        "Motr's library cannot be loaded ({why}): install Motr's package (cortx-motr) on this node or \
         name the file with --libmotr (HAX_LIBMOTR), or give hax and its Motr processes endpoints of \
         the sock transport, inet:stream:IP@PORT, which need no library (--motr-endpoint)"
    )]
    Load {
        /// The error of the system's loader.
        why: String,
    },
    /// The library may not be loaded: all its builds have nested functions of C, which need an executable
    /// stack.
    #[error(
        "Motr's library wants an executable stack, which is forbidden here ({why}): take \
         MemoryDenyWriteExecute=yes out of hax's unit, as contrib/hax-libmotr.conf does, and from glibc 2.41 on \
         set GLIBC_TUNABLES=glibc.rtld.execstack=2"
    )]
    Stack {
        /// The error of the system's loader.
        why: String,
    },
    /// The file is not Motr's library.
    #[error(
        "{} is not the library of Motr 2 that hax needs, it has no function {name}: name another file \
         with --libmotr (HAX_LIBMOTR)",
        path.display()
    )]
    Function {
        /// The path of the file.
        path: PathBuf,
        /// The missing function.
        name: &'static str,
    },
    /// The library has another ABI.
    #[error(
        "{} is Motr {version}, and hax knows the ABI of Motr 2 only: name another file with --libmotr \
         (HAX_LIBMOTR)",
        path.display()
    )]
    Version {
        /// The path of the file.
        path: PathBuf,
        /// The version that the library reports.
        version: String,
    },
    /// A static program has no loader.
    #[error(
        "this hax is a static file, which cannot load Motr's library: install one that is linked with \
         the system's C library, or give hax and its Motr processes endpoints of the sock transport, \
         inet:stream:IP@PORT, which need no library (--motr-endpoint)"
    )]
    Static,
    /// Motr's ABI is known for x86-64 only.
    #[error(
        "Motr's library is used on 64-bit x86 only: give hax and its Motr processes endpoints of the \
         sock transport, inet:stream:IP@PORT"
    )]
    Machine,
}

impl Error {
    /// Returns the error for a text of the system's loader.
    fn load(why: String) -> Self {
        if why.contains("executable stack") { Self::Stack { why } } else { Self::Load { why } }
    }
}

/// Motr's library, loaded. It is never unloaded, since it leaves threads and handlers behind.
#[derive(Clone, Copy, Debug)]
pub struct Library {
    /// The HA interface.
    pub ha: Ha,
    /// Commands to the cluster.
    pub spiel: Spiel,
    version: &'static CStr,
}

impl Library {
    /// Loads the file `path`, or by default the library that the system's loader finds.
    ///
    /// # Errors
    ///
    /// If there is no library, or it is not Motr's.
    ///
    /// # Safety
    ///
    /// It must be safe to run the library's initialisers. If the library has Motr's functions, it must be
    /// Motr's library with the ABI in `abi/`.
    pub unsafe fn open(path: Option<&Path>) -> Result<Self, Error> {
        if !cfg!(target_arch = "x86_64") {
            return Err(Error::Machine);
        }
        if cfg!(target_feature = "crt-static") {
            return Err(Error::Static);
        }
        let path = path.unwrap_or_else(|| Path::new(NAME));
        let flags = unix::RTLD_NOW | unix::RTLD_LOCAL;
        // SAFETY: the caller is responsible for the file's initialisers.
        let library =
            unsafe { unix::Library::open(Some(OsStr::new(path)), flags) }.map_err(|error| {
                let why = std::error::Error::source(&error).map(ToString::to_string);
                Error::load(why.unwrap_or_else(|| error.to_string()))
            })?;
        let missing = |name| Error::Function { path: path.into(), name };
        // SAFETY: the caller guarantees that it is Motr's. It stays open: see below.
        let ha = unsafe { Ha::of(&library) }.map_err(missing)?;
        // SAFETY: as above, it is Motr's and stays open.
        let spiel = unsafe { Spiel::of(&library) }.map_err(missing)?;
        // SAFETY: the function takes no arguments and may be called before `init`; it returns a pointer to a
        // constant of the library, which stays.
        let info: &'static abi::m0_build_info = unsafe { &*(ha.build_info)() };
        // SAFETY: this is a constant text of the library.
        let version = unsafe { CStr::from_ptr(info.bi_version_string) };
        std::mem::forget(library);
        if !version.to_bytes().starts_with(b"2.") {
            let version = version.to_string_lossy().into_owned();
            return Err(Error::Version { path: path.into(), version });
        }
        Ok(Self { ha, spiel, version })
    }

    /// Returns Motr's name of its version.
    #[must_use]
    pub fn version(&self) -> std::borrow::Cow<'static, str> {
        self.version.to_string_lossy()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_there_says_what_to_do() {
        let path = Path::new("/nonexistent/libmotr.so");
        // SAFETY: the file does not exist.
        let why = unsafe { Library::open(Some(path)) }.unwrap_err().to_string();
        assert!(why.contains("/nonexistent/libmotr.so"), "{why}");
        for remedy in ["cortx-motr", "--libmotr", "inet:stream:"] {
            assert!(why.contains(remedy), "{why}");
        }
        assert!(!why.contains('\n'), "{why}");
    }

    #[test]
    fn a_stack_that_may_not_be_executable_is_no_missing_package() {
        let glibc = "libmotr.so.2: cannot enable executable stack as shared object requires";
        let why = Error::load(glibc.into()).to_string();
        assert!(why.contains(glibc) && why.contains("MemoryDenyWriteExecute"), "{why}");
        assert!(!why.contains("cortx-motr"), "{why}");
    }

    #[test]
    fn another_library_is_not_taken_for_motr_s() {
        // SAFETY: this is the C library, which is loaded already.
        let why = unsafe { Library::open(Some(Path::new("libc.so.6"))) }.unwrap_err().to_string();
        assert!(why.contains("libc.so.6") && why.contains("m0_halon_interface_init"), "{why}");
    }
}
