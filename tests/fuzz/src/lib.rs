//! Fuzz targets: bytes of a fuzzer become a file or a process's memory, and whatever they hold, the answer is a
//! value or a named error, reached with bounded reading. A panic, an overflow or a broken bound ends the run.
//!
//! `cargo xtask fuzz` builds and runs them. Seeds come from real Go programs, when a run begins.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken bound ends the run by a panic")]

mod buildinfo;
#[path = "../../../observer/tests/hostile/counted.rs"]
mod counted;
mod input;
mod labels;
mod pclntab;
mod program;
#[path = "../../../observer/tests/hostile/random.rs"]
mod random;
#[path = "../../../observer/tests/hostile/synthetic.rs"]
#[allow(dead_code, reason = "tests break more of it")]
mod synthetic;
mod unwinder;
mod world;

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use program::Program;

/// Names of all targets.
pub const TARGETS: [&str; 5] = ["elf", "buildinfo", "pclntab", "unwinder", "labels"];

type Run = fn(&[Program], &[u8]);
type Seeds = fn(&[Program]) -> Vec<Vec<u8>>;

/// What is fuzzed.
pub struct Target {
    programs: Vec<Program>,
    run: Run,
    seeds: Seeds,
}

impl Target {
    /// A target by its name, on top of real Go programs.
    ///
    /// # Errors
    /// When there is no such target, or a program can't be read or analysed.
    pub fn new(name: &str, programs: &[PathBuf]) -> io::Result<Self> {
        let (run, seeds): (Run, Seeds) = match name {
            "elf" => (buildinfo::run_file, buildinfo::file_seeds),
            "buildinfo" => (buildinfo::run, buildinfo::seeds),
            "pclntab" => (pclntab::run, pclntab::seeds),
            "unwinder" => (unwinder::run, unwinder::seeds),
            "labels" => (labels::run, labels::seeds),
            _ => return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no target {name}"))),
        };
        let programs = programs.iter().map(|path| Program::read(path)).collect::<io::Result<Vec<_>>>()?;
        if programs.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no program is given"));
        }
        Ok(Self { programs, run, seeds })
    }

    /// Runs it once.
    pub fn run(&self, data: &[u8]) {
        (self.run)(&self.programs, data);
    }

    /// Writes inputs to begin with, each under a name that follows from its content.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn write_seeds(&self, folder: &Path) -> io::Result<()> {
        for seed in (self.seeds)(&self.programs) {
            let mut hasher = DefaultHasher::new();
            seed.hash(&mut hasher);
            fs::write(folder.join(format!("seed-{:016x}", hasher.finish())), seed)?;
        }
        Ok(())
    }
}
