//! Build information: the Go version and the settings of the build.
//!
//! Format: Go 1.18 and newer, `src/debug/buildinfo/buildinfo.go` (inline strings).

use super::elf::Image;
use super::error::{Error, Result};
use super::source::{Source, Window};
use crate::text::truncated;

const MAGIC: &[u8; 14] = b"\xff Go buildinf:";
/// The linker puts the blob at the front of the first writable segment, 16-byte aligned.
const ALIGN: usize = 16;
/// How much of each writable segment is searched when there are no section headers.
const SEARCH: u64 = 64 << 20;
/// Module information of the largest programs is a few hundred kilobytes.
const MAX_STRING: u64 = 1 << 20;
/// Longest version string that is kept.
const MAX_VERSION: usize = 128;
/// Settings that are kept; compilers write about twenty.
const MAX_SETTINGS: usize = 128;
/// Longest path, module or setting that is kept.
const MAX_TEXT: usize = 4096;
/// Both ends of the module information carry a 16-byte mark.
const MARK: usize = 16;

/// What the build recorded of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildInfo {
    /// Such as `go1.24.11`, as written.
    pub version: String,
    /// Path of the main package.
    pub path: Option<String>,
    /// Main module and its version.
    pub module: Option<String>,
    /// `build` lines: `-buildmode=pie` → (`-buildmode`, `pie`).
    pub settings: Vec<(String, String)>,
}

impl BuildInfo {
    /// Reads the build information.
    ///
    /// # Errors
    /// [`Error::NotGo`] when there is none.
    pub fn read(source: &dyn Source, image: &Image) -> Result<Self> {
        let at = find(source, image)?;
        let mut window = Window::scatter(source);
        let flags = window.get(at + 15, 1)?[0];
        if flags & 2 == 0 {
            return Err(Error::Unsupported(
                "built by Go 1.17 or older; observer reads Go 1.19 and newer".to_owned(),
            ));
        }
        let (version, next) = string(&mut window, at + 32)?;
        let (modules, _) = string(&mut window, next)?;
        let modules = modules.get(MARK..modules.len().saturating_sub(MARK)).unwrap_or_default();
        Ok(Self::from_text(&String::from_utf8_lossy(&version), &String::from_utf8_lossy(modules)))
    }

    fn from_text(version: &str, modules: &str) -> Self {
        let version = truncated(version, MAX_VERSION).to_owned();
        let mut info = Self { version, path: None, module: None, settings: Vec::new() };
        for line in modules.lines() {
            let line = truncated(line, MAX_TEXT);
            match line.split_once('\t') {
                Some(("path", path)) => info.path = Some(path.to_owned()),
                Some(("mod", module)) => {
                    info.module =
                        Some(module.split('\t').take(2).collect::<Vec<_>>().join(" ").trim().to_owned());
                }
                Some(("build", setting)) if info.settings.len() < MAX_SETTINGS => {
                    let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
                    info.settings.push((key.to_owned(), value.to_owned()));
                }
                _ => {}
            }
        }
        info
    }

    /// The value of a build setting.
    #[must_use]
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// File offset of the blob: by its section, else by its magic in the writable segments.
fn find(source: &dyn Source, image: &Image) -> Result<u64> {
    if let Some(section) = image.section(b".go.buildinfo") {
        return search(source, section.offset, section.size)?.ok_or(Error::NotGo("an empty .go.buildinfo"));
    }
    if !image.sections.is_empty() {
        return Err(Error::NotGo("no .go.buildinfo"));
    }
    for segment in image.segments.iter().filter(|segment| segment.writable) {
        if let Some(at) = search(source, segment.offset, segment.file_size.min(SEARCH))? {
            return Ok(at);
        }
    }
    Err(Error::NotGo("no build information"))
}

fn search(source: &dyn Source, offset: u64, size: u64) -> Result<Option<u64>> {
    let mut window = Window::stream(source);
    let (mut at, end) = (offset, offset.saturating_add(size).min(source.size()));
    while at < end {
        let chunk = window.chunk(at, end)?;
        let found = chunk.chunks(ALIGN).position(|block| block.starts_with(MAGIC));
        if let Some(index) = found {
            return Ok(Some(at + (index * ALIGN) as u64));
        }
        at += chunk.len() as u64;
    }
    Ok(None)
}

/// A string behind its length, and where the next one starts.
fn string(window: &mut Window<'_>, at: u64) -> Result<(Vec<u8>, u64)> {
    let (mut len, mut shift, mut next) = (0u64, 0, at);
    loop {
        let byte = window.get(next, 1)?[0];
        next += 1;
        len |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
        if shift > 28 {
            return Err(Error::Malformed { what: "build information", at });
        }
    }
    if len > MAX_STRING {
        return Err(Error::Malformed { what: "build information", at });
    }
    Ok((window.get(next, len as usize)?.to_vec(), next + len))
}
