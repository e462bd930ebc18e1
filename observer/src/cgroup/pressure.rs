//! Pressure stall information: how long tasks of a group waited for a resource. v2 only.

use super::Gone;
use super::group::{Group, Reader, settle};
use super::values::{Malformed, number};

/// Time for which tasks waited, since the group was made.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// For a CPU. Being throttled counts.
    pub cpu: Option<Stall>,
    /// For memory: reclaim, swap-in, refaults.
    pub memory: Option<Stall>,
    /// For block devices.
    pub io: Option<Stall>,
}

/// Time in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stall {
    /// At least one task waited (`some`).
    pub waiting_seconds: f64,
    /// All tasks that had something to do waited (`full`); absent for CPUs before Linux 5.13.
    pub stalled_seconds: Option<f64>,
}

/// Reads the values of a group; all absent where the kernel doesn't account for pressure.
pub(super) fn read(reader: &mut Reader<'_>, group: Group<'_>) -> Result<Pressure, Gone> {
    // For memory and devices a task waits only after it has run. For a CPU it may begin to wait while none of the group
    // runs: that is seen some seconds later.
    let mut held_up = |file| settle(reader.stall(group, file, stall));
    Ok(Pressure {
        cpu: held_up("cpu.pressure")?,
        memory: held_up("memory.pressure")?,
        io: held_up("io.pressure")?,
    })
}

fn stall(text: &str) -> Result<Option<Stall>, Malformed> {
    let waiting_seconds = total(text, "some")?.ok_or(Malformed)?;
    Ok(Some(Stall { waiting_seconds, stalled_seconds: total(text, "full")? }))
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=MICROSECONDS`, in seconds.
fn total(text: &str, kind: &str) -> Result<Option<f64>, Malformed> {
    let Some(line) = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' ')) else {
        return Ok(None);
    };
    let total = line.split(' ').find_map(|field| field.strip_prefix("total=")).ok_or(Malformed)?;
    Ok(Some(number(total)? as f64 / 1e6))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts recorded from 6.18, and one of a kernel without `full` for CPUs.
    #[test]
    fn reads_totals() {
        let both = "some avg10=2.28 avg60=2.43 avg300=1.10 total=35049919\n\
                    full avg10=0.32 avg60=1.02 avg300=0.50 total=18935129\n";
        let expected = Stall { waiting_seconds: 35.049_919, stalled_seconds: Some(18.935_129) };
        assert_eq!(stall(both), Ok(Some(expected)));
        let some = both.lines().next().expect("a line");
        assert_eq!(stall(some).map(|stall| stall.and_then(|stall| stall.stalled_seconds)), Ok(None));
    }

    /// Nothing is guessed.
    #[test]
    fn refuses_garbage() {
        for text in ["", "full avg10=0 total=1\n", "some avg10=0\n", "some total=-1\n", "some total=x\n"] {
            assert_eq!(stall(text), Err(Malformed), "{text}");
        }
    }
}
