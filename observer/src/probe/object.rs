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
    use observer_ebpf::abi::Group;

    use super::*;
    use crate::probe::links::program_name;

    /// From this depth on a kernel since 6.13 gives a program's stack to the CPU instead of the thread
    /// (`BPF_PRIV_STACK_MIN_SIZE`, <https://github.com/torvalds/linux/blob/v6.13/kernel/bpf/verifier.c>), after
    /// rounding up to 16. Programs on user probes can be preempted: the next one on the same CPU then writes over
    /// what the first goes on with, and a goroutine is counted at another's callsite.
    const STACK_OF_THE_CPU: i64 = 64;

    /// No probe's program, and none of its functions, uses so much stack that it would share it with other
    /// threads' probes. Only those that log a loss may: the worst of it is a garbled message.
    #[test]
    fn probes_stay_on_the_stack_of_their_thread() {
        let file = object::File::parse(OBJECT).unwrap();
        let mut depths = Vec::new();
        for section in ["uprobe", ".text"] {
            let section = file.section_by_name(section).unwrap();
            let code = section.data().unwrap();
            for symbol in file
                .symbols()
                .filter(|symbol| symbol.section_index() == Some(section.index()) && symbol.size() > 0)
            {
                let start = symbol.address() as usize;
                let code = &code[start..start + symbol.size() as usize];
                depths.push((symbol.name().unwrap(), code.chunks_exact(8).map(depth).max().unwrap()));
            }
        }
        depths.retain(|(name, _)| !name.contains("4loss"));
        for program in Group::ALL.map(program_name) {
            assert!(depths.iter().any(|(name, _)| *name == program), "{program} is missing");
        }
        assert!(depths.iter().any(|(_, depth)| *depth >= 24), "keys are on no stack: {depths:?}");
        assert!(depths.iter().all(|(_, depth)| *depth <= STACK_OF_THE_CPU - 16), "{depths:?}");
    }

    /// How deep an instruction reaches into the stack, whose top is in register 10.
    fn depth(instruction: &[u8]) -> i64 {
        let (operation, registers) = (instruction[0], instruction[1]);
        let offset = i64::from(i16::from_le_bytes(instruction[2..4].try_into().unwrap()));
        let constant = i64::from(i32::from_le_bytes(instruction[4..].try_into().unwrap()));
        match (operation & 7, registers & 15, registers >> 4) {
            // Load through it, and the two kinds of store.
            (1, _, 10) | (2 | 3, 10, _) => -offset,
            // A negative constant is added to a 64-bit register: to nothing else in these programs.
            _ if operation == 0x07 && (-512..0).contains(&constant) => -constant,
            _ => 0,
        }
    }

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
