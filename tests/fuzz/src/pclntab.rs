//! A real program with some bytes replaced, mostly where the function table is.

use std::io;
use std::sync::Arc;

use observer::gobin::frames::Frames;
use observer::gobin::places::Places;
use observer::gobin::source::Source;

use crate::counted::examine;
use crate::input::Input;
use crate::program::{Program, read_from};
use crate::random::Random;

/// Bytes of one patch.
const MAX_PATCH: usize = 64;
/// Patches of one input.
const MAX_PATCHES: usize = 32;

/// A program's file, and what stands in it instead.
struct Patched<'a> {
    program: &'a Program,
    patches: Vec<(u64, &'a [u8])>,
}

impl Source for Patched<'_> {
    fn size(&self) -> u64 {
        self.program.file.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.program.file.read_at(offset, buf)?;
        apply(&self.patches, offset, buf);
        Ok(())
    }
}

fn apply(patches: &[(u64, &[u8])], offset: u64, buf: &mut [u8]) {
    for (at, bytes) in patches {
        for (index, byte) in bytes.iter().enumerate() {
            let place = at.wrapping_add(index as u64).wrapping_sub(offset);
            if let Some(place) = usize::try_from(place).ok().and_then(|place| buf.get_mut(place)) {
                *place = *byte;
            }
        }
    }
}

/// A patched file that outlives its input.
struct Owned(Vec<u8>);

impl Source for Owned {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        read_from(&self.0, offset, buf).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// First byte: which program. Then patches: place, offset (4 bytes), length, bytes.
pub(crate) fn run(programs: &[Program], data: &[u8]) {
    let mut input = Input(data);
    let program = &programs[usize::from(input.u8()) % programs.len()];
    let random = &mut Random(u64::from(input.u32()) + 1);
    let mut patches = Vec::new();
    while !input.0.is_empty() && patches.len() < MAX_PATCHES {
        let at = place(program, input.u8(), u64::from(input.u32()));
        let length = usize::from(input.u8()) % (MAX_PATCH + 1);
        patches.push((at, input.bytes(length)));
    }
    let source = Patched { program, patches };
    if let Ok(binary) = examine(&source, random, "patched program") {
        frames(&source, binary, random);
    }
    // What a table says can change behind the analysis's back, where the file is replaced in place.
    frames(&source, program.copy(), random);
}

fn place(program: &Program, kind: u8, offset: u64) -> u64 {
    let module = program.binary.image.offset(program.binary.module.address).unwrap_or(0);
    match kind % 10 {
        0 => offset % 4096,
        1 => program.table.wrapping_add(offset % 128),
        2 => module.wrapping_add(offset % 1024),
        number @ 3..=7 => program.part(u64::from(number) - 3).wrapping_add(offset),
        8 => {
            program.binary.image.section(b".go.buildinfo").map_or(0, |section| section.offset + offset % 4096)
        }
        _ => offset,
    }
}

/// Asks for everything that a profile asks for, at addresses all over the text.
fn frames(source: &Patched<'_>, binary: observer::gobin::GoBinary, random: &mut Random) {
    let mut file = source.program.file.0.clone();
    apply(&source.patches, 0, &mut file);
    let (file, binary) = (Arc::new(Owned(file)), Arc::new(binary));
    let module = &binary.module;
    let span = module.text_end.saturating_sub(module.text).max(1);
    let pcs: Vec<u64> = (0..16).map(|_| module.text.wrapping_add(random.below(span))).collect();
    let mut places = Places::new(binary.clone(), file.clone(), 0);
    let mut frames = Frames::new(binary.clone(), file.clone(), 0);
    for pc in &pcs {
        _ = places.get(*pc);
        _ = frames.creator(*pc);
        _ = frames.entry(*pc);
        // Inlining has a limit.
        assert!(frames.of_stack(&[*pc]).len() <= 65);
    }
    _ = frames.of_stack(&pcs);
}

/// Nothing replaced, and one byte at the start of each place.
pub(crate) fn seeds(programs: &[Program]) -> Vec<Vec<u8>> {
    let numbers = 0..programs.len() as u8;
    let places = (0..10).map(|place| vec![place, 0, 0, 0, 0, 1, 0xff]).chain([Vec::new()]);
    places
        .flat_map(|patch| {
            numbers.clone().map(move |number| [vec![number, 1, 0, 0, 0], patch.clone()].concat())
        })
        .collect()
}
