//! What is said when a named process can't be observed.

use anyhow::bail;

use crate::discover::process;
use crate::pipeline::executables::{self, Recognised};

/// Says why a process can't be observed at all; `Ok` if it is a Go process.
///
/// # Errors
/// One sentence.
pub(super) fn require_go(pid: u32) -> anyhow::Result<()> {
    if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
        bail!("there is no process {pid}; `observer list` shows the Go processes of this machine");
    }
    if let Err(error) = std::fs::metadata(process::exe_path(pid)) {
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            bail!("process {pid} may not be looked at: run observer as root, or with CAP_SYS_PTRACE");
        }
        bail!("process {pid} has no executable: it is a kernel thread, or has just ended");
    }
    match executables::read(&process::exe_path(pid)) {
        Recognised::Go(_) => Ok(()),
        Recognised::Foreign => bail!(
            "process {pid} ({}) is no Go program; `observer list` shows the Go processes of this machine",
            process::exe_name(pid).unwrap_or_default()
        ),
        Recognised::Refused { reason, .. } => bail!("process {pid} can't be observed: {reason}"),
    }
}
