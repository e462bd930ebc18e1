//! What leaves the observer: metrics, HTTP, JSON and tables. All of it is read from a
//! [`View`](crate::model::view::View) and nothing else.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

pub mod doctor;
pub mod http;
pub mod json;
pub mod metrics;
pub mod profile;
mod rates;
pub mod settings;
pub mod text;

use crate::model::view::{CallsiteView, CgroupView, TargetView, View};
use crate::text::printable;

/// The callsites, the fastest growing first; of equal growth the one with more goroutines.
fn most_growing(callsites: &[CallsiteView]) -> Vec<&CallsiteView> {
    let mut sorted: Vec<_> = callsites.iter().collect();
    sorted.sort_by(|a, b| by_growth(a, b));
    sorted
}

fn by_growth(a: &CallsiteView, b: &CallsiteView) -> Ordering {
    let growth = |callsite: &CallsiteView| callsite.growth_per_second.unwrap_or_default();
    growth(b)
        .total_cmp(&growth(a))
        .then_with(|| b.live.cmp(&a.live))
        .then_with(|| (&a.created_by, &a.entry, a.line).cmp(&(&b.created_by, &b.entry, b.line)))
}

fn cgroup_of<'a>(view: &'a View, target: &TargetView) -> Option<&'a CgroupView> {
    view.cgroups.get(target.cgroup?)
}

/// `namespace/pod/container`, or the unit, fit to show; `None` when nobody is known.
fn owner(target: &TargetView) -> Option<String> {
    let owner = &target.owner;
    let names = [&owner.namespace, &owner.pod, &owner.container];
    let parts: Vec<_> = names.into_iter().flatten().map(|name| printable(name)).collect();
    if parts.is_empty() {
        return owner.unit.as_deref().map(|unit| printable(unit).into_owned());
    }
    Some(parts.join("/"))
}

/// A name fit to show.
fn shown(text: &Option<Arc<str>>) -> Option<Cow<'_, str>> {
    text.as_deref().map(printable)
}

#[cfg(test)]
mod testdata;
