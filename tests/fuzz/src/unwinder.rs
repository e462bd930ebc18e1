//! Goroutines of a real program on stacks that a fuzzer makes up.

use observer::gobin::source::Source;

use crate::input::Input;
use crate::program::Program;
use crate::world::{DATA, DATA_SIZE, Descriptor, World};

/// Goroutines of one input.
const MAX_GOROUTINES: u64 = 8;
/// Bytes that one takes.
const GOROUTINE: usize = 40;

/// First bytes: program, format, number of goroutines. Then of each: status, reason, whether it is in a system
/// call, scan bit, stack pointer and end of the stack within the data (2 bytes each), program counter, creation
/// and entry, labels. Then the data: stacks.
pub(crate) fn run(programs: &[Program], data: &[u8]) {
    let mut input = Input(data);
    let program = &programs[usize::from(input.u8()) % programs.len()];
    let format = input.u8();
    let count = u64::from(input.u8()) % (MAX_GOROUTINES + 1);
    let mut descriptors = Vec::new();
    for index in 0..count {
        descriptors.extend(descriptor(program, index, &mut Input(input.bytes(GOROUTINE))));
    }
    World::new(program, descriptors, input.0).profile(format);
}

fn descriptor(program: &Program, index: u64, input: &mut Input<'_>) -> Vec<u8> {
    let (status, reason, in_call, scan) = (input.u8(), input.u8(), input.u8() & 1 == 1, input.u8());
    let within = input.u32();
    let (sp, end) = (DATA + u64::from(within & 0xffff), DATA + u64::from(within >> 16));
    let pc = input.u64();
    let mut g = Descriptor::new(program, index, u32::from(status % 12) | u32::from(scan & 1) << 12);
    g.put(|g| g.waitreason, &[reason]);
    g.word(|g| g.stack_lo, DATA - 64);
    g.word(|g| g.stack_hi, end);
    g.word(|g| g.sched_pc, pc);
    g.word(|g| g.sched_sp, sp);
    if in_call {
        g.word(|g| g.syscallpc, pc);
        g.word(|g| g.syscallsp, sp);
    }
    g.word(|g| g.gopc, input.u64());
    g.word(|g| g.startpc, input.u64());
    g.word(|g| g.labels, input.u64());
    g.bytes
}

/// Stacks that are whole: calls of functions from all over the text, with frames as the tables have them.
pub(crate) fn seeds(programs: &[Program]) -> Vec<Vec<u8>> {
    programs
        .iter()
        .enumerate()
        .flat_map(|(number, program)| (0..24).map(move |seed| stack(number, program, seed)))
        .collect()
}

fn stack(number: usize, program: &Program, seed: u64) -> Vec<u8> {
    let (binary, source): (_, &dyn Source) = (&program.binary, &*program.file);
    let module = &binary.module;
    let span = module.text_end - module.text;
    let mut words: Vec<u64> = Vec::new();
    let mut first = None;
    for step in 0..40u64 {
        let pc = module.text + (seed * 7919 + step * 104_729) * 37 % span;
        let Ok(Some(function)) = binary.table.lookup(source, module.text, pc) else { continue };
        let Ok(Some(frame)) = binary.table.stack_delta(source, &function, pc) else { continue };
        if !(0..=1024).contains(&frame) {
            continue;
        }
        match first {
            None => first = Some(pc),
            Some(_) => words.push(pc),
        }
        words.extend(vec![0; frame as usize / 8]);
    }
    words.push(outermost(program));
    let end = (words.len() as u64 * 8 + 64).min(DATA_SIZE - 1) as u16 & !7;
    let mut seed =
        vec![number as u8, seed as u8, 1, [4, 4, 1, 3][seed as usize % 4], 7, u8::from(seed % 4 == 3), 0];
    seed.extend([0, 0]);
    seed.extend(end.to_le_bytes());
    for word in [first.unwrap_or(0), module.text + span / 2, module.text + span / 3, 0] {
        seed.extend(word.to_le_bytes());
    }
    seed.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    seed
}

/// An address in `runtime.goexit`, where every stack ends.
fn outermost(program: &Program) -> u64 {
    let (binary, name) = (&program.binary, "runtime.goexit");
    let wanted = |found: &[u8]| found == name.as_bytes();
    let found = binary.table.functions_by_name(&*program.file, binary.module.text, 0, wanted);
    found.ok().and_then(|found| Some(found.get(name)?.entry + 1)).unwrap_or(0)
}
