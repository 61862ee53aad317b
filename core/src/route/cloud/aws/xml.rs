//! A reader of the XML that EC2 writes.
//!
//! It knows elements, text, and the predefined and numeric entities. A document type is refused, so there are
//! no entities that expand. The depth is limited, and nothing is recursive.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

/// The maximum depth of elements.
const DEPTH_MAX: usize = 32;

/// The next part of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// The start of an element. The reader's path ends with its name.
    Open,
    /// The text of the element at the reader's path, without surrounding space.
    Text(Cow<'a, str>),
    /// The end of the element at the reader's path.
    Close,
}

/// A reader. See the module.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a str,
    path: Vec<&'a str>,
    /// The number of elements at the end of the path that end with the next part.
    closing: usize,
}

impl<'a> Reader<'a> {
    /// Creates a reader of a document.
    #[must_use]
    pub const fn new(text: &'a str) -> Self {
        Self { rest: text, path: Vec::new(), closing: 0 }
    }

    /// Returns the names of the elements around the last part, the outermost first.
    #[must_use]
    pub fn path(&self) -> &[&'a str] {
        &self.path
    }

    /// Reads the next part. At the end of the document it is None.
    ///
    /// # Errors
    ///
    /// The text is not XML as EC2 writes it.
    pub fn read(&mut self) -> Result<Option<Part<'a>>, &'static str> {
        if self.closing > 1 {
            self.closing = 1;
            return Ok(Some(Part::Close));
        }
        if self.closing == 1 {
            self.closing = 0;
            self.path.pop();
        }
        loop {
            let Some(at) = self.rest.find('<') else {
                return self.end();
            };
            let (text, tag) = self.rest.split_at(at);
            if !text.trim().is_empty() {
                self.rest = tag;
                if self.path.is_empty() {
                    return Err("there is text outside of all elements");
                }
                return Ok(Some(Part::Text(decode(text.trim())?)));
            }
            if let Some(comment) = tag.strip_prefix("<!--") {
                self.rest = after(comment, "-->")?.1;
            } else if let Some(instruction) = tag.strip_prefix("<?") {
                self.rest = after(instruction, "?>")?.1;
            } else if tag.starts_with("<!") {
                return Err("there is a document type or unparsed text");
            } else {
                return self.element(&tag[1..]).map(Some);
            }
        }
    }

    fn end(&self) -> Result<Option<Part<'a>>, &'static str> {
        let is_whole = self.path.is_empty() && self.rest.trim().is_empty();
        if is_whole { Ok(None) } else { Err("the document ends in the middle") }
    }

    /// Reads an element's start or end, after its `<`.
    fn element(&mut self, tag: &'a str) -> Result<Part<'a>, &'static str> {
        let (inside, rest) = after(tag, ">")?;
        self.rest = rest;
        if let Some(name) = inside.strip_prefix('/') {
            if self.path.last() != Some(&name.trim_end()) {
                return Err("an element ends that has not begun");
            }
            self.closing = 1;
            return Ok(Part::Close);
        }
        let (inside, is_empty) = match inside.strip_suffix('/') {
            Some(inside) => (inside, true),
            None => (inside, false),
        };
        let name = inside.split_ascii_whitespace().next().unwrap_or_default();
        if name.is_empty() || name.contains(['<', '&', '"', '\'', '=']) {
            return Err("an element has no name");
        }
        if self.path.len() == DEPTH_MAX {
            return Err("the elements are nested too deeply");
        }
        self.path.push(name);
        self.closing = if is_empty { 2 } else { 0 };
        Ok(Part::Open)
    }
}

/// Returns the text before the end mark, and the text after it.
fn after<'a>(text: &'a str, end: &str) -> Result<(&'a str, &'a str), &'static str> {
    text.split_once(end).ok_or("the document ends in the middle")
}

/// Replaces the entities of a text.
fn decode(text: &str) -> Result<Cow<'_, str>, &'static str> {
    if !text.contains('&') {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, entity)) = rest.split_once('&') {
        decoded.push_str(plain);
        let (name, after) = entity.split_once(';').ok_or("an entity does not end")?;
        decoded.push(character(name).ok_or("an entity is unknown")?);
        rest = after;
    }
    decoded.push_str(rest);
    Ok(Cow::Owned(decoded))
}

fn character(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    fn read(text: &str) -> Result<Vec<String>, &'static str> {
        let mut reader = Reader::new(text);
        let mut found = Vec::new();
        while let Some(part) = reader.read()? {
            let path = reader.path().join("/");
            match part {
                Part::Open => found.push(alloc::format!("+{path}")),
                Part::Text(text) => found.push(alloc::format!("{path}={text}")),
                Part::Close => found.push(alloc::format!("-{path}")),
            }
        }
        Ok(found)
    }

    #[test]
    fn elements_texts_and_entities_are_read() {
        let text = "<?xml version=\"1.0\"?>\n<a xmlns=\"x\"><!-- <b> --><b>1 &lt;&#x41;&#66;</b><c/></a>\n";
        let parts = ["+a", "+a/b", "a/b=1 <AB", "-a/b", "+a/c", "-a/c", "-a"];
        assert_eq!(read(text), Ok(parts.map(|part| part.to_string()).to_vec()));
    }

    #[test]
    fn what_is_no_xml_or_might_expand_is_refused() {
        for bad in [
            "<a>",
            "<a></b>",
            "</a>",
            "text",
            "<a>&lol;</a>",
            "<a>&amp</a>",
            "<a>&#xd800;</a>",
            "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>",
            "<a",
            "<>",
            "<!-- ",
            "<a><![CDATA[x]]></a>",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(read(&"<a>".repeat(100)), Err("the elements are nested too deeply"));
        assert_eq!(read(""), Ok(Vec::new()));
    }
}
