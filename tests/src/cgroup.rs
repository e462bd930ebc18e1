//! Child cgroups for tests.

use crate::wait;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

/// A child of the root group of one controller; it is removed with this value.
pub struct Child {
    root: PathBuf,
    path: PathBuf,
}

impl Child {
    /// Makes a group of its own for the caller.
    ///
    /// # Errors
    /// When the controller is not mounted, or groups may not be made.
    pub fn create(controller: &str) -> Result<Self> {
        let root = hierarchy(controller)?;
        Self::make(root.clone(), root.join(new_name()))
    }

    /// Makes groups of one name in the hierarchies of all these controllers, as container managers do. Controllers
    /// that are not mounted are left out.
    ///
    /// # Errors
    /// When groups may not be made.
    pub fn alike(controllers: &[&str]) -> Result<Vec<Self>> {
        let name = new_name();
        let mut groups: Vec<Self> = Vec::new();
        for controller in controllers.iter().filter(|controller| mount_of(controller).is_some()) {
            let root = hierarchy(controller)?;
            // Several controllers may share a hierarchy.
            if groups.iter().all(|group| group.root != root) {
                groups.push(Self::make(root.clone(), root.join(&name))?);
            }
        }
        Ok(groups)
    }

    /// Whether the files are those of v2.
    #[must_use]
    pub fn is_v2(&self) -> bool {
        self.path.join("cgroup.type").exists()
    }

    /// Sets the CPU quota per 100 ms, in microseconds.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_cpu_quota(&self, microseconds: u64) -> Result<()> {
        if self.is_v2() {
            return self.write("cpu.max", &format!("{microseconds} 100000"));
        }
        self.write("cpu.cfs_quota_us", &microseconds.to_string())
    }

    /// Makes a group below this one. In v2 it is given all the controllers that this one has, which is only
    /// possible while no process is in this one.
    ///
    /// # Errors
    /// When groups may not be made.
    pub fn nested(&self) -> Result<Self> {
        self.pass_on()?;
        Self::make(self.root.clone(), self.path.join(new_name()))
    }

    /// Gives the groups below this one all the controllers that it has, which v2 doesn't do by itself.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn pass_on(&self) -> Result<()> {
        if !self.is_v2() {
            return Ok(());
        }
        let own = self.read("cgroup.controllers")?;
        let all: Vec<String> = own.split_whitespace().map(|name| format!("+{name}")).collect();
        self.write("cgroup.subtree_control", &all.join(" "))
    }

    /// Makes a group of that name below this one.
    ///
    /// # Errors
    /// When groups may not be made.
    pub fn named(&self, name: &str) -> Result<Self> {
        Self::make(self.root.clone(), self.path.join(name))
    }

    fn make(root: PathBuf, path: PathBuf) -> Result<Self> {
        fs::create_dir(&path).with_context(|| format!("cannot make the cgroup {}", path.display()))?;
        Ok(Self { root, path })
    }

    /// Where the group is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The group's path as `/proc/PID/cgroup` shows it.
    #[must_use]
    pub fn name(&self) -> String {
        let below = self.path.strip_prefix(&self.root).unwrap_or(&self.path);
        format!("/{}", below.display())
    }

    /// Writes a file of the group.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn write(&self, file: &str, value: &str) -> Result<()> {
        fs::write(self.path.join(file), value).with_context(|| format!("cannot write {value} to {file}"))
    }

    /// Reads a file of the group.
    ///
    /// # Errors
    /// When it isn't there.
    pub fn read(&self, file: &str) -> Result<String> {
        fs::read_to_string(self.path.join(file)).with_context(|| format!("cannot read {file}"))
    }

    /// Reads the number behind a key, from a file such as `cpu.stat`.
    ///
    /// # Errors
    /// When it isn't there.
    pub fn stat(&self, file: &str, key: &str) -> Result<u64> {
        let text = self.read(file)?;
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no {key} in {file}"))?.trim().parse()?)
    }

    /// Reads a file that holds one number.
    ///
    /// # Errors
    /// When it isn't there, or holds something else.
    pub fn number(&self, file: &str) -> Result<u64> {
        self.read(file)?.trim().parse().with_context(|| format!("{file} holds no number"))
    }

    /// A command that runs a program in the group from its first instruction on.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\""]).arg(&self.path).arg(program);
        command
    }

    /// Moves a process into the group.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add(&self, pid: u32) -> Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// Removes the group now; its processes go to the root group.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn remove(&self) -> Result<()> {
        wait::until("the removal of a cgroup", || {
            for pid in self.read("cgroup.procs").unwrap_or_default().lines() {
                // It may have ended: the next round shows.
                let _ = fs::write(self.root.join("cgroup.procs"), pid);
            }
            Ok((fs::remove_dir(&self.path).is_ok() || !self.path.exists()).then_some(()))
        })?;
        ensure!(!self.path.exists());
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.remove();
    }
}

/// A name that no other group has.
fn new_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("observer-test-{}-{number}", process::id())
}

/// Where a controller's hierarchy is mounted.
fn hierarchy(controller: &str) -> Result<PathBuf> {
    let root = mount_of(controller).with_context(|| format!("needs the cgroup controller {controller}"))?;
    // In v2 groups have only what their parent gives them. It stays given: other tests may use it by now.
    let control = root.join("cgroup.subtree_control");
    if control.exists() {
        fs::write(&control, format!("+{controller}"))
            .with_context(|| format!("{} takes no {controller}", control.display()))?;
    }
    Ok(root)
}

/// Whether a controller is there, in a hierarchy of v2.
#[must_use]
pub fn is_v2(controller: &str) -> bool {
    mount_of(controller).is_some_and(|root| root.join("cgroup.controllers").exists())
}

/// Where a v1 controller, or the v2 hierarchy that has it, is mounted.
pub(crate) fn mount_of(controller: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        let [_, path, kind, options, ..] = words[..] else { return None };
        let here = match kind {
            "cgroup" => options.split(',').any(|option| option == controller),
            "cgroup2" => fs::read_to_string(Path::new(path).join("cgroup.controllers"))
                .is_ok_and(|list| list.split_whitespace().any(|name| name == controller)),
            _ => false,
        };
        here.then(|| PathBuf::from(path))
    })
}
