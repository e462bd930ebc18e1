//! What a test needs from the machine. A machine that lacks it skips the test and says so; with
//! `OBSERVER_REQUIRE=1`, as in continuous integration, it fails instead.

use crate::{cgroup, observer};
use std::env;
use std::process::Command;

/// Something that not every machine has.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// User id 0.
    Root,
    /// `promtool`, from Prometheus.
    Promtool,
    /// A C compiler.
    Compiler,
    /// A cgroup controller below which child groups may be made.
    Controller(&'static str),
    /// An observer that runs without a dynamic loader, as `cargo xtask build` makes it.
    StaticObserver,
    /// A command.
    Command(&'static str),
}

impl Need {
    /// Why it can't be had, or `None`.
    fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!nix::unistd::geteuid().is_root()).then(|| "needs root".into()),
            Self::Promtool => missing_command("promtool"),
            Self::Compiler => missing_command("gcc"),
            Self::Controller(name) => cgroup::Child::create(name).err().map(|error| format!("{error:#}")),
            Self::StaticObserver => {
                let checked = observer::binary().and_then(|binary| observer_image::ensure_static(&binary));
                checked.err().map(|error| format!("{error:#}"))
            }
            Self::Command(name) => missing_command(name),
        }
    }
}

fn missing_command(name: &str) -> Option<String> {
    let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).output();
    let found = found.is_ok_and(|output| output.status.success());
    (!found).then(|| format!("needs the command {name}"))
}

/// Whether the test can run here; otherwise the reason is printed.
///
/// # Panics
/// When something is missing although `OBSERVER_REQUIRE=1`.
#[must_use]
pub fn have(needs: &[Need]) -> bool {
    let missing: Vec<_> = needs.iter().filter_map(|need| need.missing()).collect();
    if missing.is_empty() {
        return true;
    }
    let reason = missing.join(", ");
    assert!(env::var_os("OBSERVER_REQUIRE").is_none_or(|value| value != "1"), "required, but {reason}");
    eprintln!("skipped: {reason}");
    false
}

/// Whether this process is root; otherwise says that the test is skipped.
///
/// # Panics
/// As [`have`].
#[must_use]
pub fn root() -> bool {
    have(&[Need::Root])
}
