//! The single definition of every metric. Prometheus text, HELP and TYPE, and `deploy/METRICS.md` derive
//! from [`SECTIONS`].

mod cgroup;
mod goroutines;
mod own;
mod reference;
mod runtime;
mod samples;

use prometheus::TextEncoder;
use prometheus::proto::{MetricFamily, MetricType};

pub use reference::metrics_reference;
pub use samples::Samples;

use crate::model::view::View;

/// One metric: everything there is to know about it.
#[derive(Debug)]
pub struct Metric {
    /// Full name, with its unit and, for counters, `_total`.
    pub name: &'static str,
    /// One or more sentences for HELP and the reference, without the final full stop.
    pub help: &'static str,
    /// Prometheus type.
    pub kind: Kind,
    /// What the series are about, which decides the identity labels.
    pub identity: Identity,
    /// Names of the labels besides identity, in the order in which `read` gives their values.
    pub labels: &'static [&'static str],
    /// Adds the metric's series to the samples.
    pub read: fn(&View, &mut Samples),
}

/// Prometheus type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, apart from restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, sum and count.
    Histogram,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }

    const fn proto(self) -> MetricType {
        match self {
            Self::Counter => MetricType::COUNTER,
            Self::Gauge => MetricType::GAUGE,
            Self::Histogram => MetricType::HISTOGRAM,
        }
    }
}

/// What a metric's series are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// Processes: those with equal labels are one series.
    Process,
    /// Cgroups: those with equal labels are one series.
    Cgroup,
    /// The observer itself.
    Observer,
}

impl Identity {
    /// Names of the identity labels; an empty one is absent from a series.
    #[must_use]
    pub const fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Process => &["namespace", "pod", "container", "unit", "process"],
            Self::Cgroup => &["namespace", "pod", "container", "unit"],
            Self::Observer => &[],
        }
    }
}

/// A group of metrics of one subject.
#[derive(Debug)]
pub struct Section {
    /// Heading in the reference.
    pub title: &'static str,
    /// The metrics, in the order of the reference and of `/metrics`.
    pub metrics: &'static [Metric],
}

/// Every metric.
pub static SECTIONS: [Section; 4] = [
    Section { title: "Goroutines", metrics: goroutines::METRICS },
    Section { title: "Go runtime", metrics: runtime::METRICS },
    Section { title: "Cgroups", metrics: cgroup::METRICS },
    Section { title: "The observer itself", metrics: own::METRICS },
];

/// Every metric, in the order of [`SECTIONS`].
pub fn all() -> impl Iterator<Item = &'static Metric> {
    SECTIONS.iter().flat_map(|section| section.metrics)
}

/// The view in the Prometheus text format. Equal views give equal bytes; a metric without series is left
/// out.
///
/// # Errors
/// When the encoder refuses a metric, which no view can cause.
pub fn expose(view: &View) -> Result<String, prometheus::Error> {
    let encoder = TextEncoder::new();
    let mut text = String::new();
    // One family at a time: all at once take several times the memory of the text.
    for family in all().filter_map(|metric| family(metric, view)) {
        encoder.encode_utf8(&[family], &mut text)?;
    }
    Ok(text)
}

fn family(metric: &'static Metric, view: &View) -> Option<MetricFamily> {
    let mut samples = Samples::new(metric);
    (metric.read)(view, &mut samples);
    let series = samples.into_proto();
    if series.is_empty() {
        return None;
    }
    let mut family = MetricFamily::default();
    family.set_name(metric.name.to_owned());
    family.set_help(metric.help.to_owned());
    family.set_field_type(metric.kind.proto());
    family.set_metric(series);
    Some(family)
}

#[cfg(test)]
mod tests;
