//! Which probes are in which target.

use std::fs::File;
use std::num::NonZeroU32;
use std::os::fd::AsRawFd;
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use aya::Ebpf;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope};
use aya::programs::{ProgramError, UProbe};
use observer_ebpf::abi::{Cookie, Group, Probe};
use rustc_hash::FxHashMap;

use super::refusal::one_line;
use super::{Attachment, ProbeError, verify};
use crate::gobin::sites::Site;

/// Bits of a slot that the attach cookie holds.
const SLOT_BITS: u32 = 48;

/// The links of every group of probes in every target, by the target's slot. Dropping a link removes its
/// breakpoint, which takes the kernel about a tenth of a second each, one after the other.
#[derive(Default)]
pub(super) struct Links {
    attached: Mutex<FxHashMap<(u64, Group), Removal>>,
    // After the links above: it is waited for when dropped.
    closer: Mutex<Closer>,
}

impl Links {
    /// How many groups are in targets.
    pub(super) fn count(&self) -> usize {
        self.attached().len()
    }

    pub(super) fn has(&self, slot: u64, group: Group) -> bool {
        self.attached().contains_key(&(slot, group))
    }

    /// Puts a probe at every site of the group, or at none.
    pub(super) fn attach(&self, ebpf: &mut Ebpf, target: &Attachment<'_>) -> Result<(), ProbeError> {
        if self.has(target.slot, target.group) || target.slot >> SLOT_BITS != 0 {
            return Err(ProbeError::Slot { slot: target.slot });
        }
        if target.group_sites().next().is_none() {
            return Err(ProbeError::NoSites { pid: target.pid });
        }
        let exe = verify::open_executable(target.pid)?;
        target.group_sites().try_for_each(|site| verify::before_attach(&exe, target, site))?;
        let mut sites: Vec<&Site> = target.group_sites().collect();
        sites.sort_by_key(|site| !is_seldom_hit(site.probe));
        // An error drops the links made so far.
        let links =
            sites.into_iter().map(|site| attach_site(ebpf, &exe, target, site)).collect::<Result<_, _>>()?;
        let links = Removal(links);
        target.group_sites().try_for_each(|site| verify::after_attach(target, site))?;
        self.attached().insert((target.slot, target.group), links);
        Ok(())
    }

    /// Takes a group's links out of the books; its breakpoints go with the result.
    pub(super) fn remove(&self, slot: u64, group: Group) -> Option<Removal> {
        self.attached().remove(&(slot, group))
    }

    /// Gives up the links of a target that has ended, without waiting.
    pub(super) fn forget(&self, slot: u64) {
        for group in Group::ALL {
            if let Some(links) = self.remove(slot, group) {
                self.closer.lock().unwrap_or_else(PoisonError::into_inner).close(links);
            }
        }
    }

    fn attached(&self) -> MutexGuard<'_, FxHashMap<(u64, Group), Removal>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Programs that don't start coroutines all the time hardly ever run into this one.
const fn is_seldom_hit(probe: Probe) -> bool {
    matches!(probe, Probe::CreateCoroutine)
}

/// The links of one group in one target; its breakpoints go when it is finished or dropped.
pub struct Removal(Vec<UProbeLink>);

impl Removal {
    /// Removes the breakpoints, those that cost most first; returns when no probe runs any more.
    pub fn finish(self) {
        drop(self);
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        while let Some(link) = self.0.pop() {
            drop(link);
        }
    }
}

/// Drops links on a thread of its own, which starts with the first ones.
#[derive(Default)]
struct Closer(Option<(Sender<Removal>, JoinHandle<()>)>);

impl Closer {
    fn close(&mut self, links: Removal) {
        if self.0.is_none() {
            self.0 = start_closer();
        }
        // Without a thread they are dropped here: slower, but no less dropped.
        if let Some((queue, _)) = &self.0 {
            let _ = queue.send(links);
        }
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        if let Some((queue, thread)) = self.0.take() {
            drop(queue);
            let _ = thread.join();
        }
    }
}

fn start_closer() -> Option<(Sender<Removal>, JoinHandle<()>)> {
    let (queue, links) = mpsc::channel::<Removal>();
    let thread = thread::Builder::new()
        .name("probe-closer".to_owned())
        .spawn(move || links.into_iter().for_each(Removal::finish));
    Some((queue, thread.ok()?))
}

/// The program that counts for a probe.
pub(super) const fn program_name(probe: Probe) -> &'static str {
    match probe {
        Probe::Create => "goroutine_create",
        Probe::CreateCoroutine => "goroutine_create_coroutine",
        Probe::Exit => "goroutine_exit",
    }
}

/// The loaded program that counts for a probe.
pub(super) fn program(ebpf: &mut Ebpf, probe: Probe) -> Result<&mut UProbe, ProbeError> {
    let name = program_name(probe);
    let program = ebpf.program_mut(name).and_then(|program| program.try_into().ok());
    program.ok_or(ProbeError::Object(name))
}

fn attach_site(
    ebpf: &mut Ebpf,
    exe: &File,
    target: &Attachment<'_>,
    site: &Site,
) -> Result<UProbeLink, ProbeError> {
    let pid = NonZeroU32::new(target.pid).ok_or(ProbeError::Gone { pid: target.pid })?;
    let program = program(ebpf, site.probe)?;
    let point = UProbeAttachPoint {
        location: UProbeAttachLocation::AbsoluteOffset(site.file_offset),
        cookie: Some(Cookie::new(target.slot, target.gopc_offset).0),
    };
    // The kernel follows this to the very file that was checked.
    let path = format!("/proc/self/fd/{}", exe.as_raw_fd());
    let link = program.attach(point, path, UProbeScope::OneProcess(pid)).and_then(|id| program.take_link(id));
    link.map_err(|error| attach_error(target, site, &error))
}

fn attach_error(target: &Attachment<'_>, site: &Site, error: &ProgramError) -> ProbeError {
    let (pid, probe) = (target.pid, site.probe);
    match error {
        ProgramError::SyscallError(syscall) if syscall.io_error.raw_os_error() == Some(nix::libc::ESRCH) => {
            ProbeError::Gone { pid }
        }
        ProgramError::AttachCookieNotSupported => {
            ProbeError::Attach { pid, probe, reason: "attach cookies need Linux 5.15".to_owned() }
        }
        _ => ProbeError::Attach { pid, probe, reason: one_line(error) },
    }
}
