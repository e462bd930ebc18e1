//! The io controller (blkio in v1): the group's share of block devices.

use super::Gone;
use super::group::{Group, Reader, Value, settle};
use super::hierarchy::Version;
use super::values::{Malformed, keyed, number};

/// Shares of block devices.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Io {
    /// The group's weight against its siblings, on the kernel's own scale: 100 is the default of v2 and of
    /// v1's bfq, 500 that of v1's cfq. `None` = no scheduler here gives weights a meaning, or the controller
    /// isn't enabled for the group: then all groups are equal.
    pub weight: Option<u64>,
    /// The default on that scale.
    pub default_weight: Option<u64>,
}

/// Files that hold the weight, first found first, with their default.
const V1: [(&str, u64); 2] = [("blkio.bfq.weight", 100), ("blkio.weight", 500)];
const V2: [(&str, u64); 2] = [("io.weight", 100), ("io.bfq.weight", 100)];

/// Reads the values of a group.
pub(super) fn read(reader: &mut Reader<'_>, group: Group<'_>) -> Result<Io, Gone> {
    let files = match group.version() {
        Version::V1 => V1,
        Version::V2 => V2,
    };
    for (file, default) in files {
        let weight: Value<u64> = reader.slow(group, 0, file, weight);
        if let Some(weight) = settle(weight)? {
            return Ok(Io { weight: Some(weight), default_weight: Some(default) });
        }
    }
    Ok(Io::default())
}

/// `100`, or `default 100` followed by lines for single devices.
fn weight(text: &str) -> Result<Option<u64>, Malformed> {
    match keyed(text, "default")? {
        Some(weight) => Ok(Some(weight)),
        None => number(text).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both forms, as recorded from 6.18 (v1, bfq) and 6.12 (v2).
    #[test]
    fn reads_weights() {
        assert_eq!(weight("100\n"), Ok(Some(100)));
        assert_eq!(weight("default 250\n8:0 50\n"), Ok(Some(250)));
        assert_eq!(weight("8:0 50\n"), Err(Malformed));
        assert_eq!(weight(""), Err(Malformed));
    }
}
