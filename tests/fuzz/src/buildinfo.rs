//! Whole small files, and build information in one that is otherwise sound.

use crate::counted::examine;
use crate::program::{Bytes, Program};
use crate::random::Random;
use crate::synthetic::{BUILD_INFO, Synthetic};

/// Where an ELF header says that the section headers are.
const SECTION_HEADERS: usize = 40;

/// The input is the file.
pub(crate) fn run_file(_: &[Program], data: &[u8]) {
    _ = examine(&Bytes(data.to_vec()), &mut Random(1), "file");
}

/// Small files that are Go, and the beginnings of real ones.
pub(crate) fn file_seeds(programs: &[Program]) -> Vec<Vec<u8>> {
    let beginnings = programs.iter().map(|program| program.file.0[..8192].to_vec());
    beginnings.chain([Synthetic::new().0]).collect()
}

/// The input is the build information.
pub(crate) fn run(_: &[Program], data: &[u8]) {
    let mut file = Synthetic::new();
    let end = file.0.len();
    // Other build information is there to be found behind it.
    file.put(BUILD_INFO, &[0; 64]).put(end, data).load_all();
    file.u64(SECTION_HEADERS, 0);
    _ = examine(&Bytes(file.0), &mut Random(1), "build information");
}

/// Build information of real programs.
pub(crate) fn seeds(programs: &[Program]) -> Vec<Vec<u8>> {
    let real = programs.iter().filter_map(|program| {
        let section = program.binary.image.section(b".go.buildinfo")?;
        let start = usize::try_from(section.offset).ok()?;
        Some(program.file.0.get(start..start + usize::try_from(section.size).ok()?)?.to_vec())
    });
    real.chain([Synthetic::new().0[BUILD_INFO..BUILD_INFO + 64].to_vec()]).collect()
}
