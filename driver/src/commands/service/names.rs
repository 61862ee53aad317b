//! The names of the command line, which become parts of paths.

use hax_core::keeper::name::ServiceName;
use hax_core::services::model::name::{NodeName, TypeName};

/// Checks the name of a type.
pub(super) fn kind_name(text: &str) -> Result<String, String> {
    let why = "a type is 1 to 48 of a-z, 0-9, - and _";
    TypeName::new(text).map(|name| name.to_string()).ok_or_else(|| why.to_owned())
}

/// Checks the name of a node.
pub(super) fn node_name(text: &str) -> Result<String, String> {
    let why = "a node is 1 to 64 letters, digits, - _ and .";
    NodeName::new(text).map(|name| name.to_string()).ok_or_else(|| why.to_owned())
}

/// Checks the name of a message.
pub(super) fn message_name(text: &str) -> Result<String, String> {
    let why = "a message has a plain name";
    ServiceName::new(text).map(|name| name.to_string()).ok_or_else(|| why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path_and_no_query() {
        assert_eq!(kind_name("web-1").as_deref(), Ok("web-1"));
        for text in ["n2/stop?x=", "db?node=n1", "../../env", "a b", ""] {
            kind_name(text).unwrap_err();
            node_name(text).unwrap_err();
            message_name(text).unwrap_err();
        }
    }
}
