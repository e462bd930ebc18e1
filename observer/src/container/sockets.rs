//! Where container runtimes listen.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// In the order in which they are asked.
const USUAL: [&str; 6] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/k0s/containerd.sock",
    "/run/cri-dockerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
];
/// The machine's files, for an observer that is in a container itself and sees the machine's processes.
const HOST: &str = "/proc/1/root";

/// Sockets that are there now; of the same socket only one path.
pub(super) fn usual() -> Vec<PathBuf> {
    let own = USUAL.iter().map(PathBuf::from);
    let found: Vec<PathBuf> = own.filter(|path| is_socket(path)).collect();
    if found.is_empty() {
        USUAL
            .iter()
            .map(|path| PathBuf::from(format!("{HOST}{path}")))
            .filter(|path| is_socket(path))
            .collect()
    } else {
        found
    }
}

fn is_socket(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
}
