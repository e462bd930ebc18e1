//! The Prometheus text format (version 0.0.4).

use std::fmt::Write;

use super::Metric;
use crate::text::{printable, truncated};

/// Longest label value in bytes. Longer ones are cut, and series that become equal so are one.
const MAX_LABEL_BYTES: usize = 256;

/// One bucket of a histogram.
pub(super) struct Bucket {
    /// How much is at or below the bound.
    pub(super) below: u64,
    /// Upper bound in the metric's unit.
    pub(super) bound: f64,
}

/// HELP and TYPE.
pub(super) fn header(text: &mut String, metric: &Metric) {
    let Metric { name, help, kind, .. } = metric;
    text.extend(["# HELP ", name, " "]);
    help.chars().for_each(|c| escaped(text, c, false));
    text.extend(["\n# TYPE ", name, " ", kind.name(), "\n"]);
}

/// One label, without what is between labels.
pub(super) fn label(text: &mut String, name: &str, value: &str) {
    text.extend([name, "=\""]);
    // Nearly every name is such a one, and is written once for each of its series.
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    if value.len() <= MAX_LABEL_BYTES && value.bytes().all(plain) {
        text.push_str(value);
    } else {
        label_value(value).chars().for_each(|c| escaped(text, c, true));
    }
    text.push('"');
}

/// A label value that is safe to show and bounded, whatever the target gave.
pub(super) fn label_value(text: &str) -> String {
    truncated(&printable(truncated(text, MAX_LABEL_BYTES)), MAX_LABEL_BYTES).to_owned()
}

fn escaped(text: &mut String, c: char, quoted: bool) {
    match c {
        '\n' => text.push_str("\\n"),
        '\\' => text.push_str("\\\\"),
        '"' if quoted => text.push_str("\\\""),
        c => text.push(c),
    }
}

/// A series that is one number.
pub(super) fn number(text: &mut String, name: &str, labels: &str, value: f64) {
    begin(text, [name, ""], labels);
    end(text, value);
}

/// The series of one histogram.
pub(super) fn histogram(
    text: &mut String,
    name: &str,
    labels: &str,
    buckets: impl Iterator<Item = Bucket>,
    count: u64,
    sum: f64,
) {
    let between = if labels.is_empty() { "" } else { "," };
    for Bucket { below, bound } in buckets {
        text.extend([name, "_bucket{", labels, between, "le=\""]);
        // Writing to a string can't fail, here and below.
        _ = write!(text, "{bound}\"}} ");
        end(text, below);
    }
    text.extend([name, "_bucket{", labels, between, "le=\"+Inf\"} "]);
    end(text, count);
    begin(text, [name, "_sum"], labels);
    end(text, sum);
    begin(text, [name, "_count"], labels);
    end(text, count);
}

fn begin(text: &mut String, name: [&str; 2], labels: &str) {
    text.extend(name);
    if !labels.is_empty() {
        text.extend(["{", labels, "}"]);
    }
    text.push(' ');
}

fn end(text: &mut String, value: impl std::fmt::Display) {
    _ = writeln!(text, "{value}");
}
