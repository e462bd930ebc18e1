//! The series of one metric: labels, and how series with equal labels become one.

use std::ops::Range;

use observer_ebpf::abi;

use super::Metric;
use super::write::{self, Bucket};
use crate::model::ledger::OTHER;
use crate::model::view::{CgroupView, Durations, Owner, TargetView, TotalsView};
use crate::model::waits::Spread;

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

/// The series of one metric. Labels are written as they come, and series brought together when all are there: a node
/// has ten thousand of them, and an allocation for each label would be most of the work.
#[derive(Debug)]
pub struct Samples {
    metric: &'static Metric,
    /// The labels of all series, one series behind the other.
    labels: String,
    numbers: Vec<Series<Number>>,
    spreads: Vec<Series<Spread>>,
    histogram: Option<Durations>,
}

/// What was given of one series; another one may have the same labels.
#[derive(Debug)]
struct Series<T> {
    /// Where its labels are.
    labels: Range<usize>,
    value: T,
}

#[derive(Debug, Clone, Copy)]
struct Number {
    value: f64,
    /// Makes one value of two.
    merge: fn(f64, f64) -> f64,
}

impl Samples {
    /// Of a metric without series.
    pub(super) const fn new(metric: &'static Metric) -> Self {
        Self { metric, labels: String::new(), numbers: Vec::new(), spreads: Vec::new(), histogram: None }
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
        self.spreads.push(Series { labels, value: spread.clone() });
    }

    fn merge(&mut self, subject: Subject<'_>, labels: &[&str], value: f64, merge: fn(f64, f64) -> f64) {
        debug_assert_eq!(labels.len(), self.metric.labels.len(), "{}", self.metric.name);
        // A value that is not a number is no knowledge: missing beats wrong.
        if value.is_finite() {
            let labels = self.labels(subject, labels);
            self.numbers.push(Series { labels, value: Number { value, merge } });
        }
    }

    /// Names come from the metric's definition alone, so a series can't have a label that isn't documented.
    fn labels(&mut self, Subject(identity): Subject<'_>, labels: &[&str]) -> Range<usize> {
        let identity = self.metric.identity.labels().iter().zip(identity.map(Option::unwrap_or_default));
        let own = self.metric.labels.iter().zip(labels.iter().copied());
        let start = self.labels.len();
        for (name, value) in identity.chain(own).filter(|(_, value)| !value.is_empty()) {
            if self.labels.len() > start {
                self.labels.push(',');
            }
            write::label(&mut self.labels, name, value);
        }
        start..self.labels.len()
    }

    /// Writes the metric, sorted by labels; nothing if it has no series.
    pub(super) fn write(mut self, text: &mut String) {
        if self.numbers.is_empty() && self.spreads.is_empty() && self.histogram.is_none() {
            return;
        }
        write::header(text, self.metric);
        let labels = &*self.labels;
        unite(labels, &mut self.numbers, |old, new| old.value = (old.merge)(old.value, new.value));
        for series in &self.numbers {
            write::number(text, self.metric.name, &labels[series.labels.clone()], series.value.value);
        }
        if let Some(durations) = &self.histogram {
            write::histogram(text, self.metric.name, "", exact(durations), durations.count, durations.sum);
        }
        unite(labels, &mut self.spreads, |old, new| old.add(new));
        for series in &self.spreads {
            let (labels, spread) = (&labels[series.labels.clone()], &series.value);
            let count = spread.count().round() as u64;
            write::histogram(text, self.metric.name, labels, estimated(spread), count, spread.seconds);
        }
    }
}

/// Sorts by labels, and makes one of those that have equal ones, in the order in which they were given.
fn unite<T>(labels: &str, series: &mut Vec<Series<T>>, merge: impl Fn(&mut T, &T)) {
    series.sort_by(|a, b| labels[a.labels.clone()].cmp(&labels[b.labels.clone()]));
    series.dedup_by(|next, kept| {
        let equal = labels[next.labels.clone()] == labels[kept.labels.clone()];
        if equal {
            merge(&mut kept.value, &next.value);
        }
        equal
    });
}

fn exact(durations: &Durations) -> impl Iterator<Item = Bucket> {
    let buckets = durations.buckets.iter().zip(Durations::BOUNDS);
    buckets.map(|(count, bound)| Bucket { below: *count, bound })
}

/// Every second bucket has a bound of its own, so that the series stay few: four times as far as the one before.
fn estimated(spread: &Spread) -> impl Iterator<Item = Bucket> {
    let mut below = 0.0;
    spread.buckets.iter().enumerate().filter_map(move |(index, count)| {
        below += count;
        let end = abi::Durations::end_ns(index).filter(|_| index % 2 == 0)?;
        Some(Bucket { below: below.round() as u64, bound: end as f64 / 1e9 })
    })
}
