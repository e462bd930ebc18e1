//! The architecture's invariants, held by reading the source.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Stages in the direction of the data; those in one row are beside each other.
const STAGES: [&[&str]; 6] = [
    &["discover"],
    &["gobin"],
    &["probe", "snapshot", "cgroup", "container"],
    &["model"],
    &["diagnose"],
    &["export"],
];

const LONGEST_FILE: usize = 600;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Rust files below a folder of the workspace.
fn rust_files(folder: &str) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    collect(&workspace().join(folder), &mut files)?;
    ensure!(!files.is_empty(), "no source in {folder}");
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, String)>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            files.push((path, text));
        }
    }
    Ok(())
}

/// Lines of code, without comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split("//").next().unwrap_or_default())
}

/// The stage that a file of `observer/src` belongs to, with its place in the order.
fn stage_of(path: &Path) -> Option<(usize, &'static str)> {
    let source = workspace().join("observer/src");
    let first = path.strip_prefix(source).ok()?.components().next()?;
    let name = Path::new(first.as_os_str()).file_stem()?.to_str()?;
    position(name)
}

fn position(name: &str) -> Option<(usize, &'static str)> {
    STAGES
        .iter()
        .enumerate()
        .find_map(|(place, row)| row.iter().find(|stage| **stage == name).map(|stage| (place, *stage)))
}

/// Whether a line of code names a stage's module.
fn imports(line: &str, stage: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let path = format!("crate::{stage}");
    let direct = line.match_indices(&path).any(|(at, _)| !line[at + path.len()..].starts_with(is_name));
    let grouped = line
        .split_once("crate::{")
        .is_some_and(|(_, group)| group.split([',', '{', '}', ':']).any(|word| word.trim() == stage));
    direct || grouped
}

/// A stage never imports a stage to its right.
#[test]
fn stages_follow_the_direction_of_the_data() -> Result<()> {
    let mut checked = 0;
    for (path, text) in rust_files("observer/src")? {
        let Some((place, stage)) = stage_of(&path) else { continue };
        checked += 1;
        for line in code(&text) {
            for later in STAGES.iter().skip(place + 1).flat_map(|row| row.iter()) {
                ensure!(!imports(line, later), "{stage} imports {later} in {}: {line}", path.display());
            }
        }
    }
    ensure!(checked > 10, "only {checked} files belong to a stage: have the folders moved?");
    Ok(())
}

/// The check above sees every form of import.
#[test]
fn imports_are_seen() {
    assert!(imports("use crate::model::view::View;", "model"));
    assert!(imports("    let view = crate::model::View::new();", "model"));
    assert!(imports("use crate::{gobin::elf, model::view};", "model"));
    assert!(!imports("use crate::models;", "model"));
    assert!(!imports("use crate::gobin::model;", "model"));
}

/// `gobin`, `model`, `diagnose` and the planner of probes do no IO: bytes or values in, values out.
#[test]
fn pure_stages_do_no_io() -> Result<()> {
    for (path, text) in rust_files("observer/src")? {
        let pure = stage_of(&path).is_some_and(|(_, stage)| ["gobin", "model", "diagnose"].contains(&stage))
            || path.iter().any(|part| part == "governor");
        if !pure || path.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        let product = text.split("#[cfg(test)]").next().unwrap_or_default();
        for line in code(product) {
            for io in ["std::fs", "std::net", "std::process", "File::open", "rustix::", "nix::", "tokio::"] {
                ensure!(!line.contains(io), "{io} in {}: {line}", path.display());
            }
        }
    }
    Ok(())
}

/// aya-ebpf is never linked into a host binary: its memcpy would replace libc's.
#[test]
fn aya_ebpf_is_not_for_the_host() -> Result<()> {
    let tree = |target: &str| -> Result<String> {
        let args =
            ["tree", "--workspace", "--all-features", "--edges", "normal", "--prefix", "none", "--locked"];
        let output = Command::new(env!("CARGO"))
            .args(args)
            .args(["--target", target])
            .current_dir(workspace())
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    for host in ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"] {
        let tree = tree(host)?;
        ensure!(tree.contains("observer-ebpf v"), "this is not our workspace: {tree}");
        ensure!(!tree.lines().any(|line| line.starts_with("aya-ebpf v")), "aya-ebpf is linked for {host}");
    }
    Ok(())
}

/// There is no uretprobe anywhere: it would kill a Go target at its next stack growth.
#[test]
fn no_uretprobes() -> Result<()> {
    for folder in ["observer", "observer-ebpf/src"] {
        for (path, text) in rust_files(folder)? {
            for line in code(&text) {
                ensure!(!line.to_lowercase().contains("uretprobe"), "{}: {line}", path.display());
                ensure!(!line.contains("bpf_probe_write_user"), "{}: {line}", path.display());
            }
        }
    }
    Ok(())
}

/// Files stay small enough to read.
#[test]
fn files_are_short() -> Result<()> {
    for folder in ["observer", "observer-ebpf/src", "xtask", "tests"] {
        for (path, text) in rust_files(folder)? {
            let lines = text.lines().count();
            // Tables that a tool writes are read by nobody.
            let generated = path.ends_with("generated.rs");
            ensure!(generated || lines <= LONGEST_FILE, "{} has {lines} lines", path.display());
        }
    }
    Ok(())
}
