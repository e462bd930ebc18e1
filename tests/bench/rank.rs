//! Whether figures are larger than others by more than chance.

/// How often chance alone would divide all these figures so that `observed` stand at least as high among them as they
/// do: the exact one-sided rank-sum test (Mann and Whitney, 1947), with mean ranks for equal figures. Below 0.05 one
/// says that they are larger. Takes time that is exponential in the number of figures; meant for a dozen.
pub(crate) fn chance(alone: &[f64], observed: &[f64]) -> f64 {
    let all = [alone, observed].concat();
    let ranks: Vec<f64> = all.iter().map(|figure| rank(*figure, &all)).collect();
    let seen: f64 = ranks[alone.len()..].iter().sum();
    let (mut ways, mut as_high) = (0u32, 0u32);
    for chosen in 0u32..1 << all.len() {
        if chosen.count_ones() as usize != observed.len() {
            continue;
        }
        let sum: f64 =
            (0..all.len()).filter(|index| chosen >> index & 1 == 1).map(|index| ranks[index]).sum();
        ways += 1;
        as_high += u32::from(sum >= seen);
    }
    f64::from(as_high) / f64::from(ways)
}

/// The place among all when sorted, from 1 on; of equal ones the mean. Multiples of a half, so that sums are exact.
fn rank(figure: f64, all: &[f64]) -> f64 {
    let smaller = all.iter().filter(|other| **other < figure).count();
    let equal = all.iter().filter(|other| **other == figure).count();
    smaller as f64 + (equal as f64 + 1.0) / 2.0
}

#[cfg(test)]
mod tests {
    use super::chance;

    /// Two sets that don't overlap: one way of all there are. Both ends, and what is the same.
    #[test]
    fn chances_are_exact() {
        let (low, high) = ([1.0, 2.0, 3.0], [4.0, 5.0]);
        assert!((chance(&low, &high) - 0.1).abs() < 1e-12);
        assert!((chance(&high, &low) - 1.0).abs() < 1e-12);
        assert!((chance(&[7.0; 3], &[7.0; 2]) - 1.0).abs() < 1e-12);
    }

    /// One round that the machine's neighbours took says nothing, and a small shift of all rounds does.
    #[test]
    fn outliers_don_t_decide() {
        let alone = [100.0, 101.0, 102.0, 103.0, 104.0, 105.0];
        assert!(chance(&alone, &[100.5, 101.5, 102.5, 103.5, 9000.0]) > 0.2);
        assert!(chance(&alone, &[104.5, 105.5, 106.5, 107.5, 108.5]) < 0.01);
    }
}
