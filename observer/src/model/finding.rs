//! What a diagnosis says.

use std::collections::BTreeMap;
use std::sync::Arc;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Something fails now, or soon will.
    Critical,
    /// It costs performance or safety now.
    Warning,
    /// Worth knowing.
    Info,
}

impl Severity {
    /// The severity's name in metrics and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// One fact that a finding rests on.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// A number, in the unit that its key names.
    Number(f64),
    /// A name.
    Text(Arc<str>),
}

impl From<u64> for Fact {
    fn from(number: u64) -> Self {
        Self::Number(number as f64)
    }
}

impl From<u32> for Fact {
    fn from(number: u32) -> Self {
        Self::Number(f64::from(number))
    }
}

impl From<f64> for Fact {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<Arc<str>> for Fact {
    fn from(text: Arc<str>) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Fact {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

/// Facts by name: snake case, with units.
pub type Evidence = BTreeMap<&'static str, Fact>;

/// One diagnosis of one target.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The rule's stable name.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Index into the view's targets.
    pub target: usize,
    /// What is wrong, with the numbers: one sentence without its full stop.
    pub summary: String,
    /// What to do: one or more sentences.
    pub advice: String,
    /// What it rests on.
    pub evidence: Evidence,
}
