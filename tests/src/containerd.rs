//! A containerd of the test's own, with pods started as a kubelet does.

use crate::cgroup;
use crate::cri::{
    Capabilities, ContainerConfig, ContainerName, ContainerSecurity, Cri, ImageSpec, KeyValue,
    LinuxContainer, LinuxSandbox, Mount, Namespaces, PodName, Resources, Sandbox, SandboxSecurity,
    SecurityProfile,
};
use crate::observer::Guard;
use crate::wait;
use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use observer_image::Image;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use tempfile::TempDir;

/// Holds a pod's namespaces; a Go program would be one more target.
const PAUSE: &str = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n";
const PAUSE_IMAGE: &str = "localhost/pause:1";
/// The socket has the folder to itself, for mounting, and its usual name.
const SOCKET: &str = "run/containerd.sock";

/// A container and the pod that it is alone in.
pub struct Pod<'a> {
    /// Namespace of the pod.
    pub namespace: &'a str,
    /// Name of the pod.
    pub name: &'a str,
    /// Name of the container.
    pub container: &'a str,
    /// Image of the container.
    pub image: &'a str,
    /// Arguments behind the entry point.
    pub args: Vec<String>,
    /// Environment.
    pub environment: &'a [(&'a str, &'a str)],
    /// Limits.
    pub resources: Resources,
    /// Limit of tasks of the pod, which a kubelet sets without the runtime.
    pub tasks: Option<u32>,
    /// Privileges.
    pub capabilities: Option<Capabilities>,
    /// Whether it sees the processes of the node.
    pub host_pid: bool,
    /// Parts of the node's file system.
    pub mounts: Vec<Mount>,
}

impl Default for Pod<'_> {
    fn default() -> Self {
        Self {
            namespace: "default",
            name: "",
            container: "",
            image: "",
            args: Vec::new(),
            environment: &[],
            resources: Resources::default(),
            tasks: None,
            capabilities: None,
            host_pid: false,
            mounts: Vec::new(),
        }
    }
}

/// A running containerd; it ends with this value, and with it pods, mounts and cgroups.
pub struct Containerd {
    folder: TempDir,
    child: Guard,
    cri: Cri,
    pods: Vec<String>,
    /// Name of the cgroup that holds those of the pods, in each hierarchy.
    cgroup: String,
}

impl Containerd {
    /// Starts containerd and imports the image that holds a pod's namespaces.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("config.toml");
        fs::write(&config, configuration(folder.path()))?;
        let log = File::create(folder.path().join("log"))?;
        let child = Command::new("containerd")
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let child = Guard(child);
        let socket = folder.path().join(SOCKET);
        let cri = wait::until("containerd", || Ok(Cri::connect(&socket).ok()))?;
        let cgroup = format!("observer-test-{}", process::id());
        let mut containerd = Self { folder, child, cri, pods: Vec::new(), cgroup };
        containerd.import_program(PAUSE_IMAGE, &containerd.pause()?)?;
        Ok(containerd)
    }

    /// Where it answers.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }

    /// Makes an image of one static program and imports it.
    ///
    /// # Errors
    /// When it isn't accepted.
    pub fn import_program(&mut self, reference: &str, program: &Path) -> Result<()> {
        let file = self.folder.path().join("image.tar");
        let (name, program) = (program.file_name().context("a path")?, fs::read(program)?);
        let image = Image {
            reference,
            name: name.to_str().context("a UTF-8 name")?,
            program: &program,
            arguments: &[],
            user: "0:0",
            port: None,
            labels: &[],
        };
        observer_image::write(&image, File::create(&file)?)?;
        self.import(reference, &file)
    }

    /// Imports an image from a file.
    ///
    /// # Errors
    /// When it isn't accepted.
    pub fn import(&mut self, reference: &str, file: &Path) -> Result<()> {
        let output = Command::new("ctr")
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", "k8s.io", "images", "import", "--snapshotter", "native"])
            .arg(file)
            .output()?;
        ensure!(output.status.success(), "ctr images import: {output:?}");
        wait::until(reference, || Ok(self.cri.has_image(reference)?.then_some(())))
    }

    /// Starts a pod with its one container.
    ///
    /// # Errors
    /// When the runtime refuses.
    pub fn run(&mut self, pod: &Pod<'_>) -> Result<()> {
        let sandbox = self.sandbox(pod);
        let id = self.cri.run_pod(&sandbox)?;
        self.pods.push(id.clone());
        if let (Some(tasks), Some(linux)) = (pod.tasks, &sandbox.linux) {
            let group = cgroup::mount_of("pids").context("needs the cgroup controller pids")?;
            let group = group.join(linux.cgroup_parent.trim_start_matches('/'));
            fs::write(group.join("pids.max"), tasks.to_string())?;
        }
        self.cri.start(&id, &sandbox, container(pod))?;
        Ok(())
    }

    /// Ends the pod that was started last, and removes it.
    ///
    /// # Errors
    /// When the runtime can't.
    pub fn remove_last(&mut self) -> Result<()> {
        let pod = self.pods.pop().context("there is no pod")?;
        self.cri.remove_pod(&pod)
    }

    /// What a container has written.
    ///
    /// # Errors
    /// When there is no log.
    pub fn log(&self, pod: &Pod<'_>) -> Result<String> {
        Ok(fs::read_to_string(self.folder.path().join("logs").join(log_file(pod)))?)
    }

    fn sandbox(&self, pod: &Pod<'_>) -> Sandbox {
        let uid = format!("00000000-0000-4000-8000-{:012}", self.pods.len());
        let label = |name: &str, value: &str| (format!("io.kubernetes.{name}"), value.to_owned());
        Sandbox {
            name: Some(PodName {
                name: pod.name.to_owned(),
                uid: uid.clone(),
                namespace: pod.namespace.to_owned(),
            }),
            log_directory: self.folder.path().join("logs").display().to_string(),
            labels: [
                label("pod.name", pod.name),
                label("pod.namespace", pod.namespace),
                label("pod.uid", &uid),
            ]
            .into(),
            linux: Some(LinuxSandbox {
                cgroup_parent: format!("/{}/kubepods/burstable/pod{uid}", self.cgroup),
                security: Some(SandboxSecurity { namespaces: Some(Namespaces::new(pod.host_pid)) }),
            }),
        }
    }

    /// Builds the program that holds a pod's namespaces.
    fn pause(&self) -> Result<PathBuf> {
        let source = self.folder.path().join("pause.c");
        fs::write(&source, PAUSE)?;
        let program = self.folder.path().join("pause");
        let output = Command::new("gcc").args(["-static", "-o"]).arg(&program).arg(&source).output()?;
        ensure!(output.status.success(), "gcc: {output:?}");
        Ok(program)
    }

    fn end(&mut self) -> Result<()> {
        for pod in std::mem::take(&mut self.pods) {
            self.cri.remove_pod(&pod)?;
        }
        crate::proc::signal(self.child.0.id(), Signal::SIGTERM);
        wait::until("the end of containerd", || Ok(self.child.0.try_wait()?))?;
        for mount in mounts_below(self.folder.path())?.iter().rev() {
            umount2(mount.as_path(), MntFlags::MNT_DETACH)?;
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup")? {
            let group = hierarchy?.path().join(&self.cgroup);
            wait::until("the removal of cgroups", || Ok(remove_groups(&group).then_some(())))?;
        }
        Ok(())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("cannot clean up after containerd: {error:#}");
        }
    }
}

fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
    format!(
        "version = 2\nroot = \"{folder}/root\"\nstate = \"{folder}/state\"\n\
         [grpc]\naddress = \"{folder}/{SOCKET}\"\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{folder}/opt\"\n\
         [{cri}]\nsandbox_image = \"{PAUSE_IMAGE}\"\nrestrict_oom_score_adj = true\n\
         [{cri}.containerd]\nsnapshotter = \"native\"\n\
         [{cri}.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n"
    )
}

fn container(pod: &Pod<'_>) -> ContainerConfig {
    let label = |name: &str, value: &str| (format!("io.kubernetes.{name}"), value.to_owned());
    let envs = pod
        .environment
        .iter()
        .map(|(key, value)| KeyValue { key: (*key).to_owned(), value: (*value).to_owned() });
    ContainerConfig {
        name: Some(ContainerName { name: pod.container.to_owned() }),
        image: Some(ImageSpec { image: pod.image.to_owned() }),
        args: pod.args.clone(),
        envs: envs.collect(),
        mounts: pod.mounts.clone(),
        labels: [
            label("container.name", pod.container),
            label("pod.name", pod.name),
            label("pod.namespace", pod.namespace),
        ]
        .into(),
        log_path: log_file(pod),
        linux: Some(LinuxContainer {
            resources: Some(pod.resources.clone()),
            security: Some(ContainerSecurity {
                capabilities: pod.capabilities.clone(),
                namespaces: Some(Namespaces::new(pod.host_pid)),
                readonly_root: true,
                no_new_privileges: true,
                seccomp: Some(SecurityProfile { kind: 0 }),
            }),
        }),
    }
}

fn log_file(pod: &Pod<'_>) -> String {
    format!("{}_{}.log", pod.namespace, pod.name)
}

/// Mount points below a folder, outer ones first.
fn mounts_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    Ok(points.filter(|point| point.starts_with(folder)).collect())
}

/// Removes a cgroup and those below it; false when one is still in use.
fn remove_groups(group: &Path) -> bool {
    let Ok(entries) = fs::read_dir(group) else { return true };
    let mut below = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    below.all(|path| remove_groups(&path)) && fs::remove_dir(group).is_ok()
}
