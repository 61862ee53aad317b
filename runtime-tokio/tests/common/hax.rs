//! Which program is tested: these tests are those of every runtime.

/// That of the package whose test this is.
pub(crate) const HAX: &str =
    match (option_env!("CARGO_BIN_EXE_hax"), option_env!("CARGO_BIN_EXE_hax-smol")) {
        (Some(hax), _) | (None, Some(hax)) => hax,
        (None, None) => panic!("a package without a program"),
    };
