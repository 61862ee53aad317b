//! Foreign text for a terminal, a log or a journal. Characters that would move the cursor, begin a line or
//! hide text are escaped, and long text is cut.

use std::fmt::Write as _;

/// The maximum length of a word that is shown whole, in characters; names of files are shorter.
const WORD_MAX: usize = 256;

/// The maximum length of a text that is shown whole, in characters.
const TEXT_MAX: usize = 2048;

/// Returns the text in one line of visible characters. Of too long a word, and of too long a text, only the
/// beginning is kept; `…` stands for the rest.
#[must_use]
pub fn printable(text: &str) -> String {
    // This is the case for nearly all texts.
    if text.len() <= WORD_MAX && text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len().min(TEXT_MAX));
    let (mut word, mut shown) = (0, 0);
    for c in text.chars() {
        word = if c == ' ' { 0 } else { word + 1 };
        if word > WORD_MAX + 1 {
            continue;
        }
        shown += 1;
        match c {
            _ if shown > TEXT_MAX => {
                out.push('…');
                break;
            }
            _ if word > WORD_MAX => out.push('…'),
            c => push(&mut out, c),
        }
    }
    out
}

fn push(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if is_unseen(c) => {
            // Writing to a string does not fail.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
        c => out.push(c),
    }
}

/// Returns whether the character is invisible: control characters of both sets, line separators, and the
/// Unicode characters that have no width or change the direction of writing (UAX #9, UTR #36).
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f40_what_would_forge_a_line_or_hide_one_is_written_as_what_it_is() {
        for (text, shown) in [
            ("plain: ümläut, 日本語", "plain: ümläut, 日本語"),
            ("a\n<4>WARN forged", "a\\n<4>WARN forged"),
            ("a\r\x1b[2Kb\tc", "a\\r\\u{1b}[2Kb\\tc"),
            ("\0\x07\x7f", "\\u{0}\\u{7}\\u{7f}"),
            ("\u{9b}31m\u{85}", "\\u{9b}31m\\u{85}"),
            ("\u{2028}\u{2029}", "\\u{2028}\\u{2029}"),
            ("\u{202e}gpj.exe\u{2066}", "\\u{202e}gpj.exe\\u{2066}"),
            ("\u{200b}\u{feff}\u{e0041}", "\\u{200b}\\u{feff}\\u{e0041}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn f40_what_is_endless_is_cut() {
        let long = format!("a {} b", "x".repeat(9_000));
        let whole = format!("a {} b", "x".repeat(256));
        assert_eq!(printable(&whole), whole);
        assert_eq!(printable(&long), format!("a {}… b", "x".repeat(256)));
        let words = "word ".repeat(9_000);
        assert_eq!(printable(&words).chars().count(), TEXT_MAX + 1);
        assert!(printable(&words).ends_with('…'));
    }
}
