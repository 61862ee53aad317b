//! The data of services: types with their parameters and schemas, and the records in Consul.

pub mod answer;
pub mod class;
pub mod keys;
pub mod kind;
pub mod launch;
pub mod name;
pub mod parameters;
pub mod place;
pub mod policy;
pub mod probe;
pub mod record;
pub mod schema;
pub mod scripted;
pub mod span;
pub mod stored;
pub mod supervision;
pub mod template;

/// A list of words, for instance a command line.
pub type Words = alloc::boxed::Box<[alloc::boxed::Box<str>]>;

/// The version of all records. A reader does not overwrite a record with a later version.
pub const FORM: u32 = 1;

/// Returns the version of new records, for serde.
pub(crate) const fn form() -> u32 {
    FORM
}
