//! Strings as Go quotes them.

use std::fmt::Write as _;

use crate::snapshot::labels::Labels;

/// Labels as the text with counts has them (`LabelSet.String` in `src/runtime/pprof/label.go`).
pub(super) fn labels(labels: &Labels) -> String {
    let mut pairs: Vec<String> =
        labels.pairs.iter().map(|(key, value)| format!("{}:{}", formatted(key), formatted(value))).collect();
    pairs.sort_unstable();
    format!("{{{}}}", pairs.join(", "))
}

/// Labels as tracebacks of Go 1.`minor` have them behind a goroutine's state (`goroutineheader` in
/// `src/runtime/traceback.go`).
pub(super) fn traceback_labels(labels: &Labels, minor: u32) -> String {
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./_".contains(&byte));
    let shown = |text: &str| if minor >= 27 && plain(text) { text.to_owned() } else { printed(text) };
    let pairs: Vec<String> =
        labels.pairs.iter().map(|(key, value)| format!("{}: {}", shown(key), shown(value))).collect();
    pairs.join(", ")
}

/// As `%q` (`strconv.Quote`).
fn formatted(text: &str) -> String {
    quoted(text, |text, letter| match letter {
        '\x07' => text.push_str("\\a"),
        '\x08' => text.push_str("\\b"),
        '\x0b' => text.push_str("\\v"),
        '\x0c' => text.push_str("\\f"),
        letter if is_shown(letter) => text.push(letter),
        letter => escape(text, letter),
    })
}

/// As the runtime's `print` (`printquoted` in `src/runtime/print.go`).
fn printed(text: &str) -> String {
    quoted(text, |text, letter| match letter {
        ' '..='~' => text.push(letter),
        '\x7f' => text.push_str("\\u007f"),
        letter => escape(text, letter),
    })
}

/// Between quotation marks; `other` adds what both ways to quote don't agree on.
fn quoted(text: &str, other: impl Fn(&mut String, char)) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            letter => other(&mut quoted, letter),
        }
    }
    quoted.push('"');
    quoted
}

fn escape(text: &mut String, letter: char) {
    let number = u32::from(letter);
    _ = match number {
        0..=0x7f => write!(text, "\\x{number:02x}"),
        0x80..=0xffff => write!(text, "\\u{number:04x}"),
        _ => write!(text, "\\U{number:08x}"),
    };
}

/// What the standard library shows behind another letter: Go shows the same, but no space than the usual one.
fn is_shown(letter: char) -> bool {
    let pair = String::from_iter(['a', letter]);
    pair.escape_debug().eq(pair.chars()) && (letter == ' ' || !letter.is_whitespace()) || letter == '\''
}

#[cfg(test)]
mod tests {
    use super::{formatted, printed};

    /// Both ways to quote, as Go's own packages answer.
    #[test]
    fn quotes_as_go_does() {
        let text = "a\"b\\'\n\t\x07\x0b\x00\x7f é\u{a0}\u{200b}\u{202e}世\u{1f600}\u{e000}e\u{301}";
        let expected = r#""a\"b\\'\n\t\a\v\x00\x7f é\u00a0\u200b\u202e世😀\ue000e"#.to_owned() + "\u{301}\"";
        assert_eq!(formatted(text), expected);
        assert_eq!(
            printed(text),
            r#""a\"b\\'\n\t\x07\x0b\x00\u007f \u00e9\u00a0\u200b\u202e\u4e16\U0001f600\ue000e\u0301""#
        );
    }
}
