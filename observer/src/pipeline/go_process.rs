//! Whether a process that somebody names can be observed.

use std::io::ErrorKind;
use std::path::Path;

use super::executables::{self, Recognised};
use crate::discover::process;
use crate::text::printable;

/// Why a named process can't be observed: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unobservable {
    /// There is none.
    #[error("there is no process {0}; `observer list` shows the Go processes of this machine")]
    NoProcess(u32),
    /// The kernel doesn't let us.
    #[error("process {0} may not be looked at: run observer as root, or with CAP_SYS_PTRACE")]
    Denied(u32),
    /// It executes nothing.
    #[error("process {0} has no executable: it is a kernel thread, or has just ended")]
    NoExecutable(u32),
    /// It is another program.
    #[error("process {0} ({1}) is no Go program; `observer list` shows the Go processes of this machine")]
    Foreign(u32, String),
    /// It is a Go program that can't be read.
    #[error("process {0} can't be observed: {1}")]
    Refused(u32, String),
}

/// Says why a process can't be observed at all; `Ok` if it is a Go process.
///
/// # Errors
/// [`Unobservable`].
pub fn require(pid: u32) -> Result<(), Unobservable> {
    if !Path::new(&format!("/proc/{pid}")).exists() {
        return Err(Unobservable::NoProcess(pid));
    }
    if let Err(error) = std::fs::metadata(process::exe_path(pid)) {
        return Err(match error.kind() {
            ErrorKind::PermissionDenied => Unobservable::Denied(pid),
            _ => Unobservable::NoExecutable(pid),
        });
    }
    match executables::read(&process::exe_path(pid)) {
        Recognised::Go(_) => Ok(()),
        Recognised::Foreign => {
            let name = process::exe_name(pid).unwrap_or_default();
            Err(Unobservable::Foreign(pid, printable(&name).into_owned()))
        }
        Recognised::Refused { reason, .. } => Err(Unobservable::Refused(pid, reason)),
    }
}
