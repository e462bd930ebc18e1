//! Which probes are in which target.

use std::fs::File;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use aya::Ebpf;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope};
use aya::programs::{ProgramError, UProbe};
use nix::errno::Errno;
use observer_ebpf::abi::{Cookie, Group, Probe};
use rustc_hash::FxHashMap;

use super::refusal::one_line;
use super::{Attachment, OnTime, ProbeError, multi, undertaker, verify};
use crate::gobin::sites::Site;

/// How probes come into targets and leave them.
pub(super) enum Way<'a> {
    /// All of a group by one link.
    Together(&'a multi::Programs),
    /// Each by its own.
    Apart(&'a Mutex<Ebpf>),
}

/// What holds breakpoints in a target: dropping it removes them.
#[derive(Debug)]
enum Link {
    Together(#[expect(dead_code, reason = "it is held")] OwnedFd),
    Apart(#[expect(dead_code, reason = "it is held")] UProbeLink),
}

/// The links of every group of probes in every target, by the target's slot. Dropping a link removes its
/// breakpoints, and takes the kernel up to a tenth of a second.
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

    /// Groups of probes of targets that have ended which the kernel has not removed yet.
    pub(super) fn closing(&self) -> usize {
        locked(&self.closer).pending.load(Ordering::Relaxed)
    }

    pub(super) fn has(&self, slot: u64, group: Group) -> bool {
        self.attached().contains_key(&(slot, group))
    }

    /// How long a group has been in each target so far that it is in, by slot.
    pub(super) fn on_times(&self, group: Group) -> FxHashMap<u64, OnTime> {
        let attached = self.attached();
        let of_group = attached.iter().filter(|((_, other), _)| *other == group);
        let on = |removal: &Removal| OnTime { complete: removal.complete.elapsed(), ..OnTime::default() };
        of_group.map(|((slot, _), removal)| (*slot, on(removal))).collect()
    }

    /// Puts a probe at every site of the group, or at none.
    pub(super) fn attach(&self, way: &Way<'_>, target: &Attachment<'_>) -> Result<(), ProbeError> {
        let (slot, group) = (target.slot, target.group);
        let cookie =
            |site: &Site| Cookie::new(slot, site.probe, target.gopc_offset, target.waitreason_offset);
        let mut sites: Vec<&Site> = target.group_sites().collect();
        if sites.is_empty() {
            return Err(ProbeError::NoSites { pid: target.pid });
        }
        sites.sort_by_key(|site| !is_seldom_hit(site.probe));
        let places: Option<Vec<(&Site, Cookie)>> =
            sites.into_iter().map(|site| Some((site, cookie(site)?))).collect();
        let places = places.filter(|_| !self.has(slot, group)).ok_or(ProbeError::Slot { slot })?;
        let exe = verify::open_executable(target.pid)?;
        target.group_sites().try_for_each(|site| verify::before_attach(&exe, target, site))?;
        let removal = make(way, &exe, target, &places)?;
        target.group_sites().try_for_each(|site| verify::after_attach(target, site))?;
        self.attached().insert((slot, group), removal);
        Ok(())
    }

    /// Takes a group's links out of the books; its breakpoints go with the result.
    pub(super) fn remove(&self, slot: u64, group: Group) -> Option<Removal> {
        self.attached().remove(&(slot, group))
    }

    /// Gives up a group's links in a target that has ended, without waiting.
    pub(super) fn forget(&self, slot: u64, group: Group) -> Option<Removed> {
        let removal = self.remove(slot, group)?;
        let begin = Instant::now();
        let on = OnTime { complete: begin - removal.complete, ..OnTime::default() };
        locked(&self.closer).close(removal);
        Some(Removed { slot, group, begin, on })
    }

    fn attached(&self) -> MutexGuard<'_, FxHashMap<(u64, Group), Removal>> {
        locked(&self.attached)
    }
}

/// Programs that don't start coroutines all the time hardly ever run into this one.
const fn is_seldom_hit(probe: Probe) -> bool {
    matches!(probe, Probe::CreateCoroutine)
}

/// Makes the links.
fn make(
    way: &Way<'_>,
    exe: &File,
    target: &Attachment<'_>,
    places: &[(&Site, Cookie)],
) -> Result<Removal, ProbeError> {
    let (slot, group) = (target.slot, target.group);
    let mut made = Removal { slot, group, links: Vec::new(), complete: Instant::now() };
    match way {
        Way::Together(programs) => made.links.push(link_all(programs, exe, target, places)?),
        Way::Apart(ebpf) => {
            // Held no longer than that: the target's memory and file may not answer.
            let mut ebpf = locked(ebpf);
            for place in places {
                // An error drops the links made so far.
                made.links.push(link_one(&mut ebpf, exe, target, *place)?);
            }
        }
    }
    made.complete = Instant::now();
    Ok(made)
}

/// What a mutex holds; nothing of it is left half done by a panic.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The links of one group in one target, in the order in which they were made; its breakpoints go when it is
/// finished or dropped.
pub struct Removal {
    slot: u64,
    group: Group,
    links: Vec<Link>,
    /// When the last one was made.
    complete: Instant,
}

/// A group that was removed; to be handed to [`Probes::removed`](super::Probes::removed).
pub struct Removed {
    pub(super) slot: u64,
    pub(super) group: Group,
    /// When removing it began.
    pub(super) begin: Instant,
    pub(super) on: OnTime,
}

impl Removal {
    /// Removes the breakpoints, the last made first; returns when no probe runs any more.
    #[must_use]
    pub fn finish(mut self) -> Removed {
        let begin = Instant::now();
        let mut on = OnTime { complete: begin - self.complete, ..OnTime::default() };
        while let Some(link) = self.links.pop() {
            undertaker::bury(link);
            match self.links.len() {
                2 => on.second = begin.elapsed(),
                1 => on.first = begin.elapsed(),
                _ => {}
            }
        }
        Removed { slot: self.slot, group: self.group, begin, on }
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        while let Some(link) = self.links.pop() {
            undertaker::bury(link);
        }
    }
}

/// Drops links on a thread of its own, which starts with the first ones.
#[derive(Default)]
struct Closer {
    thread: Option<(Sender<Removal>, JoinHandle<()>)>,
    pending: Arc<AtomicUsize>,
}

impl Closer {
    fn close(&mut self, links: Removal) {
        if self.thread.is_none() {
            self.thread = start_closer(self.pending.clone());
        }
        // Without a thread they are dropped here: slower, but no less dropped.
        if let Some((queue, _)) = &self.thread {
            self.pending.fetch_add(1, Ordering::Relaxed);
            let _ = queue.send(links);
        }
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        if let Some((queue, thread)) = self.thread.take() {
            drop(queue);
            let _ = thread.join();
        }
    }
}

fn start_closer(pending: Arc<AtomicUsize>) -> Option<(Sender<Removal>, JoinHandle<()>)> {
    let (queue, removals) = mpsc::channel::<Removal>();
    let thread = thread::Builder::new().name("probe-closer".to_owned()).spawn(move || {
        for removal in removals {
            drop(removal);
            pending.fetch_sub(1, Ordering::Relaxed);
        }
    });
    Some((queue, thread.ok()?))
}

/// The program that counts for a group of probes.
pub(super) const fn program_name(group: Group) -> &'static str {
    match group {
        Group::Lifecycle => "goroutine_lifecycle",
        Group::Waits => "goroutine_waits",
    }
}

/// The program that counts for a group of probes.
pub(super) fn program(ebpf: &mut Ebpf, group: Group) -> Result<&mut UProbe, ProbeError> {
    let name = program_name(group);
    let program = ebpf.program_mut(name).and_then(|program| program.try_into().ok());
    program.ok_or(ProbeError::Object(name))
}

fn link_all(
    programs: &multi::Programs,
    exe: &File,
    target: &Attachment<'_>,
    places: &[(&Site, Cookie)],
) -> Result<Link, ProbeError> {
    let pid = target.pid;
    let offsets: Vec<(u64, Cookie)> =
        places.iter().map(|(site, cookie)| (site.file_offset, *cookie)).collect();
    let link = programs.link(target.group, exe, pid, &offsets);
    link.map(Link::Together).map_err(|errno| match (errno, places) {
        (Errno::ESRCH, _) | (_, []) => ProbeError::Gone { pid },
        (_, [(site, _), ..]) => {
            ProbeError::Attach { pid, probe: site.probe, reason: one_line(&io::Error::from(errno)) }
        }
    })
}

fn link_one(
    ebpf: &mut Ebpf,
    exe: &File,
    target: &Attachment<'_>,
    (site, cookie): (&Site, Cookie),
) -> Result<Link, ProbeError> {
    let pid = NonZeroU32::new(target.pid).ok_or(ProbeError::Gone { pid: target.pid })?;
    let program = program(ebpf, target.group)?;
    let point = UProbeAttachPoint {
        location: UProbeAttachLocation::AbsoluteOffset(site.file_offset),
        cookie: Some(cookie.0),
    };
    // The kernel follows this to the very file that was checked.
    let path = format!("/proc/self/fd/{}", exe.as_raw_fd());
    let link = program.attach(point, path, UProbeScope::OneProcess(pid)).and_then(|id| program.take_link(id));
    link.map(Link::Apart).map_err(|error| attach_error(target, site, &error))
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
