//! The fake of Motr's library as a file, `libmotr_fake.so`: programs load it instead of the real library.
//!
//! A script over the unix socket in [`SOCKET`] controls its peers and observes the program, with one line for
//! each question and one for each answer. [`Stage`] and [`Script`] are the other side of the socket. A call
//! on which the real library would abort aborts the program, with a line on stderr.
#![expect(unsafe_code, reason = "the library's functions are called from C's side of the table")]

mod exports;
mod play;
mod script;
mod tokens;

pub use script::{Reply, Script, Stage, library};
pub use tokens::{Fid, Said, Sent};

/// The variable with the path of the script's socket.
pub const SOCKET: &str = "MOTR_FAKE_SOCKET";

/// The variable that overrides the library's version.
pub const VERSION: &str = "MOTR_FAKE_VERSION";
