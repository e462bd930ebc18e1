//! Which tests run in which guests.

use super::kernel::NEWEST;

/// Kernels that `cargo xtask vm` runs unless told otherwise.
pub(super) const KERNELS: [&str; 4] = ["5.10", "6.1", "6.12", NEWEST];

/// Kernels that `cargo xtask test` runs.
pub(super) const USUAL: [&str; 2] = ["6.1", "6.12"];

/// First kernel with attach cookies, without which there are no probes.
const PROBES: (u32, u32) = (5, 15);

/// Tests at a time. Most of them wait for the observer most of the time.
const THREADS: &str = "--test-threads=3";

/// Tests for guests, which other machines ignore; `tests/e2e/guest/` holds them. Names go from the test's path
/// on, because a filter takes every test whose name contains it.
const EVERYWHERE: [&str; 7] = [
    "guest::cgroups::",
    "guest::check::",
    "guest::doctor::",
    "incidents::a_gomemlimit_above_the_limit",
    "incidents::a_spinning_goroutine",
    "incidents::threads_that_become_more",
    "settings::",
];

/// What works by snapshots alone, on any kernel.
const BY_SNAPSHOTS: [&str; 1] = ["guest::snapshots::"];

/// What needs probes: exact counts, the target's text before and after, findings on what grows.
const BY_PROBES: [&str; 8] = [
    "guest::probes::",
    "doctor::a_leak_without_probes_needs_time",
    "doctor::a_lock_convoy",
    "doctor::a_refused_fork",
    "doctor::a_throttled_burst",
    "doctor::too_few_processors",
    "namespaces::",
    "oom::",
];

/// One run of a guest.
pub(super) struct Boot {
    /// What tells its logs from those of the kernel's other runs.
    pub(super) suffix: &'static str,
    /// Parameters for the kernel.
    pub(super) parameters: &'static str,
    /// Whether systemd is its first process.
    pub(super) systemd: bool,
    tests: Vec<&'static str>,
}

impl Boot {
    /// What is special about it, to go behind the kernel's name.
    pub(super) fn title(&self) -> String {
        match (self.parameters, self.systemd) {
            (_, true) => " with systemd".to_owned(),
            ("", false) => String::new(),
            (parameters, false) => format!(" with {parameters}"),
        }
    }
}

/// The runs of a kernel: as Debian means it to be, one without pressure accounting, and one with systemd where there
/// are probes.
pub(super) fn boots(version: (u32, u32)) -> Vec<Boot> {
    let by = if version < PROBES { &BY_SNAPSHOTS[..] } else { &BY_PROBES };
    let boot = |suffix, parameters, tests| Boot { suffix, parameters, systemd: false, tests };
    let usual = boot("", "", [&EVERYWHERE, by].concat());
    let without = boot("-psi0", "psi=0", vec!["guest::without_pressure::"]);
    let systemd = Boot { systemd: true, ..boot("-systemd", "", vec!["guest::unit::"]) };
    [usual, without].into_iter().chain((version >= PROBES).then_some(systemd)).collect()
}

/// Arguments for the tests' program; `None` where none of the run's tests is wanted.
pub(super) fn arguments<'a>(boot: &Boot, filter: Option<&'a str>) -> Option<Vec<&'a str>> {
    let wanted = |test: &&'static str| match filter {
        Some(filter) if filter.contains(test) => Some(filter),
        Some(filter) if !test.contains(filter) => None,
        _ => Some(*test),
    };
    let mut wanted: Vec<&str> = boot.tests.iter().filter_map(wanted).collect();
    if wanted.is_empty() && boot.suffix.is_empty() {
        // A test that isn't meant for guests, but asked for.
        wanted.extend(filter.filter(|filter| !filter.starts_with("guest::")));
    }
    let options = ["--include-ignored", THREADS];
    (!wanted.is_empty()).then(|| [&options[..], &wanted].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Every name is that of a test, or of a file of tests: others would be left out silently.
    #[test]
    fn names_tests_that_exist() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/e2e");
        let boots = [(5, 10), (6, 12)].into_iter().flat_map(boots);
        for test in boots.flat_map(|boot| boot.tests) {
            let (file, name) = test.rsplit_once("::").expect("a path");
            let file = folder.join(format!("{}.rs", file.replace("::", "/")));
            let text = std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("{test} has no file"));
            assert!(name.is_empty() || text.contains(&format!("fn {name}(")), "{test} is no test");
        }
    }

    /// A filter takes what it names of each run's tests, and a test by its whole name.
    #[test]
    fn filters() {
        let boots = boots((6, 12));
        let tests = |boot: usize, filter| arguments(&boots[boot], filter).map(|all| all[2..].join(" "));
        assert_eq!(tests(1, None).as_deref(), Some("guest::without_pressure::"));
        assert_eq!(tests(0, Some("guest::check")).as_deref(), Some("guest::check::"));
        assert_eq!(tests(0, Some("guest::check::x")).as_deref(), Some("guest::check::x"));
        assert_eq!(tests(1, Some("guest::check::x")), None);
        assert_eq!(tests(0, Some("other")).as_deref(), Some("other"));
        assert_eq!(tests(0, Some("guest::unit::x")), None);
        assert_eq!(tests(2, Some("guest::unit::x")).as_deref(), Some("guest::unit::x"));
        assert_eq!(tests(1, Some("other")), None);
    }
}
