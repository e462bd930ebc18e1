//! A real Go executable with a few bytes changed where it matters.

use std::env;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use observer::gobin::GoBinary;
use observer::gobin::source::{Source, le64};

use crate::counted::examine;
use crate::random::Random;

/// Mutated files per region.
const CASES: u64 = 40;
const PROGRAM: &str = "package main\n\nimport \"fmt\"\n\nfunc work(n int) { select {} }\n\nfunc main() {\n\tfor i := 0; i < 3; i++ {\n\t\tgo work(i)\n\t}\n\tfmt.Println(1)\n\tselect {}\n}\n";

/// A file of which some bytes are others, and which may end early.
struct Mutated<'a> {
    bytes: &'a [u8],
    length: usize,
    changes: Vec<(usize, Vec<u8>)>,
}

impl Source for Mutated<'_> {
    fn size(&self) -> u64 {
        self.length as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.bytes[..self.length].read_at(offset, buf)?;
        let start = offset as usize;
        for (at, bytes) in &self.changes {
            for (index, byte) in bytes.iter().enumerate() {
                if let Some(place) = (at + index).checked_sub(start).and_then(|at| buf.get_mut(at)) {
                    *place = *byte;
                }
            }
        }
        Ok(())
    }
}

/// The newest Go that `cargo xtask setup` has put in the cache.
fn go() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = || set("XDG_CACHE_HOME").unwrap_or_else(|| env::home_dir().unwrap().join(".cache"));
    let cache = set("OBSERVER_CACHE").unwrap_or_else(|| user().join("observer"));
    (19..40).rev().map(|minor| cache.join(format!("go/1.{minor}/bin/go"))).find(|go| go.is_file())
}

/// Builds the program; `None` says what is missing.
fn build(mode: &str) -> Option<Vec<u8>> {
    let Some(go) = go() else {
        assert_ne!(env::var("OBSERVER_REQUIRE").as_deref(), Ok("1"), "missing: Go");
        println!("skipped: needs Go; `cargo xtask setup` installs it");
        return None;
    };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (source, output) = (folder.path().join("main.go"), folder.path().join("program"));
    std::fs::write(&source, PROGRAM).unwrap();
    let status = Command::new(go)
        .args(["build", "-ldflags=-s -w", &format!("-buildmode={mode}"), "-o"])
        .args([&output, &source])
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "")
        .env("CGO_ENABLED", "0")
        .env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-build"))
        .env_remove("GOROOT")
        .status()
        .unwrap();
    assert!(status.success());
    Some(std::fs::read(output).unwrap())
}

/// What the analysis reads, as ranges of the file.
fn regions(bytes: &[u8], binary: &GoBinary) -> Vec<(&'static str, Range<usize>)> {
    let image = &binary.image;
    let section = |name: &[u8]| {
        let section = image.section(name).unwrap();
        section.offset as usize..(section.offset + section.size) as usize
    };
    let table = image.offset(binary.table.address).unwrap() as usize;
    let part = |word: usize| table + le64(&bytes[table + 8 * word..]) as usize;
    let functions = binary.table.functions as usize;
    let module = image.offset(binary.module.address).unwrap() as usize;
    let sections = le64(&bytes[40..]) as usize;
    let mut regions = vec![
        ("ELF header", 0..64),
        ("program headers", 64..64 + 12 * 56),
        ("section headers", sections..(sections + image.sections.len() * 64).min(bytes.len())),
        ("build information", section(b".go.buildinfo")),
        ("function table header", table..table + 72),
        ("names", part(4)..part(5)),
        ("units and files", part(5)..part(7)),
        ("pc-value tables", part(7)..part(8)),
        ("functions", part(8)..part(8) + functions * 8 + 4),
        ("function records", part(8) + functions * 8 + 4..part(8) + functions * 64),
        ("module data", module..module + 376),
        ("code", section(b".text")),
    ];
    regions.extend(image.section(b".rela").map(|_| ("relocations", section(b".rela"))));
    regions.extend(image.section(b".dynamic").map(|_| ("dynamic", section(b".dynamic"))));
    regions
}

fn mutate(bytes: &[u8]) {
    let pristine = Mutated { bytes, length: bytes.len(), changes: Vec::new() };
    let mut random = Random(7);
    let binary = examine(&pristine, &mut random, "pristine").unwrap();
    assert_eq!((&binary.globals.missing, &binary.sites.missing), (&Vec::new(), &Vec::new()));
    for (name, region) in regions(bytes, &binary) {
        assert!(!region.is_empty() && region.end <= bytes.len(), "{name}: {region:?}");
        for case in 0..CASES {
            let count = 1 + random.below(4);
            let changes = (0..count).map(|_| change(&region, &mut random)).collect();
            let file = Mutated { bytes, length: bytes.len(), changes };
            let _ = examine(&file, &mut random, &format!("{name}, case {case}"));
        }
        // Cut at its begin, in it, and at its end.
        for length in [region.start, region.start + region.len() / 2, region.end - 1, region.end] {
            let file = Mutated { bytes, length, changes: Vec::new() };
            let _ = examine(&file, &mut random, &format!("cut at {length}, in {name}"));
        }
    }
}

fn change(region: &Range<usize>, random: &mut Random) -> (usize, Vec<u8>) {
    let at = region.start + random.below(region.len() as u64) as usize;
    let word = random.extreme().to_le_bytes();
    match random.below(3) {
        0 => (at, word[..1].to_vec()),
        1 => (at & !3, word[..4].to_vec()),
        _ => (at & !7, word.to_vec()),
    }
}

/// Changed bytes in any structure of a static executable give an answer or an error, with bounded reading.
#[test]
fn static_executable() {
    if let Some(bytes) = build("exe") {
        mutate(&bytes);
    }
}

/// The same for a position-independent one, whose addresses stand in relocations.
#[test]
fn position_independent_executable() {
    if let Some(bytes) = build("pie") {
        mutate(&bytes);
    }
}
