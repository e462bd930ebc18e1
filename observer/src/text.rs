//! Makes text that a target chose safe to show: names come from its binary and its memory, and may hold
//! anything. Every terminal, label, JSON key and log line goes through here.

use std::borrow::Cow;

/// What an unprintable character becomes.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// `text` with everything replaced that a terminal would act on rather than show: control characters
/// (C0, DEL, C1, so also every line break and escape sequence) and the characters that reorder or hide
/// the text around them.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_unprintable) {
        Cow::Owned(text.chars().map(|c| if is_unprintable(c) { REPLACEMENT } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// `bytes` as printable text of at most `max_bytes` bytes; what isn't UTF-8 is replaced too.
#[must_use]
pub fn printable_bytes(bytes: &[u8], max_bytes: usize) -> String {
    // Each input byte gives at least one byte of output, so the rest could not be shown anyway.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(max_bytes)]);
    truncated(&printable(&text), max_bytes).to_owned()
}

/// The longest beginning of `text` that has at most `bytes` bytes and ends between two characters.
#[must_use]
pub fn truncated(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Zero width: two different names would look the same.
            '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}'
            // Direction marks, embeddings and isolates: text is shown in another order than it is.
            | '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Line and paragraph separator.
            | '\u{2028}' | '\u{2029}')
}

/// A number of bytes in the unit that fits it.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// A duration in the two units that fit it.
#[must_use]
pub fn duration(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{seconds:.1}s"),
        60..3_600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3_600..86_400 => format!("{}h{:02}m", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ordinary Go names, with the middle dot and letters of any script, pass unchanged and uncopied.
    #[test]
    fn go_names_pass_unchanged() {
        for name in ["main.(*Reconciler).reconcile.func1", "gc·barrier", "例.Läufer[go.shape.int]"] {
            assert!(matches!(printable(name), Cow::Borrowed(text) if text == name));
        }
    }

    /// No character that a terminal acts on is left, whatever its encoding (`ESC [`, the C1 CSI, bidi).
    #[test]
    fn what_a_terminal_acts_on_is_replaced() {
        let hostile = "a\u{1b}[31m\r\n\t\u{7f}\u{9b}2J\u{202e}\u{200b}\u{2028}z";
        let safe = printable(hostile);
        assert_eq!(safe, "a\u{fffd}[31m\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}2J\u{fffd}\u{fffd}\u{fffd}z");
        assert!(!safe.chars().any(is_unprintable));
    }

    /// The bound holds for bytes, also where replacing makes the text longer.
    #[test]
    fn broken_utf8_is_replaced_within_the_bound() {
        assert_eq!(printable_bytes(b"a\x1b[2J\nb\xffc", 99), "a\u{fffd}[2J\u{fffd}b\u{fffd}c");
        assert_eq!(printable_bytes(&[0xff; 300], 256).len(), 255);
        assert_eq!(printable_bytes("äää".as_bytes(), 5), "ää");
    }

    /// A cut never splits a character, and is the longest that fits.
    #[test]
    fn truncation_ends_between_characters() {
        assert_eq!(truncated("aéz", 2), "a");
        assert_eq!(truncated("aéz", 3), "aé");
        assert_eq!(truncated("aéz", 99), "aéz");
    }
}
