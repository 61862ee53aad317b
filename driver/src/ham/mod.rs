//! x
/// x
pub const HELP: &str = "x";
/// x
pub const EXITS: &str = "x";
