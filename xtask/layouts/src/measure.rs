//! Measures the structs of one Go toolchain's runtime, and merges those of one minor version.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::dwarf::Types;
use super::fields::{Field, Kind, STRUCTS, Struct};

/// The offsets that one field holds: none, one or several.
pub(super) type Offsets = Vec<u64>;

/// What was measured: a list per struct, in the order of [`STRUCTS`] and their fields.
pub(super) struct Measured {
    /// Exact toolchains, for example `go1.24.11`, oldest first.
    pub(super) versions: Vec<String>,
    pub(super) minor: u32,
    pub(super) structs: Vec<Vec<Offsets>>,
}

impl Measured {
    /// Measures the runtime in an executable that is called as its toolchain.
    pub(super) fn of(executable: &Path) -> Result<Self> {
        let version = executable.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let minor = minor(&version).with_context(|| format!("{version} is no Go release"))?;
        eprintln!("measuring {version}");
        let bytes = fs::read(executable).with_context(|| format!("cannot read {}", executable.display()))?;
        let types = Types::read(&bytes)?;
        let structs = STRUCTS.iter().map(|of| measure(&types, of)).collect::<Result<_>>();
        Ok(Self { minor, structs: structs.with_context(|| version.clone())?, versions: vec![version] })
    }

    /// Adds a later patch release; a field that moved between the two is dropped, and named.
    pub(super) fn merge(&mut self, later: Self) -> Result<()> {
        let (from, to) = (self.versions.join(", "), later.versions.join(", "));
        for (of, (ours, theirs)) in STRUCTS.iter().zip(self.structs.iter_mut().zip(later.structs)) {
            for (field, (ours, theirs)) in of.fields.iter().zip(ours.iter_mut().zip(theirs)) {
                if *ours == theirs {
                    continue;
                }
                eprintln!("{}.{} moves: {ours:?} in {from}, {theirs:?} in {to}", of.go, field.name);
                if field.kind != Kind::Optional {
                    bail!(
                        "{}.{} moves within Go 1.{}: it can't be in the table",
                        of.go,
                        field.name,
                        self.minor
                    );
                }
                ours.clear();
            }
        }
        self.versions.extend(later.versions);
        Ok(())
    }
}

fn measure(types: &Types, of: &Struct) -> Result<Vec<Offsets>> {
    of.fields.iter().map(|field| offsets(types, of.go, field)).collect()
}

fn offsets(types: &Types, go: &str, field: &Field) -> Result<Offsets> {
    if field.kind == Kind::Size {
        return Ok(vec![types.size(go)?]);
    }
    let mut found = Vec::new();
    if field.kind == Kind::Optional && !types.has(go) {
        return Ok(found);
    }
    for path in field.paths {
        let Some(place) = types.member(go, path)? else { continue };
        if field.bytes != 0 && place.bytes != field.bytes {
            bail!("{go}.{path} has {} bytes, not {}", place.bytes, field.bytes);
        }
        found.push(place.offset);
    }
    if found.is_empty() && field.kind != Kind::Optional {
        bail!("{go} has none of {}", field.paths.join(", "));
    }
    if field.kind != Kind::Each {
        found.truncate(1);
    }
    Ok(found)
}

fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("go1.")?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field at offset 8, but for one of one struct.
    fn measured(of: &str, name: &str, offset: u64) -> Measured {
        let place = |go: &str, field: &Field| if (go, field.name) == (of, name) { offset } else { 8 };
        let fields = |of: &Struct| of.fields.iter().map(|field| vec![place(of.go, field)]).collect();
        Measured { versions: vec![], minor: 24, structs: STRUCTS.iter().map(fields).collect() }
    }

    /// A field that moves between patch releases leaves the table if its reader can do without, alone.
    #[test]
    fn drops_what_moves() {
        let mut first = measured("", "", 8);
        first.merge(measured("runtime.m", "ncgocall", 16)).unwrap();
        let kept: Vec<&Offsets> = first.structs.iter().flatten().filter(|field| !field.is_empty()).collect();
        assert_eq!(kept.len() + 1, STRUCTS.iter().map(|of| of.fields.len()).sum::<usize>());
        assert!(kept.iter().all(|offsets| **offsets == [8]));
    }

    /// A field that every reader needs cannot silently leave the table.
    #[test]
    fn refuses_what_moves_and_is_needed() {
        let error = measured("", "", 8).merge(measured("runtime.g", "goid", 16)).unwrap_err();
        assert!(error.to_string().contains("runtime.g.goid moves within Go 1.24"), "{error}");
    }
}
