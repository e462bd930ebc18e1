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

/// Most callsites where the map is preallocated: 64 KiB for each possible CPU.
const PREALLOCATED_CALLSITES: u32 = 4096;

/// Offset of `map_flags` in the map's definition, `struct bpf_map_def`.
const MAP_FLAGS: usize = 16;

/// The object for a kernel of this version, and the most callsites that it may count.
pub(super) fn fitted(
    kernel: Option<(u32, u32)>,
    max_callsites: u32,
) -> Result<(Cow<'static, [u8]>, u32), ProbeError> {
    if kernel.is_none_or(|version| version >= ALLOCATES_ON_USE) {
        return Ok((Cow::Borrowed(OBJECT), max_callsites));
    }
    let mut bytes = OBJECT.to_vec();
    let flags = flags_of_counts(&bytes).ok_or(ProbeError::Object("definition of the map COUNTS"))?;
    bytes.get_mut(flags).ok_or(ProbeError::Object("flags of the map COUNTS"))?.fill(0);
    Ok((Cow::Owned(bytes), max_callsites.min(PREALLOCATED_CALLSITES)))
}

/// Where in the file the flags of the map `COUNTS` are.
fn flags_of_counts(bytes: &[u8]) -> Option<Range<usize>> {
    let file = object::File::parse(bytes).ok()?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok("COUNTS"))?;
    let section = file.section_by_index(symbol.section_index()?).ok()?;
    let start = usize::try_from(section.file_range()?.0 + symbol.address()).ok()? + MAP_FLAGS;
    Some(start..start + size_of::<u32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From this depth on a kernel since 6.13 gives a program's stack to the CPU instead of the thread
    /// (`BPF_PRIV_STACK_MIN_SIZE`, <https://github.com/torvalds/linux/blob/v6.13/kernel/bpf/verifier.c>), after
    /// rounding up to 16. Programs on user probes can be preempted: the next one on the same CPU then writes over
    /// what the first goes on with, and a goroutine is counted at another's callsite.
    const STACK_OF_THE_CPU: i64 = 64;

    /// No probe's program uses so much stack that it would share it with other threads' probes.
    #[test]
    fn probes_stay_on_the_stack_of_their_thread() {
        let file = object::File::parse(OBJECT).unwrap();
        let code = file.section_by_name("uprobe").unwrap();
        let deepest = code.data().unwrap().chunks_exact(8).map(depth).max().unwrap();
        assert!((24..=STACK_OF_THE_CPU - 16).contains(&deepest), "{deepest} bytes of stack");
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

    /// On a kernel before 6.1 exactly the flag that makes `COUNTS` allocate on use is cleared.
    #[test]
    fn old_kernels_get_a_preallocated_map() {
        let (fitted, callsites) = fitted(Some((5, 15)), 65_536).unwrap();
        let changed: Vec<(u8, u8)> =
            OBJECT.iter().zip(fitted.iter()).filter(|(a, b)| a != b).map(|(a, b)| (*a, *b)).collect();
        assert_eq!(changed, [(1, 0)], "BPF_F_NO_PREALLOC is 1");
        assert_eq!(callsites, PREALLOCATED_CALLSITES);
    }

    /// From 6.1 on, the object is used as it was built.
    #[test]
    fn new_kernels_get_the_object_as_it_is() {
        let (fitted, callsites) = fitted(Some((6, 1)), 65_536).unwrap();
        assert_eq!((fitted.as_ptr(), callsites), (OBJECT.as_ptr(), 65_536));
    }
}
