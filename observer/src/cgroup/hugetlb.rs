//! The hugetlb controller: huge pages, each size with a limit of its own.

use std::path::Path;

use super::group::{Group, Reader, Value, settle};
use super::hierarchy::Version;
use super::values::{Malformed, keyed, limit, number};
use super::{Gone, Limit};

/// Huge pages of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct HugePages {
    /// The kernel's name of the size, such as `2MB`.
    pub size: &'static str,
    /// Bytes in one page.
    pub page_bytes: u64,
    /// Effective limit in bytes. The kernel rounds what is written down to whole pages, and shows only that.
    pub limit_bytes: Option<Limit<u64>>,
    /// Bytes in use; without a limit they may be a minute old.
    pub usage_bytes: Option<u64>,
    /// Allocations that the group's limit refused since it was made.
    pub refused: Option<u64>,
}

/// One size of huge pages and the names of its files.
#[derive(Debug)]
pub(super) struct Size {
    name: &'static str,
    kib: u64,
    v1: Names,
    v2: Names,
}

#[derive(Debug)]
struct Names {
    limit: &'static str,
    usage: &'static str,
    refused: &'static str,
}

macro_rules! size {
    ($name:literal, $kib:expr) => {
        Size {
            name: $name,
            kib: $kib,
            v1: Names {
                limit: concat!("hugetlb.", $name, ".limit_in_bytes"),
                usage: concat!("hugetlb.", $name, ".usage_in_bytes"),
                refused: concat!("hugetlb.", $name, ".failcnt"),
            },
            v2: Names {
                limit: concat!("hugetlb.", $name, ".max"),
                usage: concat!("hugetlb.", $name, ".current"),
                refused: concat!("hugetlb.", $name, ".events"),
            },
        }
    };
}

/// The sizes of amd64, and those of arm64 with any base page.
static SIZES: [Size; 7] = [
    size!("64KB", 64),
    size!("2MB", 2 << 10),
    size!("16MB", 16 << 10),
    size!("32MB", 32 << 10),
    size!("512MB", 512 << 10),
    size!("1GB", 1 << 20),
    size!("16GB", 16 << 20),
];

/// From here on a limit means "none": v1 shows the largest number that is a multiple of the page size.
const UNLIMITED: u64 = 1 << 62;

/// The sizes that this kernel has, from `/sys/kernel/mm/hugepages`.
pub(super) fn sizes(folder: &Path) -> Vec<&'static Size> {
    SIZES.iter().filter(|size| folder.join(format!("hugepages-{}kB", size.kib)).exists()).collect()
}

/// Reads the values of a group. A size of which the group has no files is left out.
pub(super) fn read(
    reader: &mut Reader<'_>,
    group: Group<'_>,
    sizes: &[&'static Size],
) -> Result<Vec<HugePages>, Gone> {
    let mut all = Vec::new();
    for size in sizes {
        let names = match group.version() {
            Version::V1 => &size.v1,
            Version::V2 => &size.v2,
        };
        // The root has none of the files, and that is remembered for this one only.
        if settle(reader.slow(group, 0, names.limit, |_| Ok(Some(()))))?.is_none() {
            continue;
        }
        let limit_bytes = settle(reader.effective(group, names.limit, |reader, level| {
            reader.slow(group, level, names.limit, page_limit)
        }))?;
        let parse = |text: &str| number(text).map(Some);
        // Without a limit nobody needs to know at once.
        let usage: Value<u64> = match &limit_bytes {
            Some(_) => reader.get(group, 0, names.usage, parse),
            None => reader.slow(group, 0, names.usage, parse),
        };
        let Some(usage_bytes) = settle(usage)? else { continue };
        let refused = settle(reader.slow(group, 0, names.refused, |text| refused(text, group.version())))?;
        let page_bytes = size.kib << 10;
        all.push(HugePages {
            size: size.name,
            page_bytes,
            limit_bytes,
            usage_bytes: Some(usage_bytes),
            refused,
        });
    }
    Ok(all)
}

fn page_limit(text: &str) -> Result<Option<u64>, Malformed> {
    Ok(limit(text)?.filter(|limit| *limit < UNLIMITED))
}

fn refused(text: &str, version: Version) -> Result<Option<u64>, Malformed> {
    match version {
        Version::V1 => number(text).map(Some),
        Version::V2 => keyed(text, "max"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 MB pages without a limit, as v1 shows them, are no limit of 8 EiB.
    #[test]
    fn knows_unlimited_values() {
        assert_eq!(page_limit("9223372036852678656\n"), Ok(None));
        assert_eq!(page_limit("9223372036854771712\n"), Ok(None));
        assert_eq!(page_limit("max\n"), Ok(None));
        assert_eq!(page_limit("10485760\n"), Ok(Some(10_485_760)));
        assert_eq!(page_limit("0\n"), Ok(Some(0)));
    }
}
