//! `runtime.firstmoduledata`: where text and data of the Go part of the executable are.
//!
//! Offsets up to `enoptrbss` have not moved since Go 1.19 (`src/runtime/symtab.go`, `type moduledata`).

use super::elf::Image;
use super::error::Result;
use super::layout::Layout;
use super::pclntab::Pclntab;
use super::source::{Source, Window, le64};

/// Bytes that are read of it: more than any version's offset of `gofunc`.
const SIZE: usize = 376;
/// Places at which a pair of pointers is looked at more closely.
const MAX_CANDIDATES: usize = 256;

/// Link-time addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModuleData {
    /// Its own address.
    pub address: u64,
    /// First byte of Go's text; not the start of `.text` when C code is linked in.
    pub text: u64,
    /// Behind the last byte of Go's text.
    pub text_end: u64,
    /// First byte of Go's writable data.
    pub data: u64,
    /// Behind the last byte of Go's writable data.
    pub data_end: u64,
    /// What function data is relative to; `None` where the layout of the version doesn't tell.
    pub gofunc: Option<u64>,
}

impl ModuleData {
    /// Finds the structure: it starts with the addresses of the function table and of its names.
    ///
    /// # Errors
    /// When the file is truncated.
    pub fn find(
        source: &dyn Source,
        image: &Image,
        table: &Pclntab,
        layout: &Layout,
    ) -> Result<Option<Self>> {
        let candidates = Self::candidates(source, image, table)?;
        let blocks = image.relocated(source, &candidates, SIZE)?;
        let mut sound =
            blocks.iter().filter_map(|(address, bytes)| Self::parse(bytes, *address, image, table, layout));
        Ok(sound.next())
    }

    fn parse(bytes: &[u8], address: u64, image: &Image, table: &Pclntab, layout: &Layout) -> Option<Self> {
        let word = |offset: usize| le64(&bytes[offset..]);
        let found = Self {
            address,
            text: word(176),
            text_end: word(184),
            data: word(192),
            data_end: word(248),
            gofunc: None,
        };
        let gofunc = word(usize::from(layout.moduledata.gofunc).min(SIZE - 8));
        let found = Self { gofunc: image.offset(gofunc).map(|_| gofunc), ..found };
        let names = table.address.checked_add(table.name_table)?;
        let sound = word(0) == table.address
            && word(8) == names
            && image.is_text(found.text, found.text_end)
            && found.data < found.data_end
            && found.data_end - found.data < 1 << 40
            // funcs in ftab, the sentinel included
            && word(136) == table.functions + 1;
        sound.then_some(found)
    }

    /// Where a pointer to the function table stands, followed by one to its names: in the file's own bytes,
    /// or written there by a relocation.
    fn candidates(source: &dyn Source, image: &Image, table: &Pclntab) -> Result<Vec<u64>> {
        let mut found = Vec::new();
        for segment in image.segments.iter().filter(|segment| segment.writable) {
            let mut window = Window::stream(source);
            let (mut at, end) = (segment.offset, (segment.offset + segment.file_size).min(source.size()));
            while at < end && found.len() < MAX_CANDIDATES {
                let chunk = window.chunk(at, end)?;
                let hits = chunk.chunks_exact(8).enumerate().filter(|(_, word)| le64(word) == table.address);
                found.extend(
                    hits.map(|(index, _)| segment.address + (at - segment.offset) + 8 * index as u64),
                );
                at += chunk.len() as u64;
            }
        }
        image.each_relocation(source, |place, value| {
            if value == table.address && found.len() < MAX_CANDIDATES {
                found.push(place);
            }
        })?;
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Whether an address is in Go's text.
    #[must_use]
    pub const fn has_text(&self, address: u64) -> bool {
        address >= self.text && address < self.text_end
    }

    /// Whether an address is in Go's writable data.
    #[must_use]
    pub const fn has_data(&self, address: u64) -> bool {
        address >= self.data && address < self.data_end
    }
}
