//! Trends in few, noisy samples: order statistics, which no single outlier moves.

use crate::model::recent::Timed;

/// The samples of the last `seconds`, if they cover at least `least` seconds.
#[must_use]
pub fn window<T: Timed>(samples: &[T], seconds: f64, least: f64) -> Option<&[T]> {
    let last = samples.last()?.at();
    let first = samples.iter().position(|sample| last - sample.at() <= seconds)?;
    let window = &samples[first..];
    (last - window.first()?.at() >= least).then_some(window)
}

/// By how much a counter grew over the samples; `None` when it is unknown, or went back.
#[must_use]
pub fn growth<T>(samples: &[T], read: impl Fn(&T) -> Option<f64>) -> Option<f64> {
    let growth = read(samples.last()?)? - read(samples.first()?)?;
    (growth >= 0.0).then_some(growth)
}

/// Seconds between the first and the last sample.
#[must_use]
pub fn span<T: Timed>(samples: &[T]) -> f64 {
    match samples {
        [first, .., last] => last.at() - first.at(),
        _ => 0.0,
    }
}

/// A value that grows: see [`rise`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rise {
    /// Median growth per second.
    pub per_second: f64,
    /// From −1 (every later value is smaller) to 1 (every later value is larger): Kendall's tau of value and time.
    pub steadiness: f64,
    /// Growth per second in the second half ÷ that in the first half: far below 1 where growth comes to an end.
    pub persistence: f64,
}

/// The trend of `(seconds, value)` by Theil–Sen and Mann–Kendall; `None` for fewer than four points.
#[must_use]
pub fn rise(points: &[(f64, f64)]) -> Option<Rise> {
    if points.len() < 4 {
        return None;
    }
    let (first, second) = points.split_at(points.len() / 2);
    let (early, late) = (slope(first)?, slope(second)?);
    let persistence = if early > 0.0 { late / early } else { f64::from(u8::from(late > 0.0)) };
    Some(Rise { per_second: slope(points)?, steadiness: tau(points), persistence })
}

fn pairs(points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> {
    points.iter().enumerate().flat_map(move |(index, (at, value))| {
        points[index + 1..].iter().map(move |(later, next)| (later - at, next - value))
    })
}

fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let slopes = pairs(points).filter(|(time, _)| *time > 0.0).map(|(time, change)| change / time);
    let mut slopes: Vec<f64> = slopes.collect();
    slopes.sort_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied()
}

fn tau(points: &[(f64, f64)]) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for (_, change) in pairs(points) {
        sum += if change > 0.0 { 1.0 } else { -f64::from(u8::from(change < 0.0)) };
        count += 1.0;
    }
    sum / f64::max(count, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rise_of(value: impl Fn(f64) -> f64) -> Rise {
        let points: Vec<_> = (0..20).map(|i| (f64::from(i), value(f64::from(i)))).collect();
        rise(&points).expect("a trend")
    }

    /// A steady leak is steady and persists, and one outlier changes neither much.
    #[test]
    fn a_leak_is_steady() {
        let leak = rise_of(|t| 100.0 + 7.0 * t);
        assert_eq!((leak.per_second, leak.steadiness, leak.persistence), (7.0, 1.0, 1.0));
        let outlier = rise_of(|t| if t == 10.0 { 0.0 } else { 100.0 + 7.0 * t });
        assert!((outlier.per_second - 7.0).abs() < 0.5 && outlier.steadiness > 0.8, "{outlier:?}");
    }

    /// A ramp that ends doesn't persist; a load that swings isn't steady; what is constant doesn't rise.
    #[test]
    fn other_shapes_are_told_apart() {
        assert!(rise_of(|t| 1000.0 * (1.0 - (-t / 3.0).exp())).persistence < 0.2);
        assert!(rise_of(|t| 1000.0 + 500.0 * (t * 0.9).sin()).steadiness.abs() < 0.5);
        let flat = rise_of(|_| 5.0);
        assert_eq!((flat.per_second, flat.steadiness, flat.persistence), (0.0, 0.0, 0.0));
        assert_eq!(rise(&[(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]), None);
    }
}
