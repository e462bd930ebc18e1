//! A real Go program, read once.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use observer::gobin::GoBinary;
use observer::gobin::source::{Source, le64};

/// A file in memory.
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Source for Bytes {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        read_from(&self.0, offset, buf).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

pub(crate) fn read_from(bytes: &[u8], offset: u64, buf: &mut [u8]) -> Option<()> {
    let start = usize::try_from(offset).ok()?;
    buf.copy_from_slice(bytes.get(start..start.checked_add(buf.len())?)?);
    Some(())
}

pub(crate) struct Program {
    pub(crate) file: Arc<Bytes>,
    pub(crate) binary: GoBinary,
    /// File offset of the function table.
    pub(crate) table: u64,
}

impl Program {
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let file = Arc::new(Bytes(fs::read(path)?));
        let binary = GoBinary::analyse(&*file).map_err(io::Error::other)?;
        let table = binary.image.offset(binary.table.address);
        let table = table.ok_or_else(|| io::Error::other("its function table is not in the file"))?;
        Ok(Self { file, binary, table })
    }

    pub(crate) fn copy(&self) -> GoBinary {
        self.binary.clone()
    }

    /// File offset of a part of the function table: names, units, files, values, functions.
    pub(crate) fn part(&self, number: u64) -> u64 {
        let mut word = [0; 8];
        _ = self.file.read_at(self.table + 32 + 8 * number, &mut word);
        self.table.wrapping_add(le64(&word))
    }

    /// The bytes of the file at a linked address.
    pub(crate) fn bytes_at(&self, address: u64, length: usize) -> Option<&[u8]> {
        let offset = usize::try_from(self.binary.image.offset(address)?).ok()?;
        self.file.0.get(offset..offset + length)
    }
}
