//! Reads the Prometheus text format.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Metric name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

/// One scrape.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// In the order of the text.
    pub all: Vec<Sample>,
    /// The text itself.
    pub text: String,
}

impl Samples {
    /// Reads a scrape; a series that comes twice is an error, as it is for Prometheus.
    ///
    /// # Errors
    /// When the text is malformed.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let all = lines.map(sample).collect::<Result<Vec<_>>>()?;
        let mut seen = std::collections::BTreeSet::new();
        for one in &all {
            ensure!(seen.insert((&one.name, &one.labels)), "twice in one scrape: {one:?}");
        }
        Ok(Self { all, text: text.to_owned() })
    }

    /// Samples of a metric that have all the given labels.
    pub fn of<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        let has = |sample: &Sample, (key, value): &(&str, &str)| {
            sample.labels.get(*key).is_some_and(|have| have == value)
        };
        self.all
            .iter()
            .filter(move |sample| sample.name == name && labels.iter().all(|label| has(sample, label)))
    }

    /// Sum over the samples of a metric that have all the given labels; `None` when there is no such sample.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.of(name, labels).map(|sample| sample.value).reduce(|a, b| a + b)
    }
}

fn sample(line: &str) -> Result<Sample> {
    let malformed = || format!("malformed sample: {line}");
    let end = line.find(['{', ' ']).with_context(malformed)?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inner) => labels(inner).with_context(malformed)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.split_whitespace().next().with_context(malformed)?;
    Ok(Sample { name: name.to_owned(), labels, value: value.parse().with_context(malformed)? })
}

/// Reads labels up to the closing brace, and returns what comes behind it.
fn labels(mut text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        text = text.trim_start_matches(',');
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (key, rest) = text.split_once("=\"")?;
        let (value, rest) = quoted(rest)?;
        labels.insert(key.to_owned(), value);
        text = rest;
    }
}

/// Reads a label value up to its closing quote, and returns what comes behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Labels with escapes, braces and commas in their values are read as they were meant.
    #[test]
    fn reads_escaped_labels() {
        let samples = Samples::parse("# HELP m x\nm{a=\"q\\\"},\\\\\\n\",b=\"{2}\"} 1.5 7\nn 2\n").unwrap();
        assert_eq!(samples.all[0].labels["a"], "q\"},\\\n");
        assert_eq!(samples.sum("m", &[("b", "{2}")]), Some(1.5));
        assert_eq!(samples.sum("n", &[]), Some(2.0));
        assert_eq!(samples.sum("n", &[("b", "x")]), None);
    }

    /// The same series twice is refused, in whatever order its labels come.
    #[test]
    fn refuses_duplicates() {
        assert!(Samples::parse("m{a=\"1\",b=\"2\"} 1\nm{b=\"2\",a=\"1\"} 2\n").is_err());
    }
}
