//! The smallest file that is taken for a Go executable: one segment, four functions, no sections. Tests
//! break it in one place each.

use observer::gobin::layout;

/// Link-time address of the file's first byte.
pub(crate) const BASE: u64 = 0x40_0000;
/// File offsets.
pub(crate) const PROGRAM_HEADERS: usize = 64;
pub(crate) const BUILD_INFO: usize = 0x200;
pub(crate) const TEXT: usize = 0x1000;
pub(crate) const TABLE: usize = 0x2000;
pub(crate) const MODULE: usize = 0x4000;
pub(crate) const END: usize = 0x5000;
/// Parts of the function table, relative to it.
const NAMES: usize = 0x100;
const UNITS: usize = 0x200;
const FILES: usize = 0x300;
const VALUES: usize = 0x400;
const FUNCTIONS: usize = 0x600;
/// File offset of what function data is relative to.
const FUNCTION_DATA: usize = TABLE + 0x1000;
/// Functions, their records' offsets behind the table, and bytes of code of each.
const NAMED: [&str; 4] = ["main.spawn", "main.spawn.gowrap1", "main.work", "runtime.allgadd"];
pub(crate) const WRAPPER: usize = 1;
pub(crate) const WORK: usize = 2;
const RECORDS: usize = 0x40;
const RECORD: usize = 0x80;
pub(crate) const CODE: usize = 0x40;
/// `funcID_wrapper` of Go 1.27.
const WRAPPER_ID: u8 = 23;

pub(crate) struct Synthetic(pub(crate) Vec<u8>);

impl Synthetic {
    pub(crate) fn new() -> Self {
        let mut file = Self(vec![0; END]);
        file.headers();
        file.build_info("go1.27.3");
        file.0[TEXT..TEXT + NAMED.len() * CODE].fill(0x90);
        file.function_table();
        file.module();
        file
    }

    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        if self.0.len() < at + bytes.len() {
            self.0.resize(at + bytes.len(), 0);
        }
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn u64(&mut self, at: usize, value: u64) -> &mut Self {
        self.put(at, &value.to_le_bytes())
    }

    pub(crate) fn u32(&mut self, at: usize, value: usize) -> &mut Self {
        self.put(at, &(value as u32).to_le_bytes())
    }

    /// Writes a program header; `offset` is also where it is loaded.
    pub(crate) fn segment(&mut self, index: usize, kind: u32, offset: u64, size: u64) -> &mut Self {
        let at = PROGRAM_HEADERS + index * 56;
        self.put(at, &kind.to_le_bytes()).put(at + 4, &7u32.to_le_bytes());
        self.u64(at + 8, offset).u64(at + 16, BASE + offset).u64(at + 24, BASE + offset);
        self.u64(at + 32, size).u64(at + 40, size);
        let count = u16::from_le_bytes([self.0[56], self.0[57]]).max(index as u16 + 1);
        self.put(56, &count.to_le_bytes())
    }

    /// Lets the first segment hold the whole file.
    pub(crate) fn load_all(&mut self) -> &mut Self {
        let size = self.0.len() as u64;
        self.segment(0, 1, 0, size)
    }

    fn headers(&mut self) {
        self.put(0, b"\x7fELF\x02\x01\x01");
        self.put(16, &2u16.to_le_bytes()).put(18, &62u16.to_le_bytes());
        self.u64(24, BASE + TEXT as u64).u64(32, PROGRAM_HEADERS as u64);
        self.put(54, &56u16.to_le_bytes()).put(58, &64u16.to_le_bytes());
        self.load_all();
    }

    pub(crate) fn build_info(&mut self, version: &str) -> &mut Self {
        self.build_info_at(BUILD_INFO, version)
    }

    pub(crate) fn build_info_at(&mut self, at: usize, version: &str) -> &mut Self {
        let mut blob = b"\xff Go buildinf:\x08\x02".to_vec();
        blob.resize(32, 0);
        let mut length = version.len();
        while length >= 0x80 {
            blob.push(length as u8 | 0x80);
            length >>= 7;
        }
        blob.push(length as u8);
        blob.extend(version.as_bytes());
        blob.push(0);
        self.put(at, &blob)
    }

    fn function_table(&mut self) {
        self.put(TABLE, &[0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8]).u64(TABLE + 8, NAMED.len() as u64);
        self.u64(TABLE + 24, BASE + TEXT as u64);
        for (index, part) in [NAMES, UNITS, FILES, VALUES, FUNCTIONS].into_iter().enumerate() {
            self.u64(TABLE + 32 + 8 * index, part as u64);
        }
        self.put(TABLE + FILES, b"main.go\0");
        let mut name = 1;
        for (index, text) in NAMED.into_iter().enumerate() {
            self.put(TABLE + NAMES + name, text.as_bytes());
            self.function(index, name);
            name += text.len() + 1;
        }
        self.u32(TABLE + FUNCTIONS + 8 * NAMED.len(), NAMED.len() * CODE);
        // One run over the function: value 0.
        self.put(TABLE + VALUES + 1, &[2, CODE as u8, 0]);
    }

    fn function(&mut self, index: usize, name: usize) {
        let entry = TABLE + FUNCTIONS + 8 * index;
        let record = TABLE + FUNCTIONS + RECORDS + RECORD * index;
        self.u32(entry, index * CODE).u32(entry + 4, RECORDS + RECORD * index);
        self.u32(record, index * CODE).u32(record + 4, name);
        self.u32(record + 20, 1).u32(record + 24, 1);
        if index == WRAPPER {
            self.put(record + 40, &[WRAPPER_ID, 0, 0, 4]);
            // Third table of values: the index into the inline tree, which is the fourth function data.
            self.u32(record + 28, 3).u32(record + 44 + 8, 1);
            self.u32(record + 44 + 12 + 12, 0);
            self.inline_entry(0, name, CODE);
        }
    }

    /// An entry of the wrapper's inline tree; its parent is what stands at `parent_pc`.
    pub(crate) fn inline_entry(&mut self, index: usize, name: usize, parent_pc: usize) -> &mut Self {
        let at = FUNCTION_DATA + 16 * index;
        self.u32(at + 4, name).u32(at + 8, parent_pc)
    }

    /// Replaces the wrapper's table of indices into the inline tree.
    pub(crate) fn inline_indices(&mut self, table: &[u8]) -> &mut Self {
        let at = self.0.len();
        let record = TABLE + FUNCTIONS + RECORDS + RECORD * WRAPPER;
        self.put(at, table).u32(record + 44 + 8, at - TABLE - VALUES);
        // Tables of values end where the functions start: those go behind it.
        let functions = self.0[TABLE + FUNCTIONS..TABLE + FUNCTIONS + 0x400].to_vec();
        let moved = self.0.len();
        self.put(moved, &functions).u64(TABLE + 64, (moved - TABLE) as u64).load_all()
    }

    /// Offset of a function's name in the name table.
    pub(crate) fn name_of(index: usize) -> usize {
        1 + NAMED[..index].iter().map(|name| name.len() + 1).sum::<usize>()
    }

    fn module(&mut self) {
        let gofunc = usize::from(layout::for_minor(27).unwrap().moduledata.gofunc);
        self.u64(MODULE, BASE + TABLE as u64).u64(MODULE + 8, BASE + (TABLE + NAMES) as u64);
        self.u64(MODULE + 136, NAMED.len() as u64 + 1);
        self.u64(MODULE + 176, BASE + TEXT as u64);
        self.u64(MODULE + 184, BASE + (TEXT + NAMED.len() * CODE) as u64);
        self.u64(MODULE + 192, BASE + MODULE as u64).u64(MODULE + 248, BASE + END as u64);
        self.u64(MODULE + gofunc, BASE + FUNCTION_DATA as u64);
    }

    /// Link-time address of a function.
    pub(crate) fn address(function: usize) -> u64 {
        BASE + (TEXT + function * CODE) as u64
    }
}
