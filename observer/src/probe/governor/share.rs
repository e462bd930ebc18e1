//! Fair parts of what is too little for all.

/// A part that is wanted a little is given a little more than that: what it does may grow.
pub(super) const ROOM: f64 = 2.0;
/// The least part of one CPU that anybody gets while there is enough.
const LEAST: f64 = 0.0001;

/// Parts of `total`, none larger than `most`: nobody gets more while another who wants it gets less. Each of
/// `demands` is what would be spent at most, infinite if unknown.
pub(super) fn fairly(total: f64, most: f64, demands: &[f64]) -> Vec<f64> {
    if total.is_infinite() {
        return vec![most; demands.len()];
    }
    let wanted: Vec<f64> = demands.iter().map(|demand| (demand * ROOM).max(LEAST).min(most)).collect();
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    let mut parts = vec![0.0; wanted.len()];
    let mut left = total;
    for (done, index) in order.into_iter().enumerate() {
        let part = wanted[index].min(left / (wanted.len() - done) as f64);
        parts[index] = part;
        left -= part;
    }
    // What nobody wants goes to all alike.
    let spare = left.max(0.0) / parts.len().max(1) as f64;
    parts.into_iter().map(|part| (part + spare).min(most)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who wants little gets it; the others get equal parts, and all together get no more than there is.
    #[test]
    fn parts_are_fair() {
        let parts = fairly(0.05, 0.03, &[0.001, f64::INFINITY, 0.2]);
        assert!((parts[0] - 0.002).abs() < 1e-9, "{parts:?}");
        assert!((parts[1] - 0.024).abs() < 1e-9 && parts[1] == parts[2], "{parts:?}");
        assert_eq!(fairly(0.05, 0.01, &[f64::INFINITY; 3]), [0.01; 3], "enough for all");
        assert_eq!(fairly(f64::INFINITY, 0.01, &[0.0, 5.0]), [0.01; 2]);
        assert_eq!(fairly(0.05, 0.01, &[]), [0.0; 0]);
    }

    /// What nobody wants is not kept back.
    #[test]
    fn the_rest_is_shared() {
        let parts = fairly(0.05, 0.04, &[0.0, 0.0]);
        assert!(parts.iter().all(|part| (*part - 0.025).abs() < 1e-9), "{parts:?}");
    }
}
