//! The DaemonSet of `deploy/kubernetes/base`, as a kubelet reads it.

use crate::cri::{Capabilities, Mount};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder `deploy` of this workspace.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// Reads a YAML file with one document.
///
/// # Errors
/// When it is none.
pub fn yaml(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("not YAML: {}", path.display()))
}

/// What the manifest says of the observer's pod.
pub struct DaemonSet {
    pod: Value,
}

impl DaemonSet {
    /// Reads the manifest.
    ///
    /// # Errors
    /// When there is none.
    pub fn read() -> Result<Self> {
        let manifest = yaml(&folder().join("kubernetes/base/daemonset.yaml"))?;
        Ok(Self { pod: manifest["spec"]["template"]["spec"].clone() })
    }

    /// The observer's container.
    #[must_use]
    pub fn container(&self) -> &Value {
        &self.pod["containers"][0]
    }

    /// Arguments of the observer.
    ///
    /// # Errors
    /// When there are none.
    pub fn args(&self) -> Result<Vec<String>> {
        texts(&self.container()["args"])
    }

    /// Whether it sees the processes of the node.
    #[must_use]
    pub fn host_pid(&self) -> bool {
        self.pod["hostPID"] == true
    }

    /// Privileges, after checking that there are no others.
    ///
    /// # Errors
    /// When the manifest asks for more than a test gives.
    pub fn capabilities(&self) -> Result<Capabilities> {
        let security = &self.container()["securityContext"];
        ensure!(security["privileged"] == false && security["allowPrivilegeEscalation"] == false);
        ensure!(security["readOnlyRootFilesystem"] == true);
        ensure!(security["seccompProfile"]["type"] == "RuntimeDefault");
        let capabilities = &security["capabilities"];
        Ok(Capabilities { add: texts(&capabilities["add"])?, drop: texts(&capabilities["drop"])? })
    }

    /// Parts of the node's file system; `socket` is where the socket of the container runtime is here.
    ///
    /// # Errors
    /// When a mount has no volume.
    pub fn mounts(&self, socket: &Path) -> Result<Vec<Mount>> {
        let list = |value: &Value| value.as_array().cloned().context("no list");
        let volumes = list(&self.pod["volumes"])?;
        let mounts = list(&self.container()["volumeMounts"])?;
        let mounts = mounts.iter().map(|mount| {
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]);
            let path = volume.and_then(|volume| volume["hostPath"]["path"].as_str());
            let mut host_path = path.context("a mount without a volume")?.to_owned();
            if mount["name"] == "cri" {
                host_path = socket.parent().context("a path")?.display().to_string();
            }
            let container_path = mount["mountPath"].as_str().context("no path")?.to_owned();
            Ok(Mount { container_path, host_path, readonly: mount["readOnly"] == true })
        });
        mounts.collect()
    }
}

fn texts(list: &Value) -> Result<Vec<String>> {
    let texts = list.as_array().context("no list")?.iter().map(|text| text.as_str().map(str::to_owned));
    texts.collect::<Option<Vec<_>>>().context("not texts")
}
