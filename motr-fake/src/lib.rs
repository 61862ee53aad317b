//! The fake of Motr's library as a file, `libmotr_fake.so`: programs load it in place of the real one.
//!
//! What its peers do and what is seen of the program is scripted over the unix socket that
//! [`SOCKET`] names, one line a question, one line an answer; [`Stage`] and [`Script`] are the
//! other end of it. What the real library would abort on aborts the program, with a line on stderr.
#![expect(unsafe_code, reason = "the library's functions are called from C's side of the table")]

mod exports;
mod play;
mod script;
mod tokens;

pub use script::{Reply, Script, Stage, library};
pub use tokens::{Fid, Said, Sent};

/// The variable that names the socket of the script.
pub const SOCKET: &str = "MOTR_FAKE_SOCKET";

/// The variable that gives the library another version than it has.
pub const VERSION: &str = "MOTR_FAKE_VERSION";
