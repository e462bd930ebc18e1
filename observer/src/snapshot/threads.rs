//! Stacks of goroutines that run, where that can be had without stopping anything: their thread stands still in the
//! kernel all the same, because it waits there (for a page, in a system call that the runtime isn't told of) or
//! because somebody stopped the process.

use super::census::{Goroutine, Status};
use super::fields::Standing;
use super::memory::{Fault, Registers};
use super::stack_pass::Pass;
use super::stacks::Condition;
use crate::gobin::source::le64;

/// Words of the `m` that are read reach no further.
const MAX_OFFSET: u16 = 4096;

impl Pass<'_> {
    /// Unwinds the stack of a goroutine that runs from the registers of its thread. [`Condition::Running`] when the
    /// thread can't be seen to stand still in it meanwhile.
    pub(super) fn running(
        &mut self,
        goroutine: &Goroutine,
        standing: &Standing,
        address: u64,
    ) -> Result<Condition, Fault> {
        self.trace.clear();
        let Some(thread) = self.thread_of(standing.m, address)? else { return Ok(Condition::Running) };
        let Some(registers) = self.memory.blocked_thread(thread) else { return Ok(Condition::Running) };
        let Some(start) = standing.with_registers(&registers) else { return Ok(Condition::Running) };
        let whole = self.walk(&start) == Condition::Whole;
        let (now, still) = (self.descriptor(address)?, self.memory.blocked_thread(thread));
        let unmoved = now.is_some_and(|(now, stands)| {
            now == *goroutine && stands.is_same_place(standing) && now.status == Status::Running
        });
        if !(whole
            && unmoved
            && still == Some(registers)
            && self.thread_of(standing.m, address)? == Some(thread))
        {
            self.trace.clear();
            return Ok(Condition::Running);
        }
        if !registers.in_call {
            // The instruction is under way, where those of other frames are past.
            self.trace.advance();
        }
        Ok(Condition::Whole)
    }

    /// The thread of `m`, which must say that it runs the goroutine at `address`.
    fn thread_of(&self, m: u64, address: u64) -> Result<Option<u64>, Fault> {
        let layout = &self.layout().m;
        let end = layout.procid.max(layout.curg);
        if m == 0 || end > MAX_OFFSET {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::from(end) + 8];
        match self.memory.read(m, &mut bytes) {
            Ok(()) => {}
            Err(Fault::Unmapped(_)) => return Ok(None),
            Err(fault) => return Err(fault),
        }
        let word = |at: u16| le64(&bytes[usize::from(at)..]);
        Ok((word(layout.curg) == address).then(|| word(layout.procid)))
    }
}

impl Standing {
    /// Where a goroutine stands whose thread has these registers: at them if they are on its stack. Else the thread
    /// is on another stack, and the goroutine where it left its own, if it says so.
    fn with_registers(&self, registers: &Registers) -> Option<Self> {
        let own = Self { pc: registers.pc, sp: registers.sp, in_call: false, ..*self };
        if own.is_plausible() {
            return Some(own);
        }
        (self.sp != 0 && !self.in_call && self.is_plausible()).then_some(*self)
    }
}
