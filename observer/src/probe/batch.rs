//! Reading and deleting many entries of a hash map with one system call each, which aya doesn't offer.
//!
//! One entry at a time would take two system calls per callsite and tick.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use observer_ebpf::abi::{CallsiteCounts, CallsiteKey, Durations, Parked, ParkedKey, WaitCounts, WaitKey};

use super::syscall::bpf;

const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_DELETE_BATCH: libc::c_long = 27;

/// Room for the values of one system call.
const BUFFER_BYTES: usize = 1 << 20;

/// The part of the kernel's `union bpf_attr` that batch operations use.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/bpf.h>
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// A key of one of our maps: integers only, so that any bytes make one.
pub(super) trait Key: Copy + Default {}

impl Key for CallsiteKey {}
impl Key for ParkedKey {}
impl Key for WaitKey {}

/// A value of one of our maps: integers only, so that any bytes make one, and a multiple of eight bytes.
pub(super) trait Value: Copy + Default {
    /// Adds what another CPU counted.
    fn add(&mut self, other: &Self);
}

impl Value for CallsiteCounts {
    fn add(&mut self, other: &Self) {
        self.created = self.created.wrapping_add(other.created);
        self.exited = self.exited.wrapping_add(other.exited);
        self.parked = self.parked.wrapping_add(other.parked);
        self.on_cpu = self.on_cpu.wrapping_add(other.on_cpu);
    }
}

impl Value for WaitCounts {
    fn add(&mut self, other: &Self) {
        self.parks = self.parks.wrapping_add(other.parks);
        self.until_ready.add(&other.until_ready);
        self.until_run.add(&other.until_run);
        self.queued.add(&other.queued);
    }
}

impl Value for Durations {
    fn add(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket = bucket.wrapping_add(more);
        }
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }
}

/// Not per CPU: there is one value, and nothing to add.
impl Value for Parked {
    fn add(&mut self, other: &Self) {
        *self = *other;
    }
}

/// Calls `each` with every key and its sum over the CPUs.
///
/// `cpus` is the number of possible CPUs, since the kernel writes that many values for each key of a
/// per-CPU map; 1 for any other.
pub(super) fn for_each<K: Key, V: Value>(
    map: BorrowedFd<'_>,
    cpus: usize,
    each: impl FnMut(K, V),
) -> io::Result<()> {
    let entries = BUFFER_BYTES / (cpus * size_of::<V>());
    for_each_in(Buffers::new(entries.max(1), cpus), map, cpus, each)
}

fn for_each_in<K: Key, V: Value>(
    mut buffers: Buffers<K, V>,
    map: BorrowedFd<'_>,
    cpus: usize,
    mut each: impl FnMut(K, V),
) -> io::Result<()> {
    // The kernel's cursor: which of the map's buckets comes next.
    let mut cursor: Option<u32> = None;
    loop {
        let (count, next) = match buffers.lookup(map, cursor) {
            Ok((count, next)) => (count, Some(next)),
            Err((Errno::ENOENT, count)) => (count, None),
            // One bucket has more entries than there is room for; nothing was read.
            Err((Errno::ENOSPC, _)) => {
                buffers = Buffers::new(buffers.keys.len() * 2, cpus);
                continue;
            }
            Err((errno, _)) => return Err(errno.into()),
        };
        for (key, values) in buffers.keys.iter().zip(buffers.values.chunks_exact(cpus)).take(count) {
            each(*key, sum(values));
        }
        match next {
            Some(next) => cursor = Some(next),
            None => return Ok(()),
        }
    }
}

/// Deletes `keys`; one that isn't there any more is none to worry about.
pub(super) fn delete<K: Key>(map: BorrowedFd<'_>, keys: &[K]) -> io::Result<()> {
    let mut rest = keys;
    while !rest.is_empty() {
        let mut attr = BatchAttr {
            keys: rest.as_ptr() as u64,
            count: u32::try_from(rest.len()).unwrap_or(u32::MAX),
            map_fd: map.as_raw_fd() as u32,
            ..BatchAttr::default()
        };
        match batch(BPF_MAP_DELETE_BATCH, &mut attr) {
            Ok(()) => return Ok(()),
            // The kernel stops at a missing key, and says how many it had deleted before.
            Err(Errno::ENOENT) => rest = rest.get(attr.count as usize + 1..).unwrap_or_default(),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn sum<V: Value>(values: &[V]) -> V {
    values.iter().fold(V::default(), |mut sum, value| {
        sum.add(value);
        sum
    })
}

/// Where the kernel writes one batch.
struct Buffers<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K: Key, V: Value> Buffers<K, V> {
    fn new(entries: usize, cpus: usize) -> Self {
        Self { keys: vec![K::default(); entries], values: vec![V::default(); entries * cpus] }
    }

    /// The number of entries read and the next cursor; an error also has the number of entries read.
    fn lookup(&mut self, map: BorrowedFd<'_>, cursor: Option<u32>) -> Result<(usize, u32), (Errno, usize)> {
        let mut next = 0_u32;
        let mut attr = BatchAttr {
            in_batch: cursor.as_ref().map_or(0, |cursor| &raw const *cursor as u64),
            out_batch: &raw mut next as u64,
            keys: self.keys.as_mut_ptr() as u64,
            values: self.values.as_mut_ptr() as u64,
            count: u32::try_from(self.keys.len()).unwrap_or(u32::MAX),
            map_fd: map.as_raw_fd() as u32,
            ..BatchAttr::default()
        };
        let result = batch(BPF_MAP_LOOKUP_BATCH, &mut attr);
        let count = attr.count as usize;
        result.map(|()| (count, next)).map_err(|errno| (errno, count))
    }
}

/// Runs a batch operation.
#[allow(unsafe_code, reason = "a system call that aya doesn't offer")]
fn batch(command: libc::c_long, attr: &mut BatchAttr) -> Result<(), Errno> {
    // SAFETY: its pointers are to live buffers with room for `count` keys and, for a look-up, `count` values of every
    // possible CPU, which is what the kernel writes.
    unsafe { bpf(command, attr) }.map(drop)
}

/// The layouts that the kernel copies to: a value per CPU takes a multiple of eight bytes.
const _: () = {
    assert!(size_of::<CallsiteCounts>().is_multiple_of(8));
    assert!(size_of::<Parked>().is_multiple_of(8));
    assert!(size_of::<WaitCounts>().is_multiple_of(8));
    assert!(size_of::<BatchAttr>() == 56);
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::env;
    use std::os::fd::AsFd;

    use aya::maps::{PerCpuHashMap, PerCpuValues};
    use aya::util::nr_cpus;
    use aya::{Ebpf, EbpfLoader};

    use super::super::object;
    use super::*;

    const KEYS: u64 = 3000;

    /// Every key is read once with the sum of its values, whether the buffers hold all keys or
    /// fewer than the kernel keeps in one bucket; deleting passes over keys that aren't there.
    #[test]
    fn all_entries_are_read_and_deleted() {
        if !nix::unistd::Uid::effective().is_root() {
            assert_ne!(env::var("OBSERVER_REQUIRE").as_deref(), Ok("1"), "missing: root");
            println!("skipped: needs root");
            return;
        }
        let cpus = nr_cpus().unwrap();
        // Both kinds of map: preallocated, and allocated on use.
        for kernel in [Some((5, 15)), Some((6, 1))] {
            read_and_delete(kernel, cpus);
        }
    }

    fn read_and_delete(kernel: Option<(u32, u32)>, cpus: usize) {
        let (object, _) = object::fitted(kernel, 0).unwrap();
        let mut ebpf = EbpfLoader::new().map_max_entries("COUNTS", 4000).load(&object).unwrap();
        let map = filled(&mut ebpf, cpus);
        let fd = map.fd().as_fd();
        let expected: BTreeMap<CallsiteKey, u64> = (0..KEYS).map(|n| (key(n), n * cpus as u64)).collect();
        for entries in [1, 2, 100, 5000] {
            let mut read = Vec::new();
            for_each_in(Buffers::new(entries, cpus), fd, cpus, |key: CallsiteKey, sum: CallsiteCounts| {
                assert_eq!(sum.exited, cpus as u64);
                read.push((key, sum.created));
            })
            .unwrap();
            read.sort();
            assert_eq!(read, expected.clone().into_iter().collect::<Vec<_>>(), "{entries} at a time");
        }
        let keys: Vec<CallsiteKey> = (0..KEYS).flat_map(|n| [key(n), key(n + KEYS)]).collect();
        delete(fd, &keys).unwrap();
        for_each(fd, cpus, |key: CallsiteKey, _: CallsiteCounts| panic!("{key:?} is still there")).unwrap();
    }

    fn key(n: u64) -> CallsiteKey {
        CallsiteKey { slot: n % 7, gopc: n, entry: 1 }
    }

    /// The map `COUNTS` with `n` creations and one exit on every CPU for each key.
    fn filled(ebpf: &mut Ebpf, cpus: usize) -> aya::maps::MapData {
        let Some(aya::maps::Map::PerCpuHashMap(data)) = ebpf.take_map("COUNTS") else { panic!("no COUNTS") };
        let other = aya::maps::MapData::from_id(data.info().unwrap().id()).unwrap();
        let mut map: PerCpuHashMap<_, [u64; 3], [u64; 4]> =
            aya::maps::Map::PerCpuHashMap(other).try_into().unwrap();
        for n in 0..KEYS {
            let CallsiteKey { slot, gopc, entry } = key(n);
            map.insert([gopc, slot, entry], PerCpuValues::try_from(vec![[n, 1, 0, 0]; cpus]).unwrap(), 0)
                .unwrap();
        }
        data
    }
}
