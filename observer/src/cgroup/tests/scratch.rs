//! Real groups of a test's own, in whichever hierarchies this machine has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use crate::cgroup::hierarchy::Version;
use crate::cgroup::{Controller, Hierarchies};

/// The controllers in whose hierarchies tests make groups.
const CONTROLLERS: [Controller; 3] = [Controller::Cpu, Controller::CpuAcct, Controller::Pids];

/// A folder of groups, the same in each hierarchy; removed when dropped.
pub(super) struct Scratch {
    pub(super) hierarchies: Hierarchies,
    name: String,
    groups: Vec<String>,
}

impl Scratch {
    /// `None`, with the reason printed, where groups can't be made; a failure under `OBSERVER_REQUIRE=1`.
    pub(super) fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let hierarchies = Hierarchies::discover().expect("hierarchies");
        let name = format!("observer-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut scratch = Self { hierarchies, name, groups: Vec::new() };
        if let Err(reason) = scratch.try_group("") {
            let required = std::env::var_os("OBSERVER_REQUIRE").is_some_and(|value| value == "1");
            assert!(!required, "real cgroups are required: {reason}");
            eprintln!("skipped: {reason}");
            return None;
        }
        Some(scratch)
    }

    /// Makes a group, such as `/a/b`, whose parent was made before.
    pub(super) fn group(&mut self, group: &str) {
        self.try_group(group).expect("a group");
    }

    fn try_group(&mut self, group: &str) -> Result<(), String> {
        self.groups.push(group.to_owned());
        for controller in CONTROLLERS {
            let (_, hierarchy) =
                self.hierarchies.of(controller).ok_or(format!("no {} hierarchy", controller.name()))?;
            let path = self.path(controller, group);
            if path.exists() {
                continue;
            }
            if hierarchy.version == Version::V2 {
                let control = path.with_file_name("cgroup.subtree_control");
                fs::write(&control, "+cpu +memory +pids")
                    .map_err(|error| format!("{}: {error}", control.display()))?;
            }
            fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }

    /// The path that observer shows for a group.
    pub(super) fn shown(&self, group: &str) -> String {
        format!("/{}{group}", self.name)
    }

    /// The group's folder in the controller's hierarchy.
    pub(super) fn path(&self, controller: Controller, group: &str) -> PathBuf {
        let (_, hierarchy) = self.hierarchies.of(controller).expect("a hierarchy");
        hierarchy.point.join(format!("{}{group}", self.name))
    }

    /// The text of a group's file.
    pub(super) fn text(&self, controller: Controller, group: &str, file: &str) -> String {
        fs::read_to_string(self.path(controller, group).join(file)).expect("a file")
    }

    /// The number behind a key, or the only number, in a group's file.
    pub(super) fn number(&self, controller: Controller, group: &str, file: &str, key: &str) -> u64 {
        let text = self.text(controller, group, file);
        let value = text.lines().find_map(|line| line.strip_prefix(key)).expect("the key");
        value.trim().parse().expect("a number")
    }

    /// Whether a controller's files are those of v1.
    pub(super) fn is_v1(&self, controller: Controller) -> bool {
        self.hierarchies.of(controller).expect("a hierarchy").1.version == Version::V1
    }

    /// Sets a quota per 100 ms.
    pub(super) fn set_quota(&self, group: &str, microseconds: u32) {
        let path = self.path(Controller::Cpu, group);
        if self.is_v1(Controller::Cpu) {
            fs::write(path.join("cpu.cfs_quota_us"), microseconds.to_string()).expect("a quota");
        } else {
            fs::write(path.join("cpu.max"), format!("{microseconds} 100000")).expect("a quota");
        }
    }

    pub(super) fn set_pids_max(&self, group: &str, tasks: u32) {
        fs::write(self.path(Controller::Pids, group).join("pids.max"), tasks.to_string()).expect("a limit");
    }

    /// Moves a process into a group.
    pub(super) fn join(&self, group: &str, pid: u32) {
        for controller in CONTROLLERS {
            fs::write(self.path(controller, group).join("cgroup.procs"), pid.to_string()).expect("joined");
        }
    }

    /// Starts a shell script in a group. The script waits until the shell has been moved.
    pub(super) fn start(&self, group: &str, script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("read _; {script}")]).stdin(Stdio::piped());
        let mut child = command.spawn().expect("a shell");
        self.join(group, child.id());
        // Closing the pipe ends the wait.
        drop(child.stdin.take());
        Process(child)
    }

    /// Removes a group that holds nothing any more.
    pub(super) fn remove(&self, group: &str) {
        for controller in CONTROLLERS.into_iter().filter(|&c| self.hierarchies.of(c).is_some()) {
            remove(&self.path(controller, group));
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for group in self.groups.iter().rev() {
            self.remove(group);
        }
    }
}

/// Removes a group's folder, if it is there. The kernel may still count a process that has just been waited for.
pub(super) fn remove(path: &Path) {
    for _ in 0..500 {
        if fs::remove_dir(path).is_ok() || !path.exists() {
            return;
        }
        sleep(Duration::from_millis(10));
    }
    assert!(std::thread::panicking(), "{} is left behind", path.display());
}

/// A child process; ended when dropped.
pub(super) struct Process(Child);

impl Process {
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits for its end, and whether it succeeded.
    pub(super) fn succeeds(mut self) -> bool {
        self.0.wait().expect("waited").success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
