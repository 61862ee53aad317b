//! One log line: the content of an event, escaped, and its format.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use crate::observe::printable::printable;
use crate::settings::values::LogFormat;

/// The format of lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct LineStyle {
    pub(super) format: LogFormat,
    /// Each line begins with its priority and has no time of day, which the journal adds.
    pub(super) journal: bool,
    pub(super) colours: bool,
}

/// The content of an event. Texts are [`printable`], since they may be foreign.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) message: String,
    /// The name, the text of the value, and whether JSON writes it without quotes.
    pub(super) fields: Vec<(&'static str, String, bool)>,
}

impl Line {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut line = Self::default();
        event.record(&mut line);
        line
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, ..)| *field == name).map(|(_, text, _)| text.as_str())
    }

    fn push(&mut self, field: &Field, text: &str, bare: bool) {
        let text = printable(text);
        match field.name() {
            "message" => self.message = text,
            name => self.fields.push((name, text, bare)),
        }
    }

    /// Returns the line as it is written, with its end.
    pub(super) fn render(&self, level: Level, style: LineStyle) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = match style.format {
            LogFormat::Human => self.human(&mut out, level, style),
            LogFormat::Json => self.json(&mut out, level, style),
        };
        out.push('\n');
        out
    }

    fn human(&self, out: &mut String, level: Level, style: LineStyle) -> fmt::Result {
        if style.journal {
            write!(out, "<{}>", priority(level))?;
        } else {
            let (colour, plain) = if style.colours { (colour(level), "\x1b[0m") } else { ("", "") };
            write!(out, "{} {colour}{level:>5}{plain} ", now())?;
        }
        out.push_str(&self.message);
        for (name, text, bare) in &self.fields {
            if *bare {
                write!(out, " {name}={text}")?;
            } else {
                write!(out, " {name}=\"{}\"", text.replace('"', "\\\""))?;
            }
        }
        Ok(())
    }

    fn json(&self, out: &mut String, level: Level, style: LineStyle) -> fmt::Result {
        if style.journal {
            write!(out, "<{}>{{", priority(level))?;
        } else {
            write!(out, "{{\"timestamp\":\"{}\",", now())?;
        }
        write!(out, "\"level\":\"{level}\",\"message\":{}", quoted(&self.message))?;
        for (name, text, bare) in &self.fields {
            if *bare {
                write!(out, ",\"{name}\":{text}")?;
            } else {
                write!(out, ",\"{name}\":{}", quoted(text))?;
            }
        }
        out.push('}');
        Ok(())
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, &format!("{value:?}"), false);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value, false);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, &value.to_string(), true);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, &value.to_string(), true);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, &value.to_string(), true);
    }
}

/// Returns the time of day in the format of RFC 3339.
fn now() -> String {
    let mut text = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// Returns a JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

const fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

/// Returns the priority of syslog(3).
const fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f40_each_look_is_one_line_whatever_is_in_it() {
        let evil = "GET /\n<0>forged \x1b[2J \u{2028}{\"level\":\"ERROR\"}";
        let line = Line {
            message: printable(evil),
            fields: vec![("fact", printable(evil), false), ("n", "7".into(), true)],
        };
        for (format, journal) in [
            (LogFormat::Human, false),
            (LogFormat::Human, true),
            (LogFormat::Json, false),
            (LogFormat::Json, true),
        ] {
            let text = line.render(Level::WARN, LineStyle { format, journal, colours: false });
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(text.ends_with('\n') && !text.contains(['\x1b', '\u{2028}']), "{text}");
            assert_eq!(journal, text.starts_with("<4>"), "{text}");
            if let (LogFormat::Json, text) = (format, text.trim_start_matches("<4>")) {
                let json: serde_json::Value = serde_json::from_str(text).unwrap();
                assert_eq!(json["message"], printable(evil));
                assert_eq!((&json["n"], &json["level"]), (&7.into(), &"WARN".into()));
                assert_eq!(json["timestamp"].is_string(), !journal);
            }
        }
    }
}
