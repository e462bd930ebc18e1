//! `observer inspect` reads every build of every Go, and refuses everything else in one clear line.

use anyhow::{Context, Result, ensure};
use observer_tests::build::{Variant, build};
use observer_tests::fixture::Fixture;
use observer_tests::gate::{Need, have};
use observer_tests::go::Go;
use observer_tests::large;
use observer_tests::observer::{Ran, run};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

fn inspect(what: &Path) -> Result<Ran> {
    run(&[OsStr::new("inspect"), what.as_os_str(), OsStr::new("--output"), OsStr::new("json")])
}

/// Every variant of the oldest and the newest Go is read: its version is told.
#[test]
fn every_variant() -> Result<()> {
    if !have(&[Need::Compiler]) {
        return Ok(());
    }
    for go in [Go(19), Go::NEWEST] {
        for variant in Variant::READABLE {
            let json =
                inspect(&build("leak", go, variant)?)?.json().with_context(|| format!("{variant:?}"))?;
            let version = go.toolchain()?.version;
            assert!(json.to_string().contains(&format!("\"{version}\"")), "{variant:?}: {json}");
        }
    }
    Ok(())
}

/// A running process is read by its pid.
#[test]
fn a_process() -> Result<()> {
    let fixture = Fixture::start("leak", Go::USUAL, Variant::Stripped, &["-rate", "0"])?;
    let json = inspect(Path::new(&fixture.pid_text()))?.json()?;
    assert!(json.to_string().contains(&Go::USUAL.toolchain()?.version), "{json}");
    Ok(())
}

/// A 32-bit binary is refused, and the line says that this is why; as a file and as a process.
#[test]
fn a_32_bit_binary() -> Result<()> {
    let path = build("leak", Go::USUAL, Variant::I386)?;
    let ran = inspect(&path)?;
    assert!(ran.refused()?.contains("32-bit"), "{ran:?}");
    let fixture = Fixture::run(&path, &["-rate", "0"])?;
    let ran = run(&["attach", &fixture.pid_text(), "--duration", "1s"])?;
    assert!(ran.refused()?.contains("32-bit"), "{ran:?}");
    Ok(())
}

/// What is no Go executable is refused in one line: other programs, texts, directories, devices, pipes, nothing.
#[test]
fn no_go_binary() -> Result<()> {
    let directory = tempdir()?;
    let file = |name: &str, content: &[u8]| -> Result<_> {
        let path = directory.path().join(name);
        fs::write(&path, content)?;
        Ok(path)
    };
    // Reading a pipe that nobody writes to would never end.
    let pipe = directory.path().join("pipe");
    ensure!(Command::new("mkfifo").arg(&pipe).status()?.success());
    let refused = [
        "/bin/true".into(),
        "/dev/zero".into(),
        "/proc/self/mem".into(),
        directory.path().to_owned(),
        directory.path().join("missing"),
        file("empty", b"")?,
        file("text", b"package main\n")?,
        file("magic", b"\x7fELF")?,
        pipe,
    ];
    for path in refused {
        let ran = inspect(&path).with_context(|| path.display().to_string())?;
        ran.refused().with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Processes that are not Go, have gone, or can't exist are refused in one line by every command that takes one.
#[test]
fn no_go_process() -> Result<()> {
    let other = std::process::id().to_string();
    for pid in [other.as_str(), "999999999", "4294967295", "0"] {
        for command in ["inspect", "attach"] {
            run(&[command, pid])?.refused().with_context(|| format!("{command} {pid}"))?;
        }
    }
    for pid in ["-1", "", "self", "99999999999999999999"] {
        let ran = run(&["attach", pid])?;
        assert_eq!(ran.status.code(), Some(2), "attach {pid:?}: {ran:?}");
        assert!(!ran.stderr.contains("panicked"), "attach {pid:?}: {ran:?}");
    }
    Ok(())
}

/// A file cut off at any place is read or refused; the observer never crashes.
#[test]
fn truncated_files() -> Result<()> {
    let directory = tempdir()?;
    for variant in [Variant::Static, Variant::Pie] {
        let whole = fs::read(build("leak", Go::NEWEST, variant)?)?;
        let cut = directory.path().join("cut");
        for length in
            (0..20).map(|i| whole.len() * i / 20).chain([16, 63, 64, 65, 120, 4096, whole.len() - 1])
        {
            fs::write(&cut, &whole[..length])?;
            read_or_refused(&inspect(&cut)?).with_context(|| format!("{variant:?} cut to {length} bytes"))?;
        }
    }
    Ok(())
}

fn read_or_refused(ran: &Ran) -> Result<()> {
    if ran.status.code() == Some(0) { ran.json().map(drop) } else { ran.refused().map(drop) }
}

/// A file with wrong bytes in its headers, its tables or its code is read or refused; the observer never crashes.
#[test]
fn corrupted_files() -> Result<()> {
    let directory = tempdir()?;
    let whole = fs::read(build("leak", Go::NEWEST, Variant::Stripped)?)?;
    let path = directory.path().join("corrupted");
    let mut random = Random(7);
    for round in 0..60 {
        let mut bytes = whole.clone();
        // A third of the rounds hits the ELF headers, a third the section headers at the end.
        let (from, to) = match round % 3 {
            0 => (16, 1024),
            1 => (bytes.len() - 4096, bytes.len()),
            _ => (0, bytes.len()),
        };
        for _ in 0..[1, 8, 200][round / 3 % 3] {
            let at = from + random.below(to - from);
            bytes[at] = [0, 0xff, 0x80, 0x7f, bytes[at] ^ 1][random.below(5)];
        }
        fs::write(&path, &bytes)?;
        read_or_refused(&inspect(&path)?).with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// A binary of 100 MB is read like a small one.
#[test]
fn a_large_binary() -> Result<()> {
    let path = large::build(Go::USUAL)?;
    assert!(fs::metadata(&path)?.len() >= 100_000_000);
    let json = inspect(&path)?.json()?;
    assert!(json.to_string().contains(&Go::USUAL.toolchain()?.version), "{json}");
    Ok(())
}

/// A file name that a terminal would act on is shown harmlessly, also in a refusal.
#[test]
fn a_name_with_control_characters() -> Result<()> {
    let directory = tempdir()?;
    let path = directory.path().join(OsStr::from_bytes(b"evil\x1b[31m\r\n\xff"));
    fs::write(&path, b"no Go here")?;
    let ran = inspect(&path)?;
    crate::support::is_printable(ran.refused()?)
}
