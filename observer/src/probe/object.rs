//! The embedded BPF object, fitted to the running kernel.

use std::borrow::Cow;
use std::ops::Range;

use object::{Object, ObjectSection, ObjectSymbol};

use super::ProbeError;

/// Built by observer's build script from `observer-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("OBSERVER_BPF_OBJECT"));

/// First kernel where a tracing program may use a map that allocates when used. Before, loading it
/// writes a warning with a stack trace to the kernel log, which stops a machine with `panic_on_warn`.
///
/// Seen and avoided in the same way by <https://github.com/DataDog/datadog-agent/pull/40998>.
const ALLOCATES_ON_USE: (u32, u32) = (6, 1);

/// Maps that allocate on use, and how many entries they have where they are preallocated: 128 KiB and
/// 90 KiB for each possible CPU, and 5 MiB.
const PREALLOCATED: [(&str, u32); 3] = [("COUNTS", 4096), ("WAITS", 128), ("PARKED", 65_536)];

/// Offset of `max_entries` in a map's definition, `struct bpf_map_def`; `map_flags` follow.
const MAX_ENTRIES: usize = 12;

/// The object for a kernel of this version, and the most callsites that it may count.
pub(super) fn fitted(
    kernel: Option<(u32, u32)>,
    max_callsites: u32,
) -> Result<(Cow<'static, [u8]>, u32), ProbeError> {
    if kernel.is_none_or(|version| version >= ALLOCATES_ON_USE) {
        return Ok((Cow::Borrowed(OBJECT), max_callsites));
    }
    let mut bytes = OBJECT.to_vec();
    for (map, entries) in PREALLOCATED {
        let place = sizes_of(&bytes, map).ok_or(ProbeError::Object("definition of a map"))?;
        let sizes = bytes.get_mut(place).ok_or(ProbeError::Object("sizes of a map"))?;
        let (max_entries, flags) = sizes.split_at_mut(size_of::<u32>());
        max_entries.copy_from_slice(&entries.to_le_bytes());
        flags.fill(0);
    }
    Ok((Cow::Owned(bytes), max_callsites.min(PREALLOCATED[0].1)))
}

/// Where in the file the largest number of entries and the flags of a map are.
fn sizes_of(bytes: &[u8], map: &str) -> Option<Range<usize>> {
    let file = object::File::parse(bytes).ok()?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(map))?;
    let section = file.section_by_index(symbol.section_index()?).ok()?;
    let start = usize::try_from(section.file_range()?.0 + symbol.address()).ok()? + MAX_ENTRIES;
    Some(start..start + 2 * size_of::<u32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a kernel before 6.1 exactly the sizes and the flags of the maps that allocate on use are changed.
    #[test]
    fn old_kernels_get_preallocated_maps() {
        let (fitted, callsites) = fitted(Some((5, 15)), 65_536).unwrap();
        let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let mut restored = fitted.to_vec();
        for (map, entries) in PREALLOCATED {
            let place = sizes_of(OBJECT, map).unwrap();
            assert_eq!(word(OBJECT, place.start + 4), 1, "BPF_F_NO_PREALLOC is 1");
            assert_eq!((word(&fitted, place.start), word(&fitted, place.start + 4)), (entries, 0), "{map}");
            restored[place.clone()].copy_from_slice(&OBJECT[place]);
        }
        assert!(restored == OBJECT, "something else was changed");
        assert_eq!(callsites, 4096);
    }

    /// From 6.1 on, the object is used as it was built.
    #[test]
    fn new_kernels_get_the_object_as_it_is() {
        let (fitted, callsites) = fitted(Some((6, 1)), 65_536).unwrap();
        assert_eq!((fitted.as_ptr(), callsites), (OBJECT.as_ptr(), 65_536));
    }
}
