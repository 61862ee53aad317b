//! Others' words for a terminal, a log or a journal: what would move a cursor, begin a line or hide what it
//! says is written as what it is, and what is endless is cut.

use std::fmt::Write as _;

/// The longest word that is shown whole, in characters; the name of a file is shorter.
const WORD_MAX: usize = 256;

/// The longest text that is shown whole, in characters.
const TEXT_MAX: usize = 2048;

/// The text in one line, of characters that can be seen. Of a word that is too long its beginning is
/// kept, and so of the whole; `…` stands for the rest.
#[must_use]
pub fn printable(text: &str) -> String {
    // As nearly all are.
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
            // A string takes whatever it is given.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
        c => out.push(c),
    }
}

/// Control characters of both sets, separators of lines, and the characters of Unicode that have no width
/// or turn the direction of writing (UAX #9, UTR #36).
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
