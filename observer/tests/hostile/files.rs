//! Executables that are broken on purpose, one way each.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use observer::gobin::error::Error;
use observer::gobin::source::Source;
use observer::pipeline::executables::{self, Recognised};

use crate::counted::{Counted, examine};
use crate::random::Random;
use crate::synthetic::{BASE, CODE, END, MODULE, PROGRAM_HEADERS, Synthetic, TABLE, WORK, WRAPPER};

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;

fn check(file: &Synthetic, what: &str) -> Result<observer::gobin::GoBinary, Error> {
    examine(&Bytes(&file.0), &mut Random(1), what)
}

struct Bytes<'a>(&'a [u8]);

impl Source for Bytes<'_> {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buf)
    }
}

/// The generator makes what the analysis takes for Go, so that the other tests break something that works.
#[test]
fn the_synthetic_file_is_go() {
    let file = Synthetic::new();
    let binary = check(&file, "synthetic").unwrap();
    assert_eq!((binary.table.functions, binary.version.minor), (4, 27));
    let name = binary.callsite(&Bytes(&file.0), Synthetic::address(0) + 8, Synthetic::address(WORK)).unwrap();
    assert_eq!((name.created_by.as_str(), name.entry.as_str()), ("main.spawn", "main.work"));
    assert_eq!(name.file, "main.go");
}

/// Every length of the file, from nothing to all, gives an answer; Go is recognised only when it is whole.
#[test]
fn truncated_everywhere() {
    let file = Synthetic::new();
    for length in 0..END {
        let cut = Synthetic(file.0[..length].to_vec());
        assert!(length > MODULE || check(&cut, "truncated").is_err(), "{length} bytes");
    }
}

/// An inline tree whose entries are each other's parents names the wrapper by its own name.
#[test]
fn cyclic_inline_tree() {
    let mut file = Synthetic::new();
    // Runs: index 0 over the first half, index 1 over the second; each entry's parent is in the other's.
    let half = CODE as u8 / 2;
    file.inline_entry(0, Synthetic::name_of(WORK), CODE - 1).inline_entry(1, Synthetic::name_of(WORK), 0);
    file.inline_indices(&[2, half, 2, half, 0]);
    let binary = check(&file, "cycle").unwrap();
    let name = binary.callsite(&Bytes(&file.0), Synthetic::address(0) + 8, Synthetic::address(WRAPPER));
    assert_eq!(name.unwrap().entry, "main.spawn.gowrap1");
    // Not in a circle the same tree leads to the function.
    file.inline_entry(0, Synthetic::name_of(WORK), CODE).inline_entry(1, Synthetic::name_of(WORK), CODE);
    let name = binary.callsite(&Bytes(&file.0), Synthetic::address(0) + 8, Synthetic::address(WRAPPER));
    assert_eq!(name.unwrap().entry, "main.work");
}

/// A table that sends every byte of a function to another entry of an inline tree is not followed to its end.
#[test]
fn endless_inline_tree() {
    let mut file = Synthetic::new();
    file.inline_indices(&[2, 0].repeat(2 << 20));
    let binary = check(&file, "endless").unwrap();
    let bytes = Bytes(&file.0);
    let counted = Counted::new(&bytes);
    let name = binary.callsite(&counted, Synthetic::address(0) + 8, Synthetic::address(WRAPPER));
    assert_eq!(name.unwrap().entry, "main.spawn.gowrap1");
    counted.assert_bounded(1 << 20, "endless");
}

/// Counts and offsets at the edge of what their type holds, in every word of every header and structure.
#[test]
fn extreme_words() {
    let file = Synthetic::new();
    let places =
        [(0, PROGRAM_HEADERS + 56), (0x200, 0x240), (TABLE, TABLE + 0x900), (MODULE, MODULE + 0x180)];
    let words: Vec<usize> = places.into_iter().flat_map(|(from, to)| (from..to).step_by(4)).collect();
    for at in words {
        for value in [u64::MAX, u64::MAX - 7, 1 << 63, (1 << 32) - 1, 8 << 20, 1 << 20] {
            let mut broken = Synthetic(file.0.clone());
            broken.u64(at, value);
            let _ = check(&broken, &format!("{value:#x} at {at:#x}"));
        }
    }
}

/// The symbol table of a file with sections may claim to be anywhere.
#[test]
fn symbol_table_at_the_end_of_the_address_space() {
    for offset in [u64::MAX, u64::MAX - 23, u64::MAX - 24, 1 << 63] {
        let mut file = Synthetic::new();
        let table = file.0.len();
        file.u64(40, table as u64).put(60, &3u16.to_le_bytes()).put(62, &2u16.to_le_bytes());
        let mut section = |index: usize, name: usize, kind: usize, offset: u64, size: u64| {
            let at = table + 64 * index;
            file.u32(at, name).u32(at + 4, kind).u64(at + 24, offset).u64(at + 32, size).u32(at + 40, 1);
        };
        section(0, 0, 2, offset, u64::MAX);
        section(1, 1, 1, 0x200, 0x100);
        section(2, 0, 3, table as u64 + 256, 64);
        file.put(table + 256 + 1, b".go.buildinfo\0").load_all();
        let binary = check(&file, "symbols").unwrap();
        assert_eq!(binary.image.sections.len(), 3, "{offset:#x}");
    }
}

/// A version number beyond any that will be is tried with the newest layout at once, and an endless version
/// string is cut where it is shown.
#[test]
fn extreme_versions() {
    let mut file = Synthetic::new();
    file.build_info("go1.4294967295");
    assert!(check(&file, "version").is_ok());
    for text in ["go1.x".to_owned() + &"y".repeat(500_000), "\x1b[2J".repeat(100)] {
        let mut file = Synthetic::new();
        let at = file.0.len();
        file.put(0x200, &[0; 64]).build_info_at(at, &text).load_all();
        assert!(matches!(check(&file, "long version"), Err(Error::Unsupported(_))), "{}", &text[..9]);
    }
}

/// A wanted name that is written again and again keeps nobody from reading the file.
#[test]
fn one_name_a_million_times() {
    let mut file = Synthetic::new();
    let names = file.0.len();
    file.put(names, &b"runtime.allgadd\0".repeat(1 << 20));
    let end = file.0.len();
    let functions = file.0[TABLE + 0x600..TABLE + 0xa00].to_vec();
    file.put(end + 0x300, &functions).load_all();
    for (index, at) in [names, end, end + 0x100, end + 0x200, end + 0x300].into_iter().enumerate() {
        file.u64(TABLE + 32 + 8 * index, (at - TABLE) as u64);
    }
    file.u64(MODULE + 8, BASE + names as u64);
    assert!(check(&file, "names").is_ok());
}

/// Hundreds of places that could be the module data of a PIE, and a long relocation table: the table is read
/// a fixed number of times.
#[test]
fn many_candidates_and_many_relocations() {
    let mut file = Synthetic::new();
    let decoys = file.0.len();
    for index in 0..300 {
        file.u64(decoys + 8 * index, BASE + TABLE as u64);
    }
    let dynamic = file.0.len();
    let relocations = dynamic + 64;
    let count = 40_000;
    file.u64(dynamic, 7).u64(dynamic + 8, BASE + relocations as u64);
    file.u64(dynamic + 16, 8).u64(dynamic + 24, count * 24);
    for index in 0..count as usize {
        let at = relocations + 24 * index;
        file.u64(at, BASE + decoys as u64).u64(at + 8, 8).u64(at + 16, 1);
    }
    file.segment(1, PT_DYNAMIC, dynamic as u64, 64).load_all();
    assert!(check(&file, "relocations").is_ok());
}

/// 256 segments that each hold the whole file, without anything to find in them.
#[test]
fn overlapping_segments() {
    let mut file = Synthetic(vec![0; 4 << 20]);
    let ehdr = Synthetic::new().0[..64].to_vec();
    file.put(0, &ehdr);
    for index in 0..256 {
        file.segment(index, PT_LOAD, 0, 4 << 20);
    }
    assert!(matches!(check(&file, "nothing"), Err(Error::Budget { .. })));
    file.build_info_at(0x8000, "go1.27.3");
    assert!(matches!(check(&file, "only build information"), Err(Error::Budget { .. })));
}

/// A sparse file of a gigabyte, with nothing to find in it, is given up after few passes.
#[test]
fn a_sparse_gigabyte() {
    let file = tempfile::tempfile().unwrap();
    let mut start = Synthetic::new();
    start.put(TABLE, &[0; 8]).segment(0, PT_LOAD, 0, 1 << 30);
    file.write_all_at(&start.0, 0).unwrap();
    file.set_len(1 << 30).unwrap();
    assert!(matches!(
        examine(&Sparse(&file, 1 << 30), &mut Random(1), "sparse"),
        Err(Error::Malformed { .. })
    ));
}

struct Sparse<'a>(&'a File, u64);

impl Source for Sparse<'_> {
    fn size(&self) -> u64 {
        self.1
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }
}

/// A program of a Go version without the newer build information is known to be Go, and refused for that.
#[test]
fn older_than_any_layout() {
    let mut file = Synthetic::new();
    file.put(0x200 + 15, &[0]);
    let named = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(named.path(), &file.0).unwrap();
    let Recognised::Refused { version, reason } = executables::read(named.path()) else { panic!("taken") };
    assert_eq!(version.as_deref(), Some("before go1.18"));
    assert!(reason.contains("Go 1.17 or older"), "{reason}");
}
