//! The runtime's function table, which survives stripping: names, files and lines of every function.
//!
//! Format: Go 1.18 and newer, `src/runtime/symtab.go`, `src/internal/abi/symtab.go` (`pcHeader`, `_func`).
//! Nothing is kept in memory: a look-up reads what it needs through a window.

use rustc_hash::FxHashMap;

use super::elf::Image;
use super::error::{Error, Result};
use super::source::{Source, Window, le32, le64};

/// Go 1.18 and 1.19.
const MAGIC_118: u32 = 0xffff_fff0;
/// Go 1.20 and newer.
const MAGIC_120: u32 = 0xffff_fff1;
const HEADER: usize = 72;
/// More functions than the largest known programs have (about one million).
const MAX_FUNCTIONS: u64 = 8 << 20;
const MAX_NAME: usize = 4096;
/// Steps of one pc-value table before it is called endless.
const MAX_STEPS: usize = 1 << 20;
/// Runs of a table that is read whole: only small functions' are.
const MAX_RUNS: usize = 4096;
/// Wanted names that are remembered: the linker writes each once.
const MAX_WANTED: usize = 1024;
/// Functions of one name that are looked at: more than two make a name useless.
const MAX_NAMESAKES: usize = 4;

/// Where the parts of the table are. All offsets are from the start of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pclntab {
    /// Link-time address of the header.
    pub address: u64,
    /// Number of functions.
    pub functions: u64,
    /// Distance of the name table from the header: identifies `moduledata`, which points to both.
    pub name_table: u64,
    magic: u32,
    start: u64,
    units: u64,
    files: u64,
    values: u64,
    table: u64,
}

/// One function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// Link-time address of its first instruction.
    pub entry: u64,
    /// Address behind its last byte (padding included).
    pub end: u64,
    /// `_func.funcID`: what the runtime knows it as; 0 = ordinary.
    pub id: u8,
    /// `_func.flag`: see [`TOP_FRAME`] and [`WRITES_SP`].
    pub flags: u8,
    name: u32,
    record: u64,
}

/// `FuncFlagTopFrame`: nothing called it, so a stack ends here.
pub const TOP_FRAME: u8 = 1;
/// `FuncFlagSPWrite`: it sets the stack pointer in a way that its table doesn't tell.
pub const WRITES_SP: u8 = 2;

impl Pclntab {
    /// Finds the table: by its section, else by its magic in the loaded segments. Every candidate is
    /// offered to `accept`, and the first that it takes wins.
    ///
    /// # Errors
    /// [`Error::Malformed`] when there is none.
    pub fn find<T>(
        source: &dyn Source,
        image: &Image,
        mut accept: impl FnMut(Self) -> Result<Option<T>>,
    ) -> Result<(Self, T)> {
        for name in [&b".gopclntab"[..], b".data.rel.ro.gopclntab"] {
            let Some(section) = image.section(name) else { continue };
            if let Ok(table) = Self::read(source, image, section.offset)
                && let Some(found) = accept(table)?
            {
                return Ok((table, found));
            }
        }
        for segment in &image.segments {
            for at in Self::scan(source, segment.offset, segment.file_size)? {
                if let Ok(table) = Self::read(source, image, at)
                    && let Some(found) = accept(table)?
                {
                    return Ok((table, found));
                }
            }
        }
        Err(Error::Malformed { what: "function table (none was found)", at: 0 })
    }

    /// Offsets at which a header may start; a bounded number.
    fn scan(source: &dyn Source, offset: u64, size: u64) -> Result<Vec<u64>> {
        const MAX_CANDIDATES: usize = 64;
        let mut window = Window::stream(source);
        let (mut at, end) = (offset, offset.saturating_add(size).min(source.size()));
        let mut found = Vec::new();
        while at < end && found.len() < MAX_CANDIDATES {
            let chunk = window.chunk(at, end)?;
            let candidates = chunk
                .chunks_exact(8)
                .enumerate()
                .filter(|(_, word)| matches!(le32(word), MAGIC_118 | MAGIC_120) && word[4..] == [0, 0, 1, 8]);
            found.extend(candidates.map(|(index, _)| at + 8 * index as u64));
            at += chunk.len() as u64;
        }
        Ok(found)
    }

    fn read(source: &dyn Source, image: &Image, at: u64) -> Result<Self> {
        let malformed = Error::Malformed { what: "function table header", at };
        let mut window = Window::scatter(source);
        let header = window.get(at, HEADER)?;
        let word = |index: usize| le64(&header[8 * index..]);
        let magic = le32(header);
        let [functions, names, units, files, values, table] =
            [word(1), word(4), word(5), word(6), word(7), word(8)];
        let ascending =
            HEADER as u64 <= names && names < units && units < files && files < values && values < table;
        let sound = matches!(magic, MAGIC_118 | MAGIC_120)
            && header[4..8] == [0, 0, 1, 8]
            && ascending
            && (1..MAX_FUNCTIONS).contains(&functions)
            && at
                .checked_add(table)
                .and_then(|end| end.checked_add(functions * 8))
                .is_some_and(|end| end <= source.size());
        let address = image.address(at);
        let (true, Some(address)) = (sound, address) else { return Err(malformed) };
        Ok(Self {
            address,
            functions,
            name_table: names,
            magic,
            start: at,
            units: at + units,
            files: at + files,
            values: at + values,
            table: at + table,
        })
    }

    /// Which Go versions write this format.
    #[must_use]
    pub const fn format(&self) -> &'static str {
        if self.magic == MAGIC_118 { "go1.18" } else { "go1.20" }
    }

    /// Functions by name, for all names that `wanted` accepts. A name that two functions carry (as
    /// assembly functions and their ABI wrappers do) is given to the one that isn't `wrapper`, if just
    /// one isn't, else to none.
    ///
    /// # Errors
    /// When the table is malformed or truncated.
    pub fn functions_by_name(
        &self,
        source: &dyn Source,
        text: u64,
        wrapper: u8,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<FxHashMap<String, Function>> {
        let names = self.names(source, wanted)?;
        let mut found: FxHashMap<String, Vec<Function>> = FxHashMap::default();
        let (mut table, mut records) = (Window::stream(source), Window::stream(source));
        for index in 0..self.functions {
            let entry = le64(table.get(self.table + 8 * index, 8)?);
            let name = le32(records.get(self.table + (entry >> 32) + 4, 4)?);
            if let Some(text_name) = names.get(&name) {
                let namesakes = found.entry(text_name.clone()).or_default();
                if namesakes.len() < MAX_NAMESAKES {
                    namesakes.push(self.function(&mut records, &mut table, text, index)?);
                }
            }
        }
        let single = |functions: Vec<Function>| match functions.as_slice() {
            [one] => Some(*one),
            several => {
                let mut real = several.iter().filter(|function| function.id != wrapper);
                real.next().filter(|_| real.next().is_none()).copied()
            }
        };
        Ok(found.into_iter().filter_map(|(name, functions)| Some((name, single(functions)?))).collect())
    }

    /// Name offset → name, for the wanted names.
    fn names(&self, source: &dyn Source, wanted: impl Fn(&[u8]) -> bool) -> Result<FxHashMap<u32, String>> {
        let start = self.start + self.name_table;
        let mut window = Window::stream(source);
        let mut names = FxHashMap::default();
        let mut at = start;
        while at < self.units {
            let chunk = window.chunk(at, self.units)?;
            let mut used = 0;
            for name in chunk.split_inclusive(|byte| *byte == 0) {
                let Some((0, text)) = name.split_last() else { break };
                if wanted(text) && names.len() < MAX_WANTED {
                    let offset = at + used as u64 - start;
                    names.insert(offset as u32, String::from_utf8_lossy(text).into_owned());
                }
                used += name.len();
            }
            // A name longer than the window is no name that anyone asks for.
            at += if used == 0 { chunk.len() } else { used } as u64;
        }
        Ok(names)
    }

    /// The function that contains a link-time address.
    ///
    /// # Errors
    /// When the table is malformed or truncated.
    pub fn lookup(&self, source: &dyn Source, text: u64, pc: u64) -> Result<Option<Function>> {
        let mut window = Window::scatter(source);
        let Some(wanted) = pc.checked_sub(text) else { return Ok(None) };
        let (mut low, mut high) = (0, self.functions);
        while low < high {
            let middle = low + (high - low) / 2;
            if u64::from(window.u32(self.table + 8 * middle)?) <= wanted {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let Some(index) = low.checked_sub(1) else { return Ok(None) };
        let mut records = Window::scatter(source);
        let function = self.function(&mut records, &mut window, text, index)?;
        Ok((pc < function.end).then_some(function))
    }

    fn function(
        &self,
        records: &mut Window<'_>,
        table: &mut Window<'_>,
        text: u64,
        index: u64,
    ) -> Result<Function> {
        // Behind the last function stands one more entry offset: the end of the text.
        let entry = table.get(self.table + 8 * index, 12)?;
        let (from, record, to) = (le32(entry), le32(&entry[4..]), le32(&entry[8..]));
        let record = self.table + u64::from(record);
        let malformed = || Error::Malformed { what: "function", at: record };
        let bytes = records.get(record, 44)?;
        let (id, flags) =
            if self.magic == MAGIC_118 { (bytes[36], bytes[37]) } else { (bytes[40], bytes[41]) };
        let entry = text.checked_add(u64::from(from)).ok_or_else(malformed)?;
        let end = text.checked_add(u64::from(to)).filter(|end| *end > entry).ok_or_else(malformed)?;
        Ok(Function { entry, end, id, flags, name: le32(&bytes[4..]), record })
    }

    /// A function's name as the linker wrote it.
    ///
    /// # Errors
    /// When the table is truncated.
    pub fn name(&self, source: &dyn Source, function: &Function) -> Result<String> {
        self.name_at(source, function.name)
    }

    /// Source file and line of a link-time address inside `function`.
    ///
    /// # Errors
    /// When the table is malformed or truncated.
    pub fn line(&self, source: &dyn Source, function: &Function, pc: u64) -> Result<Option<(String, u32)>> {
        let mut window = Window::scatter(source);
        let record = window.get(function.record, 36)?;
        let (files, lines, unit) = (le32(&record[20..]), le32(&record[24..]), le32(&record[32..]));
        let (Some(file), Some(line)) =
            (self.value(source, files, function, pc)?, self.value(source, lines, function, pc)?)
        else {
            return Ok(None);
        };
        let slot = self.units + 4 * (u64::from(unit) + u64::from(file as u32));
        if file < 0 || line < 0 || slot >= self.files {
            return Ok(None);
        }
        let name = self.files + u64::from(window.u32(slot)?);
        if name >= self.values {
            return Err(Error::Malformed { what: "file name", at: slot });
        }
        let name = window.c_string(name, MAX_NAME)?;
        Ok(Some((String::from_utf8_lossy(&name).into_owned(), line as u32)))
    }

    /// How far the stack pointer has moved since the first instruction of `function` when `pc` is about to
    /// run, in bytes; `None` when the function has no such table (it isn't Go's) or it doesn't cover `pc`.
    ///
    /// # Errors
    /// When the table is malformed or truncated.
    pub fn stack_delta(&self, source: &dyn Source, function: &Function, pc: u64) -> Result<Option<i32>> {
        let table = Window::scatter(source).u32(function.record + 16)?;
        self.value(source, table, function, pc)
    }

    /// A name by its offset in the name table, as inline trees refer to it.
    ///
    /// # Errors
    /// When it isn't in the table.
    pub fn name_at(&self, source: &dyn Source, offset: u32) -> Result<String> {
        let at = self.start + self.name_table + u64::from(offset);
        if at >= self.units {
            return Err(Error::Malformed { what: "function name", at });
        }
        let name = Window::scatter(source).c_string(at, MAX_NAME)?;
        Ok(String::from_utf8_lossy(&name).into_owned())
    }

    /// Bytes of one entry of an inline tree.
    #[must_use]
    pub const fn inline_entry_size(&self) -> usize {
        if self.magic == MAGIC_118 { 20 } else { 16 }
    }

    /// Offset of a function's `index`-th pc-value table; `None` when it has none.
    ///
    /// # Errors
    /// When the function's record is truncated.
    pub fn pcdata(&self, source: &dyn Source, function: &Function, index: usize) -> Result<Option<u32>> {
        let (size, count, _) = self.tail(source, function)?;
        if index >= count {
            return Ok(None);
        }
        let offset = Window::scatter(source).u32(function.record + size + 4 * index as u64)?;
        Ok((offset != 0).then_some(offset))
    }

    /// A function's `index`-th function data, relative to `moduledata.gofunc`; `None` when it has none.
    ///
    /// # Errors
    /// When the function's record is truncated.
    pub fn funcdata(&self, source: &dyn Source, function: &Function, index: usize) -> Result<Option<u32>> {
        let (size, tables, count) = self.tail(source, function)?;
        if index >= count {
            return Ok(None);
        }
        let offset = Window::scatter(source).u32(function.record + size + 4 * (tables + index) as u64)?;
        Ok((offset != u32::MAX).then_some(offset))
    }

    /// Size of a record's fixed part, and the numbers of pc-value tables and function data behind it.
    fn tail(&self, source: &dyn Source, function: &Function) -> Result<(u64, usize, usize)> {
        let size = if self.magic == MAGIC_118 { 40 } else { 44 };
        let mut window = Window::scatter(source);
        let record = window.get(function.record, size)?;
        Ok((size as u64, le32(&record[28..]) as usize, usize::from(record[size - 1])))
    }

    /// The runs of a pc-value table, at most 4096: (address behind the run, value).
    ///
    /// # Errors
    /// When the table is malformed or truncated.
    pub fn runs(&self, source: &dyn Source, offset: u32, function: &Function) -> Result<Vec<(u64, i32)>> {
        let mut runs = Vec::new();
        self.walk(source, offset, function, |end, value| {
            runs.push((end, value));
            runs.len() >= MAX_RUNS
        })?;
        Ok(runs)
    }

    /// The value that a pc-value table gives for an address (`runtime.pcvalue`).
    fn value(&self, source: &dyn Source, offset: u32, function: &Function, pc: u64) -> Result<Option<i32>> {
        let mut found = None;
        if offset != 0 {
            self.walk(source, offset, function, |end, value| {
                found = (pc < end).then_some(value);
                found.is_some()
            })?;
        }
        Ok(found)
    }

    /// Calls `visit(end, value)` for each run of a pc-value table, until it says true or the table ends.
    fn walk(
        &self,
        source: &dyn Source,
        offset: u32,
        function: &Function,
        mut visit: impl FnMut(u64, i32) -> bool,
    ) -> Result<()> {
        let mut window = Window::scatter(source);
        let start = self.values + u64::from(offset);
        let (mut at, mut value, mut address) = (start, -1i32, function.entry);
        for step in 0..MAX_STEPS {
            let delta = varint(&mut window, &mut at, self.table)?;
            if delta == 0 && step > 0 {
                return Ok(());
            }
            value = value.wrapping_add((delta >> 1) as i32 ^ -((delta & 1) as i32));
            address = address.wrapping_add(u64::from(varint(&mut window, &mut at, self.table)?));
            if visit(address, value) {
                return Ok(());
            }
        }
        Err(Error::Malformed { what: "endless pc-value table", at: start })
    }
}

fn varint(window: &mut Window<'_>, at: &mut u64, end: u64) -> Result<u32> {
    let (mut value, mut shift) = (0u32, 0);
    while shift < 35 && *at < end {
        let byte = window.get(*at, 1)?[0];
        *at += 1;
        value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
        shift += 7;
    }
    Err(Error::Malformed { what: "pc-value table", at: *at })
}
