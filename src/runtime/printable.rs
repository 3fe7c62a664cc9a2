//! Text that may be printed: on a terminal it moves no cursor, sets no title and turns no line
//! around. Names, types and messages of upstreams come from strangers.
//!
//! A character that a terminal obeys instead of showing it is printed as `\u001b`: the controls of
//! ASCII and of Latin-1, the marks of writing direction, and the separators of lines and
//! paragraphs. JSON and TOML have such characters in strings only, and read the same escape there;
//! so their meaning stays.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, Write},
};

/// A text of several lines. Its ends of lines and its tabs stay.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_obeyed(c) && !matches!(c, '\n' | '\t'))
}

/// A text that is a part of a line: its ends of lines and tabs are escaped, too.
pub(crate) fn printable_word(text: &str) -> Cow<'_, str> {
    escaped(text, is_obeyed)
}

/// Whether a terminal obeys the character.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) {
            // Writing to a String does not fail. None of these characters has more than four
            // digits.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// A writer of whole lines that are made printable. With `colours`, the sequences that choose a
/// colour stay: whoever writes the lines has escaped those of strangers.
pub(crate) struct PrintableLines<W> {
    to: W,
    colours: bool,
}

impl<W: Write> PrintableLines<W> {
    pub(crate) fn new(to: W, colours: bool) -> PrintableLines<W> {
        PrintableLines { to, colours }
    }
}

impl<W: Write> Write for PrintableLines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let (mut out, mut rest) = (String::new(), &*text);
        while self.colours
            && let Some(at) = rest.find('\u{1b}')
        {
            let (before, sequence) = rest.split_at(at);
            let (colour, behind) = sequence.split_at(colour_length(sequence));
            if colour.is_empty() {
                break;
            }
            out.push_str(&printable(before));
            out.push_str(colour);
            rest = behind;
        }
        let rest = printable(rest);
        // In one piece: other threads write lines, too.
        if out.is_empty() {
            self.to.write_all(rest.as_bytes())?;
        } else {
            out.push_str(&rest);
            self.to.write_all(out.as_bytes())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The length of the sequence at the beginning of a text, if it chooses a colour, else 0.
fn colour_length(text: &str) -> usize {
    let Some(inside) = text.strip_prefix("\u{1b}[") else { return 0 };
    let digits = inside.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
    if inside.as_bytes().get(digits) == Some(&b'm') { digits + 3 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NASTY: &str = "a\u{1b}[31m\u{7}\u{9b}5m\u{202e}\u{2066}\u{2069}\u{200e}\u{200f}\u{61c}\u{2028}\u{7f}\r";

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        let plain = "linux/amd64 größe ☃ \u{1f980}\tx\n";
        assert!(matches!(printable(plain), Cow::Borrowed(same) if same == plain));
        assert_eq!(printable_word("a\nb\tc"), "a\\u000ab\\u0009c");
        let escaped = "a\\u001b[31m\\u0007\\u009b5m\\u202e\\u2066\\u2069\\u200e\\u200f\\u061c\\u2028\\u007f\\u000d";
        assert_eq!(printable(NASTY), escaped);
        assert_eq!(printable(escaped), escaped);
    }

    #[test]
    fn json_and_toml_mean_the_same_afterwards() {
        let json = serde_json::to_string(&serde_json::json!({ "a": NASTY })).unwrap();
        let printed = printable(&json);
        assert!(!printed.chars().any(is_obeyed), "{printed}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&printed).unwrap()["a"], NASTY);
        let toml = format!("a = \"{}\"", printable(NASTY));
        assert_eq!(toml.parse::<toml::Table>().unwrap()["a"].as_str(), Some(NASTY));
    }

    #[test]
    fn colours_stay_where_they_are_wanted() {
        let written = |text: &str, colours| {
            let mut lines = PrintableLines::new(Vec::new(), colours);
            lines.write_all(text.as_bytes()).unwrap();
            String::from_utf8(lines.to).unwrap()
        };
        let line = "\u{1b}[1;31mERROR\u{1b}[0m x\u{202e}\u{1b}]0;t\u{7}\u{1b}[2J\u{1b}[0m\n";
        let rest = "x\\u202e\\u001b]0;t\\u0007\\u001b[2J\\u001b[0m\n";
        assert_eq!(written(line, true), format!("\u{1b}[1;31mERROR\u{1b}[0m {rest}"));
        assert_eq!(written(line, false), format!("\\u001b[1;31mERROR\\u001b[0m {rest}"));
    }
}
