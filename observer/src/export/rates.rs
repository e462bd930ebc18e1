//! What happened to a cgroup between two views.

use crate::model::view::{CgroupView, CpuView, Throttling, View};

/// CPU rates over the last interval; each is `None` when a value is missing or went back.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct CpuRates {
    /// CPU used, in cores.
    pub(super) used_cores: Option<f64>,
    /// Throttled periods ÷ periods; `None` also when no period passed.
    pub(super) throttled_periods_ratio: Option<f64>,
    /// Seconds throttled per second.
    pub(super) throttled_seconds_per_second: Option<f64>,
}

/// The rates of `cgroup`, which is in `view`.
pub(super) fn cpu_rates(previous: Option<&View>, view: &View, cgroup: &CgroupView) -> CpuRates {
    rates(previous, view, cgroup).unwrap_or_default()
}

fn rates(previous: Option<&View>, view: &View, cgroup: &CgroupView) -> Option<CpuRates> {
    let seconds = view.interval.map(|interval| interval.as_secs_f64()).filter(|seconds| *seconds > 0.0)?;
    let before = previous?.cgroups.iter().find(|before| before.path == cgroup.path)?.cpu.as_ref()?;
    let now = cgroup.cpu.as_ref()?;
    let change = |read: fn(&CpuView) -> Option<f64>| {
        Some(read(now)? - read(before)?).filter(|change| change.is_finite() && *change >= 0.0)
    };
    let periods = change(|cpu| throttling(cpu).map(|t| t.periods as f64)).filter(|periods| *periods > 0.0);
    let throttled = change(|cpu| throttling(cpu).map(|t| t.throttled_periods as f64));
    Some(CpuRates {
        used_cores: change(|cpu| cpu.usage_seconds).map(|used| used / seconds),
        throttled_periods_ratio: throttled.zip(periods).map(|(throttled, periods)| throttled / periods),
        throttled_seconds_per_second: change(|cpu| throttling(cpu).map(|t| t.throttled_seconds))
            .map(|time| time / seconds),
    })
}

/// Of the group whose quota binds; without a quota, of the own group.
pub(super) fn throttling(cpu: &CpuView) -> Option<&Throttling> {
    cpu.binding.as_ref().or(cpu.throttling.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::testdata::{previous_view, view};

    /// Rates are changes over the interval: 125 of 150 periods throttled, 6.75 s in 15 s.
    #[test]
    fn rates_over_one_interval() {
        let view = view();
        let rates = cpu_rates(Some(&previous_view()), &view, &view.cgroups[0]);
        assert_eq!(rates.throttled_periods_ratio, Some(125.0 / 150.0));
        assert_eq!(rates.throttled_seconds_per_second, Some(6.75 / 15.0));
        assert_eq!(rates.used_cores, Some(7.5 / 15.0));
    }

    /// Without a view before, after a counter went back, and with no period passed there is no rate.
    #[test]
    fn no_rate_without_two_readings() {
        let view = view();
        assert_eq!(cpu_rates(None, &view, &view.cgroups[0]), CpuRates::default());
        let mut reset = previous_view();
        reset.cgroups[0].cpu.as_mut().unwrap().usage_seconds = Some(f64::MAX);
        assert_eq!(cpu_rates(Some(&reset), &view, &view.cgroups[0]).used_cores, None);
        let rates = cpu_rates(Some(&previous_view()), &view, &view.cgroups[1]);
        assert_eq!(rates.throttled_periods_ratio, None);
    }
}
