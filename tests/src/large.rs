//! A Go executable of more than 100 MB: many thousand functions, and embedded data that looks like more.

use crate::build::{Recipe, Variant, build_cached, go_build};
use crate::go::Go;
use anyhow::Result;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

const PACKAGES: usize = 20;
const FUNCTIONS_PER_PACKAGE: usize = 2500;
const EMBEDDED_BYTES: usize = 80_000_000;
/// Changes with what is generated, as the content's hash does for the other fixtures.
const REVISION: u64 = 1;

/// Builds it, or returns what an earlier test built.
///
/// # Errors
/// When the toolchain is missing or the build fails.
pub fn build(go: Go) -> Result<PathBuf> {
    let recipe =
        Recipe { fixture: "large", toolchain: &go.toolchain()?, variant: Variant::Static, hash: REVISION };
    build_cached(&recipe, || {
        let sources = tempfile::tempdir()?;
        generate(sources.path())?;
        go_build(sources.path(), &recipe)
    })
}

fn generate(root: &Path) -> Result<()> {
    fs::write(root.join("go.mod"), "module fixtures\n\ngo 1.19\n")?;
    let large = root.join("large");
    let mut main = String::from("// Large is big.\npackage main\n\nimport (\n\t_ \"embed\"\n\t\"os\"\n");
    for package in 0..PACKAGES {
        let name = format!("part{package}");
        fs::create_dir_all(large.join(&name))?;
        fs::write(large.join(&name).join("part.go"), part(&name))?;
        writeln!(main, "\t\"fixtures/large/{name}\"")?;
    }
    main.push_str(
        ")\n\n//go:embed data\nvar data string\n\nfunc main() {\n\tn := len(os.Args) + len(data)\n",
    );
    for package in 0..PACKAGES {
        writeln!(main, "\tfor _, f := range part{package}.All {{\n\t\tn += f(n)\n\t}}")?;
    }
    main.push_str("\tprintln(n)\n\tvar block [1]byte\n\tos.Stdin.Read(block[:])\n}\n");
    fs::write(large.join("main.go"), main)?;
    decoys(&large.join("data"))?;
    Ok(())
}

/// A package of functions, each of which the linker keeps.
fn part(name: &str) -> String {
    let mut text = format!("// Package {name} is generated.\npackage {name}\n\n");
    let mut all = String::from("// All keeps every function.\nvar All = []func(int) int{\n");
    for i in 0..FUNCTIONS_PER_PACKAGE {
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "//go:noinline\nfunc function{i}(n int) int {{\n\tif n > {i} {{\n\t\tn ^= {i}\n\t}}\n\
             \tdone := make(chan int, 1)\n\tgo func() {{ done <- n }}()\n\treturn <-done\n}}\n\n"
        );
        let _ = writeln!(all, "\tfunction{i},");
    }
    text + &all + "}\n"
}

/// Writes data with the magic numbers of the tables that a reader searches for. Piece by piece: the benchmark
/// that measures memory must stay small itself.
fn decoys(path: &Path) -> Result<()> {
    let pattern = b"\xf1\xff\xff\xff\x00\x00\x01\x08\xff Go buildinf:\x08\x02decoy";
    let piece = pattern.repeat(4096);
    let mut file = File::create(path)?;
    for _ in 0..EMBEDDED_BYTES / piece.len() {
        file.write_all(&piece)?;
    }
    Ok(())
}
