//! Labels of one goroutine: a slice or a map that a fuzzer makes up.

use observer::gobin::source::le64;

use crate::input::Input;
use crate::program::Program;
use crate::world::{DATA, Descriptor, World};

const WAITING: u32 = 4;

/// First bytes: program and format. Then the data; words of it that are small and odd point into it.
pub(crate) fn run(programs: &[Program], data: &[u8]) {
    let mut input = Input(data);
    let program = &programs[usize::from(input.u8()) % programs.len()];
    let format = input.u8();
    let words: Vec<u8> = input.0.chunks(8).flat_map(|chunk| address(chunk)).collect();
    let mut g = Descriptor::new(program, 0, WAITING);
    g.word(|g| g.labels, DATA);
    World::new(program, g.bytes, &words).profile(format);
}

/// Pointers would be hard to guess: a word whose upper half is `0xda7a` is one.
fn address(chunk: &[u8]) -> Vec<u8> {
    match chunk.try_into().map(u64::from_le_bytes) {
        Ok(word) if word >> 32 == 0xda7a => (DATA + (word & 0xffff)).to_le_bytes().to_vec(),
        _ => chunk.to_vec(),
    }
}

fn pointer(at: usize) -> u64 {
    0xda7a << 32 | at as u64
}

/// Two labels in a slice, and the same in a map with one bucket.
pub(crate) fn seeds(programs: &[Program]) -> Vec<Vec<u8>> {
    let text = le64(b"keyvalue");
    let pair = [pointer(0x200), 3, pointer(0x203), 5];
    let mut slice = vec![pointer(0x10), 2];
    slice.extend([pair, pair].concat());
    let mut map = vec![pointer(0x8), 2, 0, pointer(0x30), 0, 0, 0x0505];
    let [key, key_length, value, value_length] = pair;
    for (pointer, length) in [(key, key_length), (value, value_length)] {
        map.extend([pointer, length, pointer, length + 1]);
        map.extend([0; 12]);
    }
    map.push(0);
    let mut seeds = Vec::new();
    for number in 0..programs.len() as u8 {
        for (words, format) in [(&slice, 2), (&map, 3), (&slice, 4), (&map, 5)] {
            let mut words = words.clone();
            words.resize(0x40, 0);
            words.push(text);
            let mut seed = vec![number, format];
            seed.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            seeds.push(seed);
        }
    }
    seeds
}
