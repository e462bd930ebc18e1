//! From a program counter and a stack pointer to the whole stack, by the tables that the runtime itself
//! unwinds with. Frame pointers would not do: some of the runtime's own functions don't keep them.

use crate::gobin::places::Place;

/// Functions of one stack that are kept: the innermost ones and, so that it is seen where a goroutine came
/// from, the outermost ones.
pub const MAX_KEPT: usize = 1000;
/// Functions that are kept before some are left out.
pub const INNER: usize = 950;
/// The most functions of one stack that are counted: the runtime's limit of 1 GB holds so many.
const MAX_FRAMES: u64 = 32 << 20;

/// The functions on a stack.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Trace {
    /// Their program counters, the innermost first.
    pub(super) pcs: Vec<u64>,
    /// How many functions were left out behind the first [`INNER`].
    pub(super) elided: u64,
}

impl Trace {
    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.pcs.clear();
        self.elided = 0;
    }

    /// Makes the innermost program counter one behind the first byte of its instruction, as those of callers are.
    pub(super) fn advance(&mut self) {
        if let Some(pc) = self.pcs.first_mut() {
            *pc = pc.saturating_add(1);
        }
    }

    fn push(&mut self, pc: u64) {
        if self.pcs.len() == MAX_KEPT {
            self.pcs.remove(INNER);
            self.elided += 1;
        }
        self.pcs.push(pc);
    }
}

/// What an unwinder needs of the outside.
pub(super) trait Stack {
    /// What is known of a program counter.
    fn place(&mut self, pc: u64) -> Option<Place>;
    /// The word at an address of this stack. Addresses only ascend.
    fn word(&mut self, address: u64) -> Option<u64>;
}

/// Follows a stack from `pc` and `sp` to its outermost function. Returns whether it got there.
pub(super) fn unwind(stack: &mut impl Stack, mut pc: u64, mut sp: u64, trace: &mut Trace) -> bool {
    trace.clear();
    if pc == 0 {
        // A nil function was called: it has no frame, only a return address.
        let Some(caller) = stack.word(sp) else { return false };
        (pc, sp) = (caller, sp.wrapping_add(8));
    }
    while trace.elided < MAX_FRAMES {
        let Some(place) = stack.place(pc) else { return false };
        trace.push(pc);
        if place.is_top {
            return true;
        }
        let (Some(frame), false) = (place.frame, place.switches_stack) else { return false };
        let Some(slot) = sp.checked_add(frame) else { return false };
        let Some(caller) = stack.word(slot) else { return false };
        // Each step ascends by at least a word, so that no stack is a circle.
        (pc, sp) = (caller, slot + 8);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{INNER, MAX_KEPT, Stack, Trace, unwind};
    use crate::gobin::kind::Kind;
    use crate::gobin::places::Place;

    /// Functions are named by their program counters: 1 is the outermost one, 2 calls itself with a frame of
    /// 16 bytes, 3 switches stacks, 4 is foreign.
    struct Fake {
        words: Vec<u64>,
    }

    impl Stack for Fake {
        fn place(&mut self, pc: u64) -> Option<Place> {
            (1..=4).contains(&pc).then_some(Place {
                entry: 0,
                frame: (pc != 4).then_some(16),
                kind: Kind::Ordinary,
                is_top: pc == 1,
                switches_stack: pc == 3,
            })
        }

        fn word(&mut self, address: u64) -> Option<u64> {
            assert!(address.is_multiple_of(8));
            self.words.get((address / 8) as usize).copied()
        }
    }

    fn walk(words: Vec<u64>, pc: u64) -> (bool, Trace) {
        let mut trace = Trace { pcs: vec![9], elided: 9 };
        let whole = unwind(&mut Fake { words }, pc, 0, &mut trace);
        (whole, trace)
    }

    /// A stack is followed to the function that nothing called; a nil function has no frame of its own.
    #[test]
    fn ends_at_the_outermost_function() {
        assert_eq!(walk(vec![0, 0, 2, 0, 0, 1], 2), (true, Trace { pcs: vec![2, 2, 1], elided: 0 }));
        assert_eq!(walk(vec![1], 0), (true, Trace { pcs: vec![1], elided: 0 }));
    }

    /// What can't be followed ends the stack there, and says so.
    #[test]
    fn stops_where_it_cannot_go_on() {
        for (pc, kept) in [(3, vec![3]), (4, vec![4]), (5, vec![]), (2, vec![2])] {
            assert_eq!(walk(vec![0, 0, 7], pc), (false, Trace { pcs: kept, elided: 0 }), "{pc}");
        }
    }

    /// Of a deep stack both ends are kept and the middle is counted.
    #[test]
    fn the_middle_of_a_deep_stack_is_left_out() {
        let depth = 5000;
        let mut words = [0, 0, 2].repeat(depth);
        words.extend([0, 0, 1]);
        let (whole, trace) = walk(words, 2);
        assert!(whole);
        assert_eq!(trace.pcs.len(), MAX_KEPT);
        assert_eq!(trace.pcs.len() as u64 + trace.elided, depth as u64 + 2);
        assert_eq!((trace.pcs[INNER], trace.pcs[MAX_KEPT - 1]), (2, 1));
    }
}
