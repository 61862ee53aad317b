//! Templates: texts in which `{name}` stands for a parameter, and `{{` and `}}` for braces.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use super::Words;

/// The values of parameters by name, as text.
pub type Values = BTreeMap<Box<str>, Box<str>>;

/// Returns the text with all parameters replaced by their values.
///
/// # Errors
///
/// A brace without its partner, or a parameter without a value.
pub fn fill(text: &str, values: &Values) -> Result<Box<str>, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        filled.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix(brace) {
            filled.push_str(brace);
            rest = after;
            continue;
        }
        let end = after.find('}').filter(|_| brace == "{");
        let end = end.ok_or_else(|| {
            format!("{text:?}: a {brace} without its partner; {brace}{brace} is a brace")
        })?;
        let name = &after[..end];
        let value =
            values.get(name).ok_or_else(|| format!("{text:?}: there is no parameter {name:?}"))?;
        filled.push_str(value);
        rest = &after[end + 1..];
    }
    filled.push_str(rest);
    Ok(filled.into())
}

/// Fills every word of a list.
///
/// # Errors
///
/// See [`fill`].
pub fn fill_all(words: &[Box<str>], values: &Values) -> Result<Words, String> {
    words.iter().map(|word| fill(word, values)).collect()
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    fn values() -> Values {
        [("port".into(), "8080".into()), ("x".into(), "{port}".into())].into()
    }

    #[test]
    fn a_parameter_is_replaced_once() {
        for (text, filled) in [
            ("", ""),
            ("--port={port}", "--port=8080"),
            ("{port}{port}", "80808080"),
            ("{{port}}", "{port}"),
            ("{x}", "{port}"),
            ("a{{{port}}}b", "a{8080}b"),
        ] {
            assert_eq!(fill(text, &values()).as_deref(), Ok(filled), "{text}");
        }
        for text in ["{", "}", "{port", "port}", "{nobody}", "{}", "{{}"] {
            assert!(fill(text, &values()).is_err(), "{text}");
        }
    }

    quickcheck! {
        fn no_text_is_too_odd(text: String) -> bool {
            fill(&text, &values()).is_ok() || text.contains(['{', '}'])
        }

        fn doubled_braces_are_the_text(text: String) -> bool {
            let doubled = text.replace('{', "{{").replace('}', "}}");
            fill(&doubled, &Values::new()).as_deref() == Ok(&*text)
        }
    }
}
