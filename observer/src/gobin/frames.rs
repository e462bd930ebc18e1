//! Source positions of a stack: every program counter becomes the functions that it is in, those inlined
//! there included, and what the compiler made for itself is left out.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::GoBinary;
use super::error::Result;
use super::inline::Tree;
use super::kind::Kind;
use super::naming::{MAX_READ, display};
use super::pclntab::Function;
use super::source::{Budget, Source};
use super::version::GoVersion;
use crate::text::{printable, truncated};

/// More program counters than the stacks of a real program hold at one time.
const MAX_KNOWN: usize = 1 << 16;
/// The most of a function's name and of a file's that is kept.
const MAX_NAME: usize = 1024;

/// One function on a stack. Texts are fit to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its name as the runtime prints it.
    pub function: Arc<str>,
    /// Its name as the linker wrote it.
    pub linked: Arc<str>,
    /// Source file; empty when it isn't known.
    pub file: Arc<str>,
    /// Line of the call, or of what it was about to run; 0 when it isn't known.
    pub line: u32,
    /// Behind the first byte of an instruction that has the line, in the target: what Go's profiles have, whose
    /// readers take one from every address to get into the call.
    pub pc: u64,
    /// Where the code goes on that it is in, in the target.
    pub resume: u64,
    /// First instruction of the function that holds this code, in the target.
    pub entry: u64,
    /// What the runtime knows it as.
    pub kind: Kind,
    /// It was inlined into the next frame.
    pub inlined: bool,
}

/// Turns stacks into frames and remembers what it looked up.
pub struct Frames {
    binary: Arc<GoBinary>,
    source: Arc<dyn Source + Send + Sync>,
    bias: u64,
    known: FxHashMap<(u64, bool), Arc<[Frame]>>,
    entries: FxHashMap<u64, Arc<str>>,
    texts: FxHashSet<Arc<str>>,
}

impl Frames {
    /// `bias` = load address − link-time address.
    #[must_use]
    pub fn new(binary: Arc<GoBinary>, source: Arc<dyn Source + Send + Sync>, bias: u64) -> Self {
        Self {
            binary,
            source,
            bias,
            known: FxHashMap::default(),
            entries: FxHashMap::default(),
            texts: FxHashSet::default(),
        }
    }

    /// The Go version of the executable.
    #[must_use]
    pub fn version(&self) -> GoVersion {
        self.binary.version
    }

    /// The frames of a stack, given as the program counters of its functions, the innermost first, as the
    /// unwinder found them. A program counter that belongs to no function is left out.
    pub fn of_stack(&mut self, pcs: &[u64]) -> Vec<Frame> {
        let mut frames = Vec::with_capacity(pcs.len());
        let (mut interrupted, mut callee) = (false, Kind::Ordinary);
        for pc in pcs {
            let here = self.at(*pc, interrupted);
            for frame in here.iter() {
                if frame.kind != Kind::Wrapper || callee.shows_wrapper() {
                    frames.push(frame.clone());
                }
                callee = frame.kind;
            }
            interrupted = callee.interrupts();
        }
        frames
    }

    /// The `go` statement behind a creation PC, in the function that the runtime names as the creator. `None`
    /// when it is in no function.
    pub fn creator(&mut self, gopc: u64) -> Option<Frame> {
        let here = self.at(gopc, false);
        // The runtime names the function that holds the code, with the line of what is inlined there.
        let (innermost, function) = (here.first()?, here.last()?);
        Some(Frame { file: innermost.file.clone(), line: innermost.line, ..function.clone() })
    }

    /// The function that a goroutine runs; of a wrapper what it wraps.
    pub fn entry(&mut self, pc: u64) -> Arc<str> {
        if let Some(name) = self.entries.get(&pc) {
            return name.clone();
        }
        let source = Budget::new(&*self.source, MAX_READ);
        let name = self.binary.entry_name(&source, pc.wrapping_sub(self.bias)).unwrap_or_default();
        let name = self.text(name);
        if self.entries.len() >= MAX_KNOWN {
            self.entries.clear();
        }
        self.entries.insert(pc, name.clone());
        name
    }

    /// What a program counter is in, the innermost function first. `interrupted`: it is the next instruction,
    /// not the return address of a call.
    fn at(&mut self, pc: u64, interrupted: bool) -> Arc<[Frame]> {
        if let Some(frames) = self.known.get(&(pc, interrupted)) {
            return frames.clone();
        }
        let frames: Arc<[Frame]> = self.look_up(pc, interrupted).unwrap_or_default().into();
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
            self.texts.clear();
        }
        self.known.insert((pc, interrupted), frames.clone());
        frames
    }

    fn look_up(&mut self, pc: u64, interrupted: bool) -> Result<Vec<Frame>> {
        let (binary, file) = (self.binary.clone(), self.source.clone());
        let source: &dyn Source = &Budget::new(&*file, MAX_READ);
        let linked = pc.wrapping_sub(self.bias);
        let Some(function) = binary.table.lookup(source, binary.module.text, linked)? else {
            return Ok(Vec::new());
        };
        // A return address may be the next statement's, or even another function's inlined body.
        let back = u64::from(!interrupted && linked > function.entry);
        let mut at = linked - back;
        let tree = match binary.module.gofunc {
            Some(gofunc) => Tree::read(source, &binary.image, &binary.table, &function, gofunc)?,
            None => None,
        };
        let mut frames = Vec::new();
        for call in tree.map_or(Ok(Vec::new()), |tree| tree.calls(at))? {
            let name = binary.table.name_at(source, call.name)?;
            let frame = self.frame(source, &function, name, call.id, (at, linked), true)?;
            frames.push(frame);
            at = call.call;
        }
        let name = binary.table.name(source, &function)?;
        frames.push(self.frame(source, &function, name, function.id, (at, linked), false)?);
        Ok(frames)
    }

    /// One frame, whose line is that of the instruction at `at`, and whose code goes on at `resume`.
    fn frame(
        &mut self,
        source: &dyn Source,
        function: &Function,
        name: String,
        id: u8,
        (at, resume): (u64, u64),
        inlined: bool,
    ) -> Result<Frame> {
        let (file, line) = self.binary.table.line(source, function, at)?.unwrap_or_default();
        Ok(Frame {
            function: self.text(display(&name, self.binary.version)),
            linked: self.text(name),
            file: self.text(file),
            line,
            pc: (at + 1).wrapping_add(self.bias),
            resume: resume.wrapping_add(self.bias),
            entry: function.entry.wrapping_add(self.bias),
            kind: Kind::of(self.binary.version, id),
            inlined,
        })
    }

    /// Fit to show; the same text is kept once.
    fn text(&mut self, text: String) -> Arc<str> {
        let text = printable(&text);
        let text = truncated(&text, MAX_NAME);
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let text: Arc<str> = text.into();
        self.texts.insert(text.clone());
        text
    }
}
