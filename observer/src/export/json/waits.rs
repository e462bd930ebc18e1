//! Parks and waits in the JSON of `observer attach`.

use std::borrow::Cow;

use serde::Serialize;

use crate::model::view::{ReasonWaitsView, WaitsView};
use crate::text::printable;

/// How often and for how long goroutines waited in the last minute. Times are absent where nothing was
/// measured, and where they are above the last bound, 69 s.
#[derive(Debug, Serialize)]
pub struct Waits<'a> {
    /// Most parks first.
    pub reasons: Vec<Reason<'a>>,
    /// Half of the goroutines that were made ready ran within this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_queue_p50_seconds: Option<f64>,
    /// 99 of 100 did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_queue_p99_seconds: Option<f64>,
    /// Share of the time in which it was measured.
    pub coverage_ratio: f64,
    /// Longer waits could not be measured.
    pub longest_measured_seconds: f64,
}

/// One wait reason.
#[derive(Debug, Serialize)]
pub struct Reason<'a> {
    /// The runtime's own name.
    pub wait_reason: Cow<'a, str>,
    /// Parks per second.
    pub parks_per_second: f64,
    /// Half of the waits were shorter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_p50_seconds: Option<f64>,
    /// 99 of 100 were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_p99_seconds: Option<f64>,
}

impl<'a> From<&'a WaitsView> for Waits<'a> {
    fn from(waits: &'a WaitsView) -> Self {
        Self {
            reasons: waits.reasons.iter().map(Reason::from).collect(),
            run_queue_p50_seconds: finite(waits.run_queue_p50_seconds),
            run_queue_p99_seconds: finite(waits.run_queue_p99_seconds),
            coverage_ratio: waits.coverage,
            longest_measured_seconds: waits.longest_seconds,
        }
    }
}

impl<'a> From<&'a ReasonWaitsView> for Reason<'a> {
    fn from(reason: &'a ReasonWaitsView) -> Self {
        Self {
            wait_reason: printable(&reason.reason),
            parks_per_second: reason.parks_per_second,
            blocked_p50_seconds: finite(reason.blocked_p50_seconds),
            blocked_p99_seconds: finite(reason.blocked_p99_seconds),
        }
    }
}

/// JSON has no number for infinity.
fn finite(seconds: Option<f64>) -> Option<f64> {
    seconds.filter(|seconds| seconds.is_finite())
}
