//! What was inlined into a function, from the inline tree in its function data.
//!
//! Format: `src/runtime/symtabinl.go`; entries of 20 bytes in Go 1.19, of 16 since Go 1.20.

use rustc_hash::FxHashSet;

use super::elf::Image;
use super::error::{Error, Result};
use super::pclntab::{Function, Pclntab};
use super::source::{Source, Window, le32};

/// `PCDATA_InlTreeIndex`.
const INDEX_TABLE: usize = 2;
/// `FUNCDATA_InlTree`.
const TREE: usize = 3;
/// Nesting beyond this is a cycle: the compiler's own limit is far lower.
const MAX_DEPTH: usize = 64;
/// Different entries of one tree that are followed: those who ask want to know whether there is just one.
const MAX_ENTRIES: usize = 64;

/// What was inlined into one function.
#[derive(Debug, Default)]
pub struct Inlined {
    /// The functions inlined directly into it, each once, in the order of their code.
    pub names: Vec<String>,
    /// Where each piece of code ends, and its entry in the inline tree; −1 is the function itself.
    runs: Vec<(u64, i32)>,
}

impl Inlined {
    /// Whether the code at `pc` belongs to an inlined function.
    #[must_use]
    pub fn covers(&self, pc: u64) -> bool {
        index_at(&self.runs, pc).is_some()
    }
}

fn index_at(runs: &[(u64, i32)], pc: u64) -> Option<i32> {
    let (_, index) = runs.iter().find(|(end, _)| pc < *end)?;
    (*index >= 0).then_some(*index)
}

/// Reads what was inlined into `function`.
///
/// `gofunc` is the link-time address that function data is relative to (`moduledata.gofunc`).
///
/// # Errors
/// When a table is malformed or truncated.
pub fn direct(
    source: &dyn Source,
    image: &Image,
    table: &Pclntab,
    function: &Function,
    gofunc: u64,
) -> Result<Inlined> {
    let (Some(indices), Some(tree)) =
        (table.pcdata(source, function, INDEX_TABLE)?, table.funcdata(source, function, TREE)?)
    else {
        return Ok(Inlined::default());
    };
    let tree = gofunc.wrapping_add(u64::from(tree));
    let runs = table.runs(source, indices, function)?;
    let mut indices: Vec<i32> = runs.iter().map(|(_, index)| *index).filter(|index| *index >= 0).collect();
    let mut seen = FxHashSet::default();
    indices.retain(|index| seen.insert(*index));
    let mut names: Vec<String> = Vec::new();
    for index in indices.into_iter().take(MAX_ENTRIES) {
        let name = outermost(source, image, table, function, &runs, tree, index)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(Inlined { names, runs })
}

/// Follows the parents of a tree entry up to the one that stands in the function itself.
fn outermost(
    source: &dyn Source,
    image: &Image,
    table: &Pclntab,
    function: &Function,
    runs: &[(u64, i32)],
    tree: u64,
    mut index: i32,
) -> Result<String> {
    let size = table.inline_entry_size();
    let malformed = Error::Malformed { what: "inline tree", at: tree };
    let mut window = Window::scatter(source);
    for _ in 0..MAX_DEPTH {
        let address = tree.wrapping_add(u64::from(index as u32) * size as u64);
        let at = image.offset(address).ok_or_else(|| malformed.clone())?;
        let entry = window.get(at, size)?;
        let (name, parent) = if size == 20 {
            (le32(&entry[12..]), le32(&entry[16..]))
        } else {
            (le32(&entry[4..]), le32(&entry[8..]))
        };
        let parent_pc = function.entry.wrapping_add(u64::from(parent));
        match index_at(runs, parent_pc) {
            Some(up) => index = up,
            None => return table.name_at(source, name),
        }
    }
    Err(malformed)
}
