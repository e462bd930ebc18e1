//! A folder that looks like `/proc` and some cgroup mounts.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::cgroup::{Hierarchies, Membership, Options, Reading};

/// The folder; removed when dropped.
pub(super) struct Fake {
    folder: TempDir,
    mountinfo: String,
}

impl Fake {
    pub(super) fn new() -> Self {
        let fake = Self { folder: TempDir::new().expect("a folder"), mountinfo: String::new() };
        fs::create_dir_all(fake.path("proc/self")).expect("created");
        fake
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Adds a v1 mount. `root` is what `mountinfo` says is mounted there.
    pub(super) fn v1(&mut self, point: &str, root: &str, options: &str) {
        self.mount(point, root, &format!("cgroup cgroup rw,{options}"));
    }

    /// Adds a v2 mount, whose top has these controllers.
    pub(super) fn v2(&mut self, point: &str, root: &str, controllers: &str) {
        self.mount(point, root, "cgroup2 cgroup2 rw,nsdelegate");
        self.file(&format!("{point}/cgroup.controllers"), controllers);
    }

    fn mount(&mut self, point: &str, root: &str, kind: &str) {
        fs::create_dir_all(self.path(point)).expect("created");
        let device = self.folder.path().metadata().expect("metadata").dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let point = self.path(point);
        self.line(&format!("30 23 {major}:{minor} {root} {} rw shared:9 - {kind}", point.display()));
    }

    /// Adds any line to `mountinfo`.
    pub(super) fn line(&mut self, line: &str) {
        self.mountinfo.push_str(line);
        self.mountinfo.push('\n');
    }

    /// Writes a file, with its folders.
    pub(super) fn file(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        fs::write(path, text).expect("written");
    }

    /// Writes several files of one group.
    pub(super) fn group(&self, group: &str, files: &[(&str, &str)]) {
        fs::create_dir_all(self.path(group)).expect("created");
        for (name, text) in files {
            self.file(&format!("{group}/{name}"), text);
        }
    }

    /// Writes a process's `/proc/PID/cgroup`.
    pub(super) fn process(&self, pid: &str, text: &str) {
        self.file(&format!("proc/{pid}/cgroup"), text);
        self.file(&format!("proc/{pid}/stat"), &format!("{pid} (fake) S 1 7 7 0 -1 4194560 1 2 3\n"));
    }

    pub(super) fn options(&self) -> Options {
        Options { proc: self.path("proc"), huge_pages: self.path("huge"), ..Options::default() }
    }

    pub(super) fn discover(&self) -> Hierarchies {
        self.file("proc/self/mountinfo", &self.mountinfo);
        Hierarchies::discover_with(&self.options()).expect("hierarchies")
    }

    /// Discovers, and reads process 7.
    pub(super) fn read(&self) -> (Membership, Reading) {
        let mut hierarchies = self.discover();
        let membership = hierarchies.membership(7).expect("a membership");
        let reading = hierarchies.read(&membership).expect("a reading");
        (membership, reading)
    }

    pub(super) fn remove(&self, path: &str) {
        fs::remove_dir_all(self.path(path)).expect("removed");
    }

    pub(super) fn root(&self) -> &Path {
        self.folder.path()
    }
}
