//! What the kernel refused, in one line that says what may help.

use std::error::Error;
use std::{fs, io};

use aya::programs::ProgramError;

/// One line of an error and its causes; a verifier's log goes to the debug log instead.
pub(super) fn one_line(error: &(dyn Error + 'static)) -> String {
    if let Some(ProgramError::LoadError { io_error, verifier_log }) = error.downcast_ref() {
        log::debug!("verifier: {verifier_log}");
        return with_hint(io_error.to_string(), Some(io_error));
    }
    let mut line = error.to_string();
    let mut io_error = error.downcast_ref::<io::Error>();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        io_error = io_error.or_else(|| cause.downcast_ref());
        source = cause.source();
    }
    with_hint(line, io_error)
}

/// Adds what may help against a refusal for want of privileges.
fn with_hint(line: String, io_error: Option<&io::Error>) -> String {
    match io_error.map(io::Error::kind) {
        Some(io::ErrorKind::PermissionDenied) => format!("{line} ({})", permission_hint()),
        _ => line,
    }
}

/// What a refused BPF or perf call needs, with the settings of this machine that may be the cause.
fn permission_hint() -> String {
    let mut hint = String::from("needs root, or CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN");
    let settings = [
        ("kernel.perf_event_paranoid", "/proc/sys/kernel/perf_event_paranoid"),
        ("kernel.unprivileged_bpf_disabled", "/proc/sys/kernel/unprivileged_bpf_disabled"),
    ];
    for (name, path) in settings {
        if let Ok(value) = fs::read_to_string(path) {
            hint.push_str(&format!("; {name} is {}", value.trim()));
        }
    }
    if let Some(mode) = lockdown() {
        hint.push_str(&format!("; lockdown is {mode}"));
    }
    hint
}

/// The lockdown mode, unless it is `none` or the kernel doesn't show it.
fn lockdown() -> Option<String> {
    let modes = fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    let mode = modes.split('[').nth(1)?.split(']').next()?;
    (mode != "none").then(|| mode.to_owned())
}
