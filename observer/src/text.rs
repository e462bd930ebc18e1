//! Text that a target chose, made fit for terminals, logs and labels.

/// `bytes` as text of at most `max_bytes` bytes: what isn't UTF-8, control characters and characters that
/// reorder or break lines become U+FFFD.
#[must_use]
pub fn printable(bytes: &[u8], max_bytes: usize) -> String {
    // Each input byte gives at least one byte of output, so the rest could not be shown anyway.
    let head = &bytes[..bytes.len().min(max_bytes)];
    let mut text: String = String::from_utf8_lossy(head).chars().map(shown).collect();
    while text.len() > max_bytes {
        text.pop();
    }
    text
}

/// The character to show for `c`.
fn shown(c: char) -> char {
    let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if c.is_control() || reorders { char::REPLACEMENT_CHARACTER } else { c }
}

#[cfg(test)]
mod tests {
    use super::printable;

    /// Escape sequences, line ends, bidirectional overrides and broken UTF-8 can't reach a terminal.
    #[test]
    fn replaces_what_a_terminal_would_obey() {
        assert_eq!(printable(b"a\x1b[2J\nb\xffc\xc2\x9b", 99), "a\u{fffd}[2J\u{fffd}b\u{fffd}c\u{fffd}");
        assert_eq!(printable("x\u{202e}y".as_bytes(), 99), "x\u{fffd}y");
        assert_eq!(printable("größe".as_bytes(), 99), "größe");
    }

    /// The bound holds for bytes, also where replacing makes the text longer, and never splits a character.
    #[test]
    fn is_bounded_in_bytes() {
        assert_eq!(printable(&[b'a'; 300], 256).len(), 256);
        assert_eq!(printable(&[0xff; 300], 256).len(), 255);
        assert_eq!(printable("äää".as_bytes(), 5), "ää");
    }
}
