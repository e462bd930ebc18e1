//! Links that put all probes of a group into a target and take them out together (`BPF_TRACE_UPROBE_MULTI`).
//!
//! A link of the older kind holds one probe, and for each that goes the kernel waits a tenth of a second and more, in
//! which the target runs into the others. Of these links all breakpoints go first, and the kernel waits once behind.
//!
//! aya 0.14 can't load programs for such links. So its parser fits the object to the maps that it has made, and the
//! rest is here.
#![allow(unsafe_code, reason = "system calls that aya doesn't offer")]

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use aya::Ebpf;
use aya::maps::Map;
use aya_obj::Object;
use aya_obj::generated::bpf_insn;
use nix::errno::Errno;
use nix::libc::c_long;
use observer_ebpf::abi::{Cookie, Group};

use super::links::program_name;
use super::refusal::one_line;
use super::syscall::bpf;

/// First kernel that waits once for all probes of a link (`uprobe_unregister_sync` in `kernel/trace/bpf_trace.c`). Such
/// links are there from 6.6 on, but early ones took only some threads for the process's ("bpf: fix multi-uprobe PID
/// filtering logic") or used memory that was freed ("bpf: Fix use-after-free in bpf_uprobe_multi_link_attach()").
pub(super) const SINCE: (u32, u32) = (6, 12);

const BPF_PROG_LOAD: c_long = 5;
const BPF_LINK_CREATE: c_long = 28;
const BPF_PROG_TYPE_KPROBE: u32 = 2;
const BPF_TRACE_UPROBE_MULTI: u32 = 48;

/// The part of the kernel's `union bpf_attr` that [`BPF_PROG_LOAD`] uses here.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/bpf.h>
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// The same for [`BPF_LINK_CREATE`] with many user probes.
#[repr(C)]
#[derive(Default)]
struct LinkAttr {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    ref_ctr_offsets: u64,
    cookies: u64,
    cnt: u32,
    multi_flags: u32,
    pid: u32,
    padding: u32,
}

const _: () = assert!(size_of::<LoadAttr>() == 72 && size_of::<LinkAttr>() == 64);

/// The programs of the groups, loaded for such links.
pub(super) struct Programs {
    lifecycle: OwnedFd,
    waits: OwnedFd,
}

impl Programs {
    /// Loads the programs of the object that `ebpf` was made of.
    ///
    /// # Errors
    /// Why that doesn't work here, in one line.
    pub(super) fn load(object: &[u8], ebpf: &Ebpf) -> Result<Self, String> {
        let object = relocated(object, ebpf)?;
        Ok(Self { lifecycle: load(&object, Group::Lifecycle)?, waits: load(&object, Group::Waits)? })
    }

    /// Puts a probe at each of the places in a file, for the process `pid` alone.
    ///
    /// # Errors
    /// `ESRCH` when there is no such process any more, or another refusal of the kernel; no probe is in it then.
    pub(super) fn link(
        &self,
        group: Group,
        exe: &File,
        pid: u32,
        places: &[(u64, Cookie)],
    ) -> Result<OwnedFd, Errno> {
        let program = match group {
            Group::Lifecycle => &self.lifecycle,
            Group::Waits => &self.waits,
        };
        // The kernel follows this to the very file that was checked.
        let path = CString::new(format!("/proc/self/fd/{}", exe.as_raw_fd())).unwrap_or_default();
        let (offsets, cookies): (Vec<u64>, Vec<u64>) =
            places.iter().map(|(offset, cookie)| (*offset, cookie.0)).unzip();
        let mut attr = LinkAttr {
            prog_fd: program.as_raw_fd() as u32,
            attach_type: BPF_TRACE_UPROBE_MULTI,
            path: path.as_ptr() as u64,
            offsets: offsets.as_ptr() as u64,
            cookies: cookies.as_ptr() as u64,
            cnt: u32::try_from(places.len()).unwrap_or(u32::MAX),
            pid,
            ..LinkAttr::default()
        };
        // SAFETY: the path and both lists live until the end of this function, and the lists have `cnt` elements.
        unsafe { descriptor(BPF_LINK_CREATE, &mut attr) }
    }
}

/// The object with the descriptors of the maps in its code.
fn relocated(object: &[u8], ebpf: &Ebpf) -> Result<Object, String> {
    let mut object = Object::parse(object).map_err(|error| one_line(&error))?;
    let maps = std::mem::take(&mut object.maps);
    let made = maps.iter().filter_map(|(name, map)| Some((name.as_str(), fd_of(ebpf.map(name)?)?, map)));
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_maps(made, &sections).map_err(|error| one_line(&error))?;
    object.relocate_calls(&sections).map_err(|error| one_line(&error))?;
    Ok(object)
}

/// The descriptor of a map, of the kinds that the object has.
fn fd_of(map: &Map) -> Option<RawFd> {
    match map {
        Map::Array(map)
        | Map::HashMap(map)
        | Map::PerCpuArray(map)
        | Map::PerCpuHashMap(map)
        | Map::RingBuf(map) => Some(map.fd().as_fd().as_raw_fd()),
        _ => None,
    }
}

/// Loads a group's program.
fn load(object: &Object, group: Group) -> Result<OwnedFd, String> {
    let name = program_name(group);
    let program = object.programs.get(name).ok_or_else(|| format!("no program {name}"))?;
    let function =
        object.functions.get(&program.function_key()).ok_or_else(|| format!("no code of {name}"))?;
    load_code(name, &function.instructions, &object.license)
        .map_err(|errno| one_line(&io::Error::from(errno)))
}

fn load_code(name: &str, code: &[bpf_insn], license: &CStr) -> Result<OwnedFd, Errno> {
    let mut attr = LoadAttr {
        prog_type: BPF_PROG_TYPE_KPROBE,
        insn_cnt: u32::try_from(code.len()).unwrap_or(u32::MAX),
        insns: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        expected_attach_type: BPF_TRACE_UPROBE_MULTI,
        ..LoadAttr::default()
    };
    // As much of it as leaves room for a zero.
    for (to, from) in attr.prog_name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: code and license outlive the call, and the code has `insn_cnt` instructions; the verifier checks them.
    unsafe { descriptor(BPF_PROG_LOAD, &mut attr) }
}

/// Runs a command that returns a new descriptor.
///
/// # Safety
/// As of [`bpf`], for a command that does so.
unsafe fn descriptor<Attr>(command: c_long, attr: &mut Attr) -> Result<OwnedFd, Errno> {
    // SAFETY: the caller's contract.
    let fd = unsafe { bpf(command, attr) }?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it for us; it is closed on exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
