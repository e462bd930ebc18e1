//! The systemd unit and slice that a cgroup's path names.

use crate::text::printable_bytes;

/// Longest name that becomes a label, in bytes.
const MAX_NAME: usize = 256;
/// Kinds of units that have processes. Slices only hold other groups.
const KINDS: [&str; 5] = [".service", ".scope", ".mount", ".socket", ".swap"];
const SLICE: &str = ".slice";

/// The innermost unit of the parts of a path, else the group's own name; `None` for the root and for slices.
pub(super) fn of_host(parts: &[&str]) -> Option<String> {
    let own = || parts.last().filter(|name| !is_a(name, SLICE));
    innermost(parts).or_else(|| own().map(|name| shown(name)))
}

/// The innermost unit that the parts of a path name.
pub(super) fn innermost(parts: &[&str]) -> Option<String> {
    let unit = parts.iter().rev().find(|name| KINDS.iter().any(|kind| is_a(name, kind)))?;
    // systemd puts an underscore before names that would look like the kernel's own files.
    Some(shown(unit.strip_prefix('_').unwrap_or(unit)))
}

/// The slice that a part of a path is.
pub(super) fn slice(part: &str) -> Option<String> {
    is_a(part, SLICE).then(|| shown(part))
}

fn shown(name: &str) -> String {
    printable_bytes(name.as_bytes(), MAX_NAME)
}

/// Whether `name` is a unit of that kind: a suffix with something before it.
fn is_a(name: &str, kind: &str) -> bool {
    name.strip_suffix(kind).is_some_and(|stem| !stem.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::group;

    fn from_path(path: &str) -> Option<String> {
        group(path).unit.map(|unit| unit.to_string())
    }

    /// The innermost unit counts, also above groups it made itself; slices never do.
    #[test]
    fn names_the_innermost_unit() {
        for (path, unit) in [
            ("/system.slice/nginx.service", "nginx.service"),
            ("/system.slice/nginx.service/workers/1", "nginx.service"),
            ("/user.slice/user-0.slice/user@0.service/app.slice/app-x.service", "app-x.service"),
            ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
            ("/system.slice/_cpu.service", "cpu.service"),
            ("/../../system.slice/x.socket", "x.socket"),
            ("/system.slice/home.mount", "home.mount"),
        ] {
            assert_eq!(from_path(path).as_deref(), Some(unit), "{path}");
        }
    }

    /// Outside systemd the group's own name is all there is; the root and slices belong to nobody.
    #[test]
    fn falls_back_to_the_groups_name() {
        assert_eq!(from_path("/docker/0123").as_deref(), Some("0123"));
        assert_eq!(from_path("/kubepods.slice/pod.slice/0123").as_deref(), Some("0123"));
        assert_eq!(from_path("/.service/x").as_deref(), Some("x"));
        for nobody in ["/", "", "/..", "/../..", "/system.slice", "/a.slice/a-b.slice"] {
            assert_eq!(from_path(nobody), None, "{nobody}");
        }
    }

    /// A label stays printable_bytes and short whatever a group is called.
    #[test]
    fn bounds_and_cleans_names() {
        assert_eq!(from_path("/a\u{1b}[1m\n").as_deref(), Some("a\u{fffd}[1m\u{fffd}"));
        assert_eq!(from_path(&format!("/{}", "ü".repeat(200))).map(|name| name.len()), Some(256));
    }
}
