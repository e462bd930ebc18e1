//! What the running kernel is and what it allows.

use std::fs;

/// `(major, minor)` of the running kernel, such as `(6, 1)`; `None` when its release has another form.
#[must_use]
pub(super) fn version() -> Option<(u32, u32)> {
    parse_version(rustix::system::uname().release().to_str().ok()?)
}

fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Yama's setting, if it forbids to look into other processes.
pub(super) fn yama_hint() -> String {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    match scope.trim() {
        "" | "0" => String::new(),
        "3" => "; kernel.yama.ptrace_scope is 3, which forbids it to everyone until the next boot".to_owned(),
        scope => format!("; kernel.yama.ptrace_scope is {scope}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distributions append to the release in several ways; only the first two numbers matter.
    #[test]
    fn version_is_the_first_two_numbers() {
        assert_eq!(parse_version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(parse_version("5.15.0-91-generic"), Some((5, 15)));
        assert_eq!(parse_version("6.1-rc3+"), Some((6, 1)));
        assert_eq!(parse_version("next"), None);
    }
}
