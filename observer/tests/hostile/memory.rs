//! Memory of a process that does not exist.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use observer::snapshot::memory::{Fault, Memory};

/// Mapped regions; an address that is in none of them is unreadable.
#[derive(Default)]
pub(crate) struct Fake {
    regions: Mutex<BTreeMap<u64, Vec<u8>>>,
    /// Bytes that one `gather` copies at most.
    pub(crate) at_most: Mutex<Option<usize>>,
    /// The first `gather` of several ranges lasts until then.
    pub(crate) slow_until: Mutex<Option<Instant>>,
    /// Calls so far.
    pub(crate) calls: AtomicU64,
}

impl Fake {
    pub(crate) fn map(&self, address: u64, bytes: Vec<u8>) {
        self.regions.lock().unwrap().insert(address, bytes);
    }

    pub(crate) fn put(&self, address: u64, bytes: &[u8]) {
        let mut regions = self.regions.lock().unwrap();
        let (start, region) = regions.range_mut(..=address).next_back().unwrap();
        let at = (address - start) as usize;
        region[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// How many of `len` bytes at `address` there are; they are copied.
    fn copy(&self, address: u64, buf: &mut [u8]) -> usize {
        let regions = self.regions.lock().unwrap();
        let Some((start, region)) = regions.range(..=address).next_back() else { return 0 };
        let rest = usize::try_from(address - start).ok().and_then(|at| region.get(at..)).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        len
    }
}

impl Memory for Fake {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Fault> {
        self.calls.fetch_add(1, Relaxed);
        if self.copy(address, buf) == buf.len() { Ok(()) } else { Err(Fault::Unmapped(address)) }
    }

    fn gather(&self, ranges: &[(u64, usize)], buf: &mut [u8]) -> Result<usize, Fault> {
        self.calls.fetch_add(1, Relaxed);
        assert!(ranges.len() <= 1024 && ranges.iter().map(|range| range.1).sum::<usize>() <= buf.len());
        if ranges.len() > 1
            && let Some(until) = self.slow_until.lock().unwrap().take()
        {
            while Instant::now() <= until {
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
            }
        }
        let limit = self.at_most.lock().unwrap().unwrap_or(usize::MAX).min(buf.len());
        let mut total = 0;
        for (address, len) in ranges {
            let want = (*len).min(limit - total);
            let read = self.copy(*address, &mut buf[total..total + want]);
            total += read;
            if read < *len {
                break;
            }
        }
        if total == 0 { Err(Fault::Unmapped(ranges[0].0)) } else { Ok(total) }
    }
}
