//! The program under test: every runtime has these tests.

/// The program of the package that the test belongs to.
pub(crate) const HAX: &str =
    match (option_env!("CARGO_BIN_EXE_hax"), option_env!("CARGO_BIN_EXE_hax-smol")) {
        (Some(hax), _) | (None, Some(hax)) => hax,
        (None, None) => panic!("a package without a program"),
    };
