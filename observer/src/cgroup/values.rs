//! Numbers in the text of control files.

/// The text isn't what the kernel writes into that file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// From here on a v1 limit means "none": the kernel rounds `i64::MAX` down to a page of up to 1 MiB.
const V1_UNLIMITED: u64 = i64::MAX as u64 & !0xf_ffff;

/// A file that holds one unsigned number.
pub(super) fn number(text: &str) -> Result<u64, Malformed> {
    digits(text.trim_end())?.ok_or(Malformed)
}

/// A file that holds one limit. `None` = unlimited: `max`, v1's largest value, or more than 64 bits.
pub(super) fn limit(text: &str) -> Result<Option<u64>, Malformed> {
    match text.trim_end() {
        "max" => Ok(None),
        value => Ok(digits(value)?.filter(|&value| value < V1_UNLIMITED)),
    }
}

/// The number behind `key` in a file of `key value` lines; `None` when there is no such line.
pub(super) fn keyed(text: &str, key: &str) -> Result<Option<u64>, Malformed> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    value.map(number).transpose()
}

/// Decimal digits; `None` when they don't fit 64 bits.
fn digits(text: &str) -> Result<Option<u64>, Malformed> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Malformed);
    }
    Ok(text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way in which kernels and architectures write "no limit".
    #[test]
    fn knows_unlimited_values() {
        for text in [
            "max\n",
            "9223372036854771712\n",
            "9223372036854710272\n",
            "9223372036854775807\n",
            "18446744073709551615\n",
            "99999999999999999999999999\n",
        ] {
            assert_eq!(limit(text), Ok(None), "{text}");
        }
        assert_eq!(limit("123457536\n"), Ok(Some(123_457_536)));
        assert_eq!(limit("0\n"), Ok(Some(0)));
    }

    /// Anything else is refused rather than guessed.
    #[test]
    fn refuses_garbage() {
        for text in ["", "\n", "-1\n", "+5\n", "12x\n", "1 2\n", "0x10\n", "maximum\n", "1e3\n", "٣\n"] {
            assert_eq!(limit(text), Err(Malformed), "{text}");
            assert_eq!(number(text), Err(Malformed), "{text}");
        }
        assert_eq!(number("18446744073709551616\n"), Err(Malformed));
    }

    /// A key is matched whole, and a missing one is not an error.
    #[test]
    fn finds_keys() {
        let text = "nr_periods_x 1\nnr_periods 7\nbad x\n";
        assert_eq!(keyed(text, "nr_periods"), Ok(Some(7)));
        assert_eq!(keyed(text, "nr"), Ok(None));
        assert_eq!(keyed(text, "bad"), Err(Malformed));
    }
}
