//! The series of one metric: labels, and how series with equal labels become one.

use std::collections::BTreeMap;

use observer_ebpf::abi;
use prometheus::proto;

use super::{Kind, Metric};
use crate::model::ledger::OTHER;
use crate::model::view::{CgroupView, Durations, Owner, TargetView, TotalsView};
use crate::model::waits::Spread;
use crate::text::{printable, truncated};

/// Longest label value in bytes. Longer ones are cut, and series that become equal so are one.
const MAX_LABEL_BYTES: usize = 256;

/// Whom a sample is about: the values of the identity labels, in the order of
/// [`Identity::labels`](super::Identity::labels).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Subject<'a>([Option<&'a str>; 5]);

impl Subject<'_> {
    /// The observer, which has no identity labels.
    pub(super) const OBSERVER: Self = Self([None; 5]);
    /// Cgroups of workloads without series of their own, as [`Owner::other`].
    const OTHER_CGROUPS: Self = Self([None, None, None, Some(OTHER), None]);
    /// Processes of such workloads, as [`Workload::other`](crate::model::ledger::Workload::other).
    const OTHER_PROCESSES: Self = Self([None, None, None, Some(OTHER), Some(OTHER)]);
}

impl<'a> Subject<'a> {
    fn of(owner: &'a Owner, process: Option<&'a str>) -> Self {
        let [namespace, pod, container, unit] =
            [&owner.namespace, &owner.pod, &owner.container, &owner.unit].map(Option::as_deref);
        Self([namespace, pod, container, unit, process])
    }
}

impl<'a> From<&'a TargetView> for Subject<'a> {
    fn from(target: &'a TargetView) -> Self {
        if target.folded { Self::OTHER_PROCESSES } else { Self::of(&target.owner, Some(&target.process)) }
    }
}

impl<'a> From<&'a TotalsView> for Subject<'a> {
    fn from(totals: &'a TotalsView) -> Self {
        Self::of(&totals.owner, Some(&totals.process))
    }
}

impl<'a> From<&'a CgroupView> for Subject<'a> {
    fn from(cgroup: &'a CgroupView) -> Self {
        if cgroup.folded { Self::OTHER_CGROUPS } else { Self::of(&cgroup.owner, None) }
    }
}

type Labels = Vec<(&'static str, String)>;

/// The series of one metric, sorted by their labels.
#[derive(Debug)]
pub struct Samples {
    metric: &'static Metric,
    numbers: BTreeMap<Labels, f64>,
    histogram: Option<Durations>,
    spreads: BTreeMap<Labels, Spread>,
}

impl Samples {
    pub(super) fn new(metric: &'static Metric) -> Self {
        Self { metric, numbers: BTreeMap::new(), histogram: None, spreads: BTreeMap::new() }
    }

    /// Adds to what the series has.
    pub(super) fn sum<'a>(&mut self, subject: impl Into<Subject<'a>>, labels: &[&str], value: f64) {
        self.merge(subject.into(), labels, value, |old, new| old + new);
    }

    /// Keeps the largest value of the series.
    pub(super) fn max<'a>(&mut self, subject: impl Into<Subject<'a>>, labels: &[&str], value: f64) {
        self.merge(subject.into(), labels, value, f64::max);
    }

    /// Keeps the smallest value of the series.
    pub(super) fn min<'a>(&mut self, subject: impl Into<Subject<'a>>, labels: &[&str], value: f64) {
        self.merge(subject.into(), labels, value, f64::min);
    }

    /// The series exists: its value is 1, however often it is given.
    pub(super) fn info<'a>(&mut self, subject: impl Into<Subject<'a>>, labels: &[&str]) {
        self.max(subject, labels, 1.0);
    }

    /// The observer's durations: the only histogram series of the metric.
    pub(super) fn histogram(&mut self, durations: &Durations) {
        self.histogram = Some(durations.clone());
    }

    /// Adds estimated durations to the series's histogram.
    pub(super) fn spread<'a>(&mut self, subject: impl Into<Subject<'a>>, labels: &[&str], spread: &Spread) {
        let labels = self.labels(subject.into(), labels);
        self.spreads.entry(labels).or_default().add(spread);
    }

    fn merge(&mut self, subject: Subject<'_>, labels: &[&str], value: f64, merge: fn(f64, f64) -> f64) {
        debug_assert_eq!(labels.len(), self.metric.labels.len(), "{}", self.metric.name);
        // A value that is not a number is no knowledge: missing beats wrong.
        if !value.is_finite() {
            return;
        }
        self.numbers
            .entry(self.labels(subject, labels))
            .and_modify(|old| *old = merge(*old, value))
            .or_insert(value);
    }

    /// Names come from the metric's definition alone, so a series can't have a label that isn't documented.
    fn labels(&self, Subject(identity): Subject<'_>, labels: &[&str]) -> Labels {
        let identity = self.metric.identity.labels().iter().zip(identity.map(Option::unwrap_or_default));
        let own = self.metric.labels.iter().zip(labels.iter().copied());
        identity
            .chain(own)
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (*name, label_value(value)))
            .collect()
    }

    pub(super) fn into_proto(self) -> Vec<proto::Metric> {
        let kind = self.metric.kind;
        let numbers = self.numbers.into_iter().map(|(labels, value)| number(kind, labels, value));
        let spreads = self.spreads.into_iter().map(|(labels, spread)| estimated(labels, &spread));
        numbers.chain(self.histogram.as_ref().map(histogram)).chain(spreads).collect()
    }
}

/// A label value that is safe to show and bounded, whatever the target gave.
pub(super) fn label_value(text: &str) -> String {
    truncated(&printable(truncated(text, MAX_LABEL_BYTES)), MAX_LABEL_BYTES).to_owned()
}

fn number(kind: Kind, labels: Labels, value: f64) -> proto::Metric {
    let mut metric = proto::Metric::from_label(labels.into_iter().map(pair).collect());
    if kind == Kind::Counter {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

fn pair((name, value): (&'static str, String)) -> proto::LabelPair {
    let mut pair = proto::LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value);
    pair
}

/// Every second bucket has a bound of its own, so that the series stay few: four times as far as the one before.
fn estimated(labels: Labels, spread: &Spread) -> proto::Metric {
    let mut below = 0.0;
    let mut buckets = Vec::new();
    for (index, count) in spread.buckets.iter().enumerate() {
        below += count;
        if let (0, Some(end)) = (index % 2, abi::Durations::end_ns(index)) {
            let mut bucket = proto::Bucket::default();
            bucket.set_cumulative_count(below.round() as u64);
            bucket.set_upper_bound(end as f64 / 1e9);
            buckets.push(bucket);
        }
    }
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(below.round() as u64);
    histogram.set_sample_sum(spread.seconds);
    let mut metric = proto::Metric::from_label(labels.into_iter().map(pair).collect());
    metric.set_histogram(histogram);
    metric
}

fn histogram(durations: &Durations) -> proto::Metric {
    let buckets = durations.buckets.iter().zip(Durations::BOUNDS).map(|(count, bound)| {
        let mut bucket = proto::Bucket::default();
        bucket.set_cumulative_count(*count);
        bucket.set_upper_bound(bound);
        bucket
    });
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(durations.count);
    histogram.set_sample_sum(durations.sum);
    let mut metric = proto::Metric::default();
    metric.set_histogram(histogram);
    metric
}
