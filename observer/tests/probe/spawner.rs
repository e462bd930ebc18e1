//! A Go process that starts goroutines when it is told to.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use observer::gobin::sites::Site;
use observer::probe::{Attachment, TargetCounts};
use observer_ebpf::abi::Group;

use crate::sites::Symbols;

/// A version of Go and where `gopc` and `waitreason` are in its `struct g`.
#[derive(Clone, Copy)]
pub(crate) struct Go {
    pub(crate) version: &'static str,
    gopc_offset: u16,
    waitreason_offset: u16,
}

const fn go(version: &'static str, gopc_offset: u16, waitreason_offset: u16) -> Go {
    Go { version, gopc_offset, waitreason_offset }
}

/// The first version, the newest, and one between with another layout.
pub(crate) const ALL: [Go; 3] = [go("1.19", 296, 176), go("1.24", 288, 184), go("1.27", 288, 176)];

/// Every minor version, where code differs from one to the next.
pub(crate) const EVERY: [Go; 8] = [
    go("1.19", 296, 176),
    go("1.21", 280, 176),
    go("1.22", 280, 176),
    go("1.23", 288, 184),
    go("1.24", 288, 184),
    go("1.25", 280, 176),
    go("1.26", 288, 176),
    go("1.27", 288, 176),
];

/// For tests whose subject doesn't depend on the version.
pub(crate) const ANY: Go = ALL[1];

/// Whether real probes can be tested here; says what is missing.
pub(crate) fn can_run() -> bool {
    let mut missing = Vec::new();
    if !nix::unistd::Uid::effective().is_root() {
        missing.push("root".to_owned());
    }
    missing.extend(EVERY.iter().filter(|go| go.root().is_none()).map(|go| format!("Go {}", go.version)));
    if missing.is_empty() {
        return true;
    }
    let missing = missing.join(", ");
    assert_ne!(env::var("OBSERVER_REQUIRE").as_deref(), Ok("1"), "missing: {missing}");
    println!("skipped: needs {missing}; `cargo xtask setup` installs Go");
    false
}

/// How the program is built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Build {
    name: &'static str,
    flags: &'static [&'static str],
    cgo: bool,
}

const STATIC: Build = Build { name: "static", flags: &[], cgo: false };

/// Every way of building that changes how a thread finds its goroutine.
pub(crate) const BUILDS: [Build; 5] = [
    STATIC,
    Build { name: "stripped", flags: &["-ldflags=-s -w"], cgo: false },
    Build { name: "pie", flags: &["-buildmode=pie"], cgo: false },
    Build { name: "cgo", flags: &[], cgo: true },
    Build { name: "cgo-pie", flags: &["-buildmode=pie"], cgo: true },
];

impl Go {
    pub(crate) fn start(self) -> Spawner {
        let executable = self.build(STATIC);
        let mut child =
            Command::new(&executable).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let symbols = Symbols::read(&executable);
        let mut spawner = Spawner {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            sites: symbols.sites(),
            child,
            symbols,
            go: self,
        };
        // `spawn` returns while the kernel still maps the program: an answer shows that it runs.
        spawner.run("short", 0);
        spawner
    }

    fn root(self) -> Option<PathBuf> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let user = || set("XDG_CACHE_HOME").unwrap_or_else(|| env::home_dir().unwrap().join(".cache"));
        let cache = set("OBSERVER_CACHE").unwrap_or_else(|| user().join("observer"));
        let roots =
            [cache.join("go").join(self.version), PathBuf::from(format!("/usr/lib/go-{}", self.version))];
        roots.into_iter().find(|root| root.join("bin/go").is_file())
    }

    /// Builds the program in some way.
    pub(crate) fn build(self, build: Build) -> PathBuf {
        static BUILDING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let executable = folder.join(format!("spawner-{}-{}", self.version, build.name));
        let status = Command::new(self.root().unwrap().join("bin/go"))
            .args(["build", "-o"])
            .arg(&executable)
            .args(build.flags)
            .arg(".")
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probe/spawner"))
            .env("GOTOOLCHAIN", "local")
            .env("GOFLAGS", "")
            .env("CGO_ENABLED", if build.cgo { "1" } else { "0" })
            .env("GOCACHE", folder.join("go-build"))
            .env_remove("GOROOT")
            .status()
            .unwrap();
        assert!(status.success());
        executable
    }
}

/// A running one; killed when dropped.
pub(crate) struct Spawner {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    go: Go,
    pub(crate) symbols: Symbols,
    pub(crate) sites: Vec<Site>,
}

impl Spawner {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives a command and waits until it is done.
    pub(crate) fn run(&mut self, command: &str, n: usize) {
        assert_eq!(self.ask(command, n), "ok", "{command} {n}");
    }

    /// Gives a command and waits for the answer.
    pub(crate) fn ask(&mut self, command: &str, n: usize) -> String {
        writeln!(self.input, "{command} {n}").unwrap();
        answer(&mut self.output)
    }

    /// With all sites where goroutines start and end.
    pub(crate) fn attachment(&self, slot: u64) -> Attachment<'_> {
        self.attachment_at(slot, &self.sites)
    }

    /// With all sites where goroutines park and run.
    pub(crate) fn waits_attachment(&self, slot: u64) -> Attachment<'_> {
        Attachment { group: Group::Waits, ..self.attachment(slot) }
    }

    /// With the group that the first of these sites belongs to.
    pub(crate) fn attachment_at<'a>(&self, slot: u64, sites: &'a [Site]) -> Attachment<'a> {
        Attachment {
            pid: self.pid(),
            slot,
            gopc_offset: self.go.gopc_offset,
            waitreason_offset: self.go.waitreason_offset,
            load_bias: 0,
            group: sites[0].probe.group(),
            sites,
        }
    }

    /// `(created by, entry, created, exited)` of the program's own callsites.
    pub(crate) fn named(&self, counts: &TargetCounts) -> Vec<(String, String, u64, u64)> {
        let name = |address| self.symbols.function_at(address).to_owned();
        let mut named: Vec<_> = counts
            .iter()
            .map(|(&(gopc, entry), counts)| (name(gopc), name(entry), counts.created, counts.exited))
            .filter(|(by, entry, ..)| by.starts_with("main.") || entry == "runtime.corostart")
            .collect();
        named.sort();
        named
    }

    /// Parks of the program's own callsites: `(created by, entry, parked)`.
    pub(crate) fn parks(&self, counts: &TargetCounts) -> Vec<(String, String, u64)> {
        let name = |address| self.symbols.function_at(address).to_owned();
        let mut parks: Vec<_> = counts
            .iter()
            .filter(|(_, counts)| counts.parked > 0)
            .map(|(&(gopc, entry), counts)| (name(gopc), name(entry), counts.parked))
            .filter(|(by, ..)| by.starts_with("main."))
            .collect();
        parks.sort();
        parks
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Milliseconds that an answer may take.
const PATIENCE: i32 = 120_000;

/// Waits for a line, far longer than any takes: where a program hangs, a test shall fail.
pub(crate) fn answer(output: &mut BufReader<impl Read + AsFd>) -> String {
    // Nothing of an answer is buffered before it is asked for.
    let descriptor = PollFd::new(output.get_ref().as_fd(), PollFlags::POLLIN);
    assert_eq!(
        poll(&mut [descriptor], PollTimeout::try_from(PATIENCE).unwrap()).unwrap(),
        1,
        "the program doesn't answer"
    );
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

impl Drop for Spawner {
    fn drop(&mut self) {
        // It may have been killed before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
