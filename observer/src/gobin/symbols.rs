//! Addresses of the runtime's globals from the symbol table, where the executable still has one.

use object::elf;
use rustc_hash::FxHashMap;

use super::elf::{Image, Section};
use super::error::Result;
use super::source::{Source, Window, le32, le64};

/// Bytes of one `Elf64_Sym`.
const SYMBOL: usize = 24;
/// Longest name that is looked for.
const MAX_NAME: usize = 64;
/// Places in the string table at which wanted names stand: linkers write each name once.
const MAX_PLACES: usize = 256;

/// Address of each of `names` that the symbol table defines; empty for a stripped executable.
///
/// # Errors
/// When the table is truncated.
pub fn find(
    source: &dyn Source,
    image: &Image,
    names: &[&'static str],
) -> Result<FxHashMap<&'static str, u64>> {
    let table = image.sections.iter().find(|section| section.kind == elf::SHT_SYMTAB);
    let Some(table) = table else { return Ok(FxHashMap::default()) };
    let Some(strings) = image.sections.get(table.link as usize) else { return Ok(FxHashMap::default()) };
    let wanted = name_offsets(source, strings, names)?;
    let mut found = FxHashMap::default();
    let mut window = Window::stream(source);
    let end = table.offset.saturating_add(table.size).min(source.size());
    let mut at = table.offset;
    while at.saturating_add(SYMBOL as u64) <= end {
        let chunk = window.chunk(at, end)?;
        let whole = chunk.len() - chunk.len() % SYMBOL;
        for symbol in chunk[..whole].chunks_exact(SYMBOL) {
            if let Some(name) = wanted.get(&le32(symbol)) {
                found.insert(*name, le64(&symbol[8..]));
            }
        }
        at += whole as u64;
    }
    Ok(found)
}

/// Offset in the string table → wanted name.
fn name_offsets(
    source: &dyn Source,
    strings: &Section,
    names: &[&'static str],
) -> Result<FxHashMap<u32, &'static str>> {
    let mut window = Window::stream(source);
    let mut offsets = FxHashMap::default();
    let end = strings.offset.saturating_add(strings.size).min(source.size());
    let mut at = strings.offset;
    while at < end {
        let chunk = window.chunk(at, end)?;
        let mut used = 0;
        for text in chunk.split_inclusive(|byte| *byte == 0) {
            let Some((0, name)) = text.split_last() else { break };
            if name.len() <= MAX_NAME
                && offsets.len() < MAX_PLACES
                && let Some(name) = names.iter().find(|wanted| wanted.as_bytes() == name)
            {
                offsets.insert((at + used as u64 - strings.offset) as u32, *name);
            }
            used += text.len();
        }
        at += if used == 0 { chunk.len() } else { used } as u64;
    }
    Ok(offsets)
}
