//! The cpuset controller: which CPUs a group may use.

use super::Gone;
use super::group::{Group, Reader, settle};
use super::hierarchy::Version;
use super::values::Malformed;

/// More CPUs than this are none that Linux supports.
const MAX_CPUS: u64 = 1 << 16;

/// How many CPUs the group may use now, after what its ancestors allow and which are online.
pub(super) fn read(reader: &mut Reader<'_>, group: Group<'_>) -> Result<Option<u32>, Gone> {
    let file = match group.version() {
        Version::V1 => "cpuset.effective_cpus",
        Version::V2 => "cpuset.cpus.effective",
    };
    // A v2 group without the controller uses the CPUs of the nearest ancestor that has it.
    settle(reader.nearest(group, |reader, level| reader.slow(group, level, file, count)))
}

/// `0-3,8,10-11`: how many these are. `None` for an empty list, as the kernel shows for a group that may use
/// none of its own.
fn count(text: &str) -> Result<Option<u32>, Malformed> {
    let text = text.trim_end();
    if text.is_empty() {
        return Ok(None);
    }
    let mut total = 0;
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (super::values::number(first)?, super::values::number(last)?);
        if first > last || last >= MAX_CPUS {
            return Err(Malformed);
        }
        total += last - first + 1;
    }
    if total > MAX_CPUS { Err(Malformed) } else { Ok(Some(total as u32)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists as the kernel writes them, and nothing else.
    #[test]
    fn counts_lists() {
        for (text, expected) in [
            ("0\n", Ok(Some(1))),
            ("0-1\n", Ok(Some(2))),
            ("0-3,8,10-11\n", Ok(Some(7))),
            ("\n", Ok(None)),
            ("3-1\n", Err(Malformed)),
            ("0-99999999\n", Err(Malformed)),
            ("0,\n", Err(Malformed)),
            ("a-b\n", Err(Malformed)),
        ] {
            assert_eq!(count(text), expected, "{text}");
        }
    }
}
