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

/// One call that the compiler replaced by the called function's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The called function's name, as an offset in the name table.
    pub name: u32,
    /// What the runtime knows it as.
    pub id: u8,
    /// Link-time address that has the source position of the call.
    pub call: u64,
}

/// The inline tree of one function.
pub struct Tree<'a> {
    source: &'a dyn Source,
    image: &'a Image,
    address: u64,
    entry_size: usize,
    entry: u64,
    /// Which node an address belongs to: (address behind the run, index; −1 = the function itself).
    runs: Vec<(u64, i32)>,
}

impl<'a> Tree<'a> {
    /// The tree of `function`; `None` when nothing was inlined into it. `gofunc` is the link-time address that
    /// function data is relative to (`moduledata.gofunc`).
    ///
    /// # Errors
    /// When a table is malformed or truncated.
    pub fn read(
        source: &'a dyn Source,
        image: &'a Image,
        table: &Pclntab,
        function: &Function,
        gofunc: u64,
    ) -> Result<Option<Self>> {
        let (Some(indices), Some(tree)) =
            (table.pcdata(source, function, INDEX_TABLE)?, table.funcdata(source, function, TREE)?)
        else {
            return Ok(None);
        };
        Ok(Some(Self {
            source,
            image,
            address: gofunc.wrapping_add(u64::from(tree)),
            entry_size: table.inline_entry_size(),
            entry: function.entry,
            runs: table.runs(source, indices, function)?,
        }))
    }

    /// The inlined calls that `pc` is in, the innermost first; empty where it is in the function itself.
    ///
    /// # Errors
    /// When the tree is malformed or truncated.
    pub fn calls(&self, pc: u64) -> Result<Vec<Call>> {
        let mut calls = Vec::new();
        let mut index = self.index(pc);
        while let Some(node) = index {
            if calls.len() == MAX_DEPTH {
                return Err(self.malformed());
            }
            let call = self.node(node)?;
            index = self.index(call.call);
            calls.push(call);
        }
        Ok(calls)
    }

    /// Whether the code at `pc` belongs to an inlined function.
    #[must_use]
    pub fn covers(&self, pc: u64) -> bool {
        self.index(pc).is_some()
    }

    /// The names of the functions inlined directly into the function, each once, in the order of their code.
    ///
    /// # Errors
    /// When the tree is malformed or truncated.
    pub fn direct(&self, table: &Pclntab) -> Result<Vec<String>> {
        let mut seen = FxHashSet::default();
        let entries = self.runs.iter().filter(|(_, index)| *index >= 0 && seen.insert(*index));
        let mut names: Vec<String> = Vec::new();
        for (end, _) in entries.take(MAX_ENTRIES) {
            if let Some(outermost) = self.calls(end.saturating_sub(1))?.last() {
                let name = table.name_at(self.source, outermost.name)?;
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        Ok(names)
    }

    fn index(&self, pc: u64) -> Option<u32> {
        let (_, index) = self.runs.iter().find(|(end, _)| pc < *end)?;
        u32::try_from(*index).ok()
    }

    fn node(&self, index: u32) -> Result<Call> {
        let address = self.address.wrapping_add(u64::from(index) * self.entry_size as u64);
        let at = self.image.offset(address).ok_or_else(|| self.malformed())?;
        let mut window = Window::scatter(self.source);
        let node = window.get(at, self.entry_size)?;
        let (id, name, parent) = if self.entry_size == 20 {
            (node[2], le32(&node[12..]), le32(&node[16..]))
        } else {
            (node[0], le32(&node[4..]), le32(&node[8..]))
        };
        Ok(Call { name, id, call: self.entry.wrapping_add(u64::from(parent)) })
    }

    fn malformed(&self) -> Error {
        Error::Malformed { what: "inline tree", at: self.address }
    }
}
