//! Where the bytes of an executable come from, read through small windows.
//!
//! An executable is hostile input and may be gigabytes long, shrink while it is read, or sit on a slow
//! disk: it is never mapped, and a pass over it holds one window in memory.

use std::cell::Cell;
use std::io;

use super::error::{Error, Result};

/// Random access to the bytes of an executable. Implemented outside this stage for files.
pub trait Source {
    /// Its length in bytes.
    fn size(&self) -> u64;
    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// When fewer bytes are there.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}

impl Source for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..)?.get(..buf.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

/// What a read costs at least, however short it is.
const READ: u64 = 4 << 10;

/// A [`Source`] of which only so much is read: tables that overlap or are searched again and again then
/// cost an error instead of time. A window turns its refusal into [`Error::Budget`].
pub struct Budget<'a> {
    source: &'a dyn Source,
    limit: u64,
    left: Cell<u64>,
}

impl<'a> Budget<'a> {
    /// Allows `limit` bytes.
    pub fn new(source: &'a dyn Source, limit: u64) -> Self {
        Self { source, limit, left: Cell::new(limit) }
    }

    /// For an analysis of the whole file: each of its parts is read at most a few times.
    pub fn analysis(source: &'a dyn Source) -> Self {
        Self::new(source, Self::for_size(source.size()))
    }

    /// What the analysis of a file of `size` bytes may read; also the number of reads is bounded by it.
    #[must_use]
    pub const fn for_size(size: u64) -> u64 {
        size.saturating_mul(4).saturating_add(1 << 20)
    }
}

impl Source for Budget<'_> {
    fn size(&self) -> u64 {
        self.source.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let left = self.left.get().checked_sub((buf.len() as u64).max(READ));
        self.left.set(left.unwrap_or(0));
        match left {
            Some(_) => self.source.read_at(offset, buf),
            None => Err(io::Error::new(io::ErrorKind::QuotaExceeded, Exhausted(self.limit))),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("more than {0} bytes were to be read")]
struct Exhausted(u64);

fn read_error(error: &io::Error, at: u64) -> Error {
    let exhausted = error.get_ref().and_then(|inner| inner.downcast_ref::<Exhausted>());
    match (error.kind(), exhausted) {
        (_, Some(Exhausted(limit))) => Error::Budget { limit: *limit },
        (io::ErrorKind::UnexpectedEof, None) => Error::Truncated { at },
        _ => Error::Io(error.to_string()),
    }
}

/// A window that moves over a [`Source`]; reads behind the window's end move it.
pub struct Window<'a> {
    source: &'a dyn Source,
    bytes: Vec<u8>,
    start: u64,
    step: usize,
}

/// Window of a pass from front to back.
const STREAM: usize = 256 << 10;
/// Window of scattered reads.
const SCATTER: usize = 4 << 10;
/// The longest single read: no structure of an executable that we look at is larger.
const MAX_READ: usize = 1 << 20;

impl<'a> Window<'a> {
    /// For a pass from front to back.
    pub fn stream(source: &'a dyn Source) -> Self {
        Self { source, bytes: Vec::new(), start: 0, step: STREAM }
    }

    /// For scattered reads.
    pub fn scatter(source: &'a dyn Source) -> Self {
        Self { source, bytes: Vec::new(), start: 0, step: SCATTER }
    }

    /// `len` bytes from `offset`.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the source ends before, [`Error::Malformed`] when `len` is out of bounds.
    pub fn get(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        if len > MAX_READ {
            return Err(Error::Malformed { what: "length", at: offset });
        }
        let end = offset.checked_add(len as u64).ok_or(Error::Malformed { what: "offset", at: offset })?;
        if offset < self.start || end > self.start + self.bytes.len() as u64 {
            self.fill(offset, len)?;
        }
        let from = (offset - self.start) as usize;
        Ok(&self.bytes[from..from + len])
    }

    /// All that the window holds from `offset`, at least one byte and at most `limit − offset`.
    ///
    /// # Errors
    /// As [`Window::get`].
    pub fn chunk(&mut self, offset: u64, limit: u64) -> Result<&[u8]> {
        let limit = limit.min(self.source.size());
        if offset >= limit {
            return Err(Error::Truncated { at: offset });
        }
        let want = (limit - offset).min(self.step as u64) as usize;
        self.get(offset, want)
    }

    fn fill(&mut self, offset: u64, len: usize) -> Result<()> {
        let left = self.source.size().saturating_sub(offset);
        if left < len as u64 {
            return Err(Error::Truncated { at: offset });
        }
        self.bytes.resize(left.min(self.step.max(len) as u64) as usize, 0);
        self.start = offset;
        self.source.read_at(offset, &mut self.bytes).map_err(|error| {
            self.bytes.clear();
            read_error(&error, offset)
        })
    }

    /// A little-endian `u64` at `offset`.
    ///
    /// # Errors
    /// As [`Window::get`].
    pub fn u64(&mut self, offset: u64) -> Result<u64> {
        Ok(le64(self.get(offset, 8)?))
    }

    /// A little-endian `u32` at `offset`.
    ///
    /// # Errors
    /// As [`Window::get`].
    pub fn u32(&mut self, offset: u64) -> Result<u32> {
        Ok(le32(self.get(offset, 4)?))
    }

    /// The bytes up to the first NUL, at most `max`; a longer string is cut.
    ///
    /// # Errors
    /// As [`Window::get`].
    pub fn c_string(&mut self, offset: u64, max: usize) -> Result<Vec<u8>> {
        let end = offset.saturating_add(max as u64);
        let mut text = Vec::new();
        let mut at = offset;
        while at < end {
            let chunk = self.chunk(at, end)?;
            if let Some(nul) = chunk.iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&chunk[..nul]);
                return Ok(text);
            }
            text.extend_from_slice(chunk);
            at += chunk.len() as u64;
        }
        Ok(text)
    }
}

/// The first eight bytes as a little-endian number; missing bytes are 0.
#[inline]
#[must_use]
pub fn le64(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or_else(|| le_short(bytes), |word| u64::from_le_bytes(*word))
}

/// The first four bytes as a little-endian number; missing bytes are 0.
#[inline]
#[must_use]
pub fn le32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or_else(|| le_short(bytes) as u32, |word| u32::from_le_bytes(*word))
}

/// Apart from the others, because a copy of variable length is a call: with one for each word, a snapshot of 200 000
/// goroutines took 50 ms instead of 42.
#[cold]
fn le_short(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::{le32, le64};

    /// Bytes that are missing are 0, and bytes too many are left alone.
    #[test]
    fn numbers_of_any_length() {
        let bytes = [0x81, 0x92, 0xa3, 0xb4, 0xc5, 0xd6, 0xe7, 0xf8, 0xff];
        for len in 0..=bytes.len() {
            let mut padded = [0; 8];
            padded[..len.min(8)].copy_from_slice(&bytes[..len.min(8)]);
            assert_eq!(le64(&bytes[..len]), u64::from_le_bytes(padded), "{len} bytes");
            padded[4..].fill(0);
            assert_eq!(u64::from(le32(&bytes[..len])), u64::from_le_bytes(padded), "{len} bytes");
        }
    }
}
