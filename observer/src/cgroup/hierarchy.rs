//! The mounted hierarchies, and which controllers live in which.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::controller::Controller;
use super::files::Files;
use super::group::{Group, Reader};
use super::membership::{self, Membership};
use super::mountinfo::{self, Kind, Mount};
use super::path::{GroupPath, join};
use super::{
    CgroupError, Gone, Reading, cpu, cpuset, hugetlb, io as block, memory, namespace, pids, pressure,
};

/// Longest line of `mountinfo` that is looked at; overlay mounts can be long, cgroup mounts are not.
const MAX_LINE: u64 = 64 * 1024;

/// How to look for hierarchies.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only hierarchies mounted at or below this folder, such as `/host/sys/fs/cgroup`. `None` = all.
    pub root: Option<PathBuf>,
    /// Where procfs is mounted.
    pub proc: PathBuf,
    /// Control files kept open at most.
    pub open_files: usize,
    /// Where the kernel lists the sizes of huge pages.
    pub huge_pages: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            root: None,
            proc: PathBuf::from("/proc"),
            open_files: affordable_files(),
            huge_pages: PathBuf::from("/sys/kernel/mm/hugepages"),
        }
    }
}

/// Half of the files that the process may open, and not more than serve some 500 groups.
fn affordable_files() -> usize {
    const ENOUGH: usize = 6144;
    let soft = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    soft.map_or(ENOUGH, |soft| usize::try_from(soft / 2).unwrap_or(ENOUGH).min(ENOUGH))
}

/// Which versions of cgroups serve the controllers that observer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Only v1 hierarchies.
    V1,
    /// Only the unified hierarchy.
    V2,
    /// v1 hierarchies hold some of the controllers, and the unified hierarchy is mounted as well.
    Hybrid,
    /// No hierarchy is mounted.
    None,
}

impl Mode {
    /// The mode's name in text and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Hybrid => "hybrid",
            Self::None => "none",
        }
    }
}

/// Version of one hierarchy's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// One mounted hierarchy.
#[derive(Debug)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// Those of [`Controller::ALL`] that are read here. None in a hierarchy that only names processes.
    pub(super) controllers: Vec<Controller>,
    /// Names in `/proc/PID/cgroup` by which a v1 hierarchy is known; empty for v2.
    labels: Vec<Box<[u8]>>,
    /// Where it is mounted.
    pub(super) point: PathBuf,
    /// The group that is mounted there.
    root: GroupPath,
    /// Names of the levels between the mount's top and the root of observer's cgroup namespace.
    above: Vec<Box<[u8]>>,
    /// Whether the mount's top is the hierarchy's root, which has no limits; otherwise there may be
    /// ancestors that nobody here can see.
    pub(super) whole: bool,
}

/// The mounted hierarchies, and their open files.
#[derive(Debug)]
pub struct Hierarchies {
    pub(super) list: Vec<Hierarchy>,
    proc: PathBuf,
    files: Files,
    huge_pages: Vec<&'static hugetlb::Size>,
}

impl Hierarchies {
    /// Finds the hierarchies with the default [`Options`].
    ///
    /// # Errors
    /// When `/proc/self/mountinfo` can't be read.
    pub fn discover() -> Result<Self, CgroupError> {
        Self::discover_with(&Options::default())
    }

    /// Finds the hierarchies mounted in observer's own mount namespace. Done once: what is mounted later is
    /// not seen. A machine without any gives [`Mode::None`].
    ///
    /// # Errors
    /// When `/proc/self/mountinfo` can't be read, or nothing is mounted at or below `options.root`.
    pub fn discover_with(options: &Options) -> Result<Self, CgroupError> {
        let path = options.proc.join("self/mountinfo");
        let mut mounts = read_mounts(&path).map_err(|source| CgroupError::Unreadable { path, source })?;
        if let Some(root) = &options.root {
            let real = root.canonicalize().unwrap_or_else(|_| root.clone());
            mounts.retain(|mount| mount.point.starts_with(&real));
            if mounts.is_empty() {
                return Err(CgroupError::NotMounted { root: root.clone() });
            }
        }
        let mut list = assign(choose(mounts));
        for hierarchy in &mut list {
            hierarchy.above = namespace::levels_above(&options.proc, hierarchy, &hierarchy.root);
        }
        Ok(Self {
            list,
            proc: options.proc.clone(),
            files: Files::new(options.open_files),
            huge_pages: hugetlb::sizes(&options.huge_pages),
        })
    }

    /// Which versions are in use.
    #[must_use]
    pub fn mode(&self) -> Mode {
        let v1 = self.list.iter().any(|h| h.version == Version::V1 && !h.controllers.is_empty());
        let v2 = self.list.iter().any(|h| h.version == Version::V2);
        match (v1, v2) {
            (true, true) => Mode::Hybrid,
            (true, false) => Mode::V1,
            (false, true) => Mode::V2,
            (false, false) => Mode::None,
        }
    }

    /// The controllers that can be read here.
    #[must_use]
    pub fn controllers(&self) -> Vec<Controller> {
        Controller::ALL.into_iter().filter(|&controller| self.of(controller).is_some()).collect()
    }

    /// The controllers of which observer sees a part of the hierarchy only (it runs in a container without
    /// the host's mounts): limits of ancestors outside are missing from its effective limits.
    #[must_use]
    pub fn partial(&self) -> Vec<Controller> {
        let partial = |&controller: &Controller| self.of(controller).is_some_and(|(_, h)| !h.whole);
        Controller::ALL.into_iter().filter(partial).collect()
    }

    /// How many control files are open now.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.files.count()
    }

    /// In which groups the process is now.
    ///
    /// # Errors
    /// [`CgroupError::Exited`] when there is no such process, or it is ending; else that its file can't be read
    /// or trusted.
    pub fn membership(&self, pid: u32) -> Result<Membership, CgroupError> {
        let folder = self.proc.join(pid.to_string());
        let path = folder.join("cgroup");
        let text = match membership::read(&path) {
            Ok(text) => text,
            Err(error) if membership::exited(&error) => return Err(CgroupError::Exited { pid }),
            Err(source) => return Err(CgroupError::Unreadable { path, source }),
        };
        let membership = Membership::parse(&self.list, &text).ok_or(CgroupError::Ambiguous { path })?;
        // Asked after the text was read: a process doesn't come back from its end.
        let ending = membership::may_be_ending(&text) && membership::is_ending(&folder.join("stat"));
        if ending { Err(CgroupError::Exited { pid }) } else { Ok(membership) }
    }

    /// Begins a sweep: until its end, what one group's ancestor said counts for all groups below it, so that it
    /// is read once.
    pub fn begin_sweep(&mut self) {
        self.files.begin_sweep();
    }

    /// Ends a sweep: every file is read anew.
    pub fn end_sweep(&mut self) {
        self.files.end_sweep();
    }

    /// Reads the current values of a membership's groups.
    ///
    /// # Errors
    /// [`Gone`] when one of the groups has been removed.
    pub fn read(&mut self, membership: &Membership) -> Result<Reading, Gone> {
        let mut reading = self.read_once(membership);
        if self.files.renewed() {
            // What was read before that was found out may be the old group's.
            self.close(membership);
            reading = self.read_once(membership);
            if self.files.renewed() {
                // Twice: whose values these are nobody can tell.
                reading = Err(Gone { path: Arc::clone(membership.path()) });
            }
        }
        if reading.is_err() {
            self.close(membership);
        }
        reading
    }

    fn read_once(&mut self, membership: &Membership) -> Result<Reading, Gone> {
        self.files.begin_reading();
        let mut reader = Reader::new(&mut self.files, membership.path());
        let reading = read_all(&self.list, membership, &mut reader, &self.huge_pages)?;
        Ok(Reading { problems: reader.into_problems(), ..reading })
    }

    /// Closes the files of a membership's own groups. Where nobody is in them any more, open files would keep
    /// removed groups in the kernel's memory.
    pub fn close(&mut self, membership: &Membership) {
        for (index, hierarchy) in self.list.iter().enumerate() {
            if let Some(Some(path)) = membership.place(index) {
                self.files.close_below(&[bytes(&hierarchy.point), path].concat());
            }
        }
    }

    /// The hierarchy of a controller.
    pub(super) fn of(&self, controller: Controller) -> Option<(usize, &Hierarchy)> {
        locate(&self.list, controller)
    }
}

/// Reads each controller's values.
fn read_all<'a>(
    list: &'a [Hierarchy],
    membership: &'a Membership,
    reader: &mut Reader<'a>,
    huge_pages: &[&'static hugetlb::Size],
) -> Result<Reading, Gone> {
    let mut group = |controller| {
        let (index, hierarchy) = locate(list, controller)?;
        let place = membership.place(index)?;
        if place.is_none() {
            reader.outside(controller);
        }
        place.map(|path| Group { hierarchy, index, path })
    };
    let [cpu, cpuacct, memory, pids] =
        [Controller::Cpu, Controller::CpuAcct, Controller::Memory, Controller::Pids].map(&mut group);
    let [io, hugetlb, cpuset] = [Controller::Io, Controller::Hugetlb, Controller::Cpuset].map(&mut group);
    let pages = hugetlb.map(|group| hugetlb::read(reader, group, huge_pages)).transpose()?;
    Ok(Reading {
        cpu: cpu::read(reader, cpu, cpuacct)?,
        memory: memory.map(|group| memory::read(reader, group)).transpose()?,
        pids: pids.map(|group| pids::read(reader, group)).transpose()?,
        io: io.map(|group| block::read(reader, group)).transpose()?,
        hugetlb: pages.unwrap_or_default(),
        cpuset_cpus: cpuset.map(|group| cpuset::read(reader, group)).transpose()?.flatten(),
        pressure: pressured(list, membership)
            .map(|group| pressure::read(reader, group))
            .transpose()?
            .unwrap_or_default(),
        problems: Vec::new(),
    })
}

/// The group whose pressure is the membership's. The pressure of the unified hierarchy's root is the machine's, and
/// says nothing of the membership. Beside v1 controllers whoever wasn't put elsewhere is in what shows as the root.
fn pressured<'a>(list: &'a [Hierarchy], membership: &'a Membership) -> Option<Group<'a>> {
    let (index, hierarchy) = list.iter().enumerate().find(|(_, h)| h.version == Version::V2)?;
    let path = membership.place(index)??;
    let shared = list.iter().any(|h| h.version == Version::V1 && !h.controllers.is_empty());
    if path.is_empty() && (shared || hierarchy.whole) { None } else { Some(Group { hierarchy, index, path }) }
}

/// The hierarchy of a controller and its index.
fn locate(list: &[Hierarchy], controller: Controller) -> Option<(usize, &Hierarchy)> {
    list.iter().enumerate().find(|(_, hierarchy)| hierarchy.controllers.contains(&controller))
}

impl Hierarchy {
    fn new(mount: Mount) -> Self {
        let (version, labels) = match mount.kind {
            Kind::V1(options) => (Version::V1, options.into_iter().filter(|o| identifies(o)).collect()),
            Kind::V2 => (Version::V2, Vec::new()),
        };
        let whole = is_root(&mount.point, version);
        let (point, root) = (mount.point, mount.root);
        Self { version, controllers: Vec::new(), labels, point, root, above: Vec::new(), whole }
    }

    /// Whether `/proc/PID/cgroup` means this hierarchy by `labels`: nothing for v2, else controllers or `name=…`.
    pub(super) fn is_listed_as(&self, labels: &[u8]) -> bool {
        match self.version {
            Version::V2 => labels.is_empty(),
            Version::V1 => {
                labels.split(|&byte| byte == b',').any(|label| self.labels.iter().any(|l| **l == *label))
            }
        }
    }

    /// Where a group lies below the mount; `None` when this mount doesn't show it.
    pub(super) fn locate(&self, path: &GroupPath) -> Option<Box<[u8]>> {
        path.below(&self.root, &self.above)
    }

    /// What is mounted, as the leading part of paths to show.
    pub(super) fn prefix(&self) -> Box<[u8]> {
        join(&self.root.names)
    }

    /// Which of the controllers are enabled in this v2 hierarchy.
    fn v2_controllers(&self) -> Vec<Controller> {
        let names = std::fs::read(self.point.join("cgroup.controllers")).unwrap_or_default();
        names.split(u8::is_ascii_whitespace).filter_map(Controller::from_name).collect()
    }
}

/// All cgroup mounts of `mountinfo` that matter and can be reached, in its order.
fn read_mounts(path: &Path) -> io::Result<Vec<Mount>> {
    let mut lines = BufReader::new(File::open(path)?);
    let mut mounts = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        // A longer line continues as another one, which has no valid fields.
        if lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(mounts);
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        mounts.extend(mountinfo::parse_line(text).filter(|mount| mount.kind.matters() && reachable(mount)));
    }
}

/// Whether the mount point shows that mount: another one may lie over it.
fn reachable(mount: &Mount) -> bool {
    let (major, minor) = mount.device;
    mount.point.metadata().is_ok_and(|found| found.dev() == rustix::fs::makedev(major, minor))
}

/// The best mount of each hierarchy: the one whose top is nearest to the hierarchy's root, of equal ones the
/// first. A later mount on the same point hides an earlier one.
fn choose(mounts: Vec<Mount>) -> Vec<Mount> {
    let mut best: Vec<Mount> = Vec::new();
    let hidden = |index: usize, mount: &Mount| mounts[index + 1..].iter().any(|m| m.point == mount.point);
    for (index, mount) in mounts.iter().enumerate() {
        if hidden(index, mount) {
            continue;
        }
        match best.iter_mut().find(|other| other.kind.same_hierarchy(&mount.kind)) {
            Some(other) if height(mount) > height(other) => *other = mount.clone(),
            Some(_) => {}
            None => best.push(mount.clone()),
        }
    }
    best
}

/// Orders mounts of one hierarchy: more levels up, then fewer down, shows more.
fn height(mount: &Mount) -> (usize, std::cmp::Reverse<usize>) {
    (mount.root.up, std::cmp::Reverse(mount.root.names.len()))
}

/// Gives each controller to its v1 hierarchy, or else to the unified one. v2 comes first in the list.
fn assign(mounts: Vec<Mount>) -> Vec<Hierarchy> {
    let mut list: Vec<_> = mounts.into_iter().map(Hierarchy::new).collect();
    list.sort_by_key(|hierarchy| hierarchy.version == Version::V1);
    for hierarchy in list.iter_mut().filter(|h| h.version == Version::V1) {
        hierarchy.controllers =
            hierarchy.labels.iter().filter_map(|name| Controller::from_name(name)).collect();
    }
    let taken: Vec<_> = list.iter().flat_map(|hierarchy| hierarchy.controllers.clone()).collect();
    if let Some(v2) = list.first_mut().filter(|hierarchy| hierarchy.version == Version::V2) {
        let mut controllers = v2.v2_controllers();
        // Every v2 group counts CPU time. Next to v1 controllers processes may all sit in its root, though.
        if taken.is_empty() || controllers.contains(&Controller::Cpu) {
            controllers.push(Controller::CpuAcct);
        }
        controllers.retain(|controller| !taken.contains(controller));
        v2.controllers = controllers;
    }
    list
}

/// Whether the group at `point` is its hierarchy's root: only that has `release_agent` (v1), and only that
/// has no `cgroup.type` (v2).
fn is_root(point: &Path, version: Version) -> bool {
    match version {
        Version::V1 => point.join("release_agent").exists(),
        Version::V2 => !point.join("cgroup.type").exists(),
    }
}

impl Kind {
    /// Whether the hierarchy has a controller that observer reads, or names processes.
    fn matters(&self) -> bool {
        match self {
            Self::V2 => true,
            Self::V1(options) => options.iter().any(|option| identifies(option)),
        }
    }

    /// Whether two mounts are of one hierarchy. A v1 hierarchy is known by its controllers or its name.
    fn same_hierarchy(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::V2, Self::V2) => true,
            (Self::V1(a), Self::V1(b)) => a.iter().any(|option| identifies(option) && b.contains(option)),
            _ => false,
        }
    }
}

/// Whether a mount option tells v1 hierarchies apart: a controller observer reads, or a name.
fn identifies(option: &[u8]) -> bool {
    Controller::from_name(option).is_some() || option.starts_with(b"name=")
}

/// A path as the kernel takes it.
pub(super) fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
