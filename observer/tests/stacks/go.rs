//! The Go program whose stacks are read, in many builds.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

/// All minor versions that are supported and can be had.
pub(crate) const VERSIONS: [u32; 8] = [19, 21, 22, 23, 24, 25, 26, 27];

/// How the program is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    Static,
    /// Position-independent.
    Pie,
    /// Without symbols, DWARF and build paths.
    Stripped,
    /// With C code, by the C linker.
    Cgo,
}

pub(crate) const VARIANTS: [Variant; 4] = [Variant::Static, Variant::Pie, Variant::Stripped, Variant::Cgo];

impl Variant {
    const fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Static | Self::Cgo => &[],
            Self::Pie => &["-buildmode=pie"],
            Self::Stripped => &["-trimpath", "-ldflags=-s -w"],
        }
    }
}

/// Whether real profiles can be tested here; says what is missing.
pub(crate) fn can_run() -> bool {
    let mut missing = Vec::new();
    if !nix::unistd::Uid::effective().is_root() {
        missing.push("root".to_owned());
    }
    missing
        .extend(VERSIONS.iter().filter(|minor| root(**minor).is_none()).map(|minor| format!("Go 1.{minor}")));
    if missing.is_empty() {
        return true;
    }
    let missing = missing.join(", ");
    assert_ne!(env::var("OBSERVER_REQUIRE").as_deref(), Ok("1"), "missing: {missing}");
    println!("skipped: needs {missing}; `cargo xtask setup` installs Go");
    false
}

fn cache() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = || set("XDG_CACHE_HOME").unwrap_or_else(|| env::home_dir().unwrap().join(".cache"));
    set("OBSERVER_CACHE").unwrap_or_else(|| user().join("observer"))
}

fn root(minor: u32) -> Option<PathBuf> {
    let roots = [cache().join(format!("go/1.{minor}")), PathBuf::from(format!("/usr/lib/go-1.{minor}"))];
    roots.into_iter().find(|root| root.join("bin/go").is_file())
}

/// The `go` command of a version.
pub(crate) fn command(minor: u32) -> Command {
    let mut command = Command::new(root(minor).unwrap().join("bin/go"));
    command
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-buildvcs=false")
        .env("GOCACHE", cache().join("go-build"))
        .env_remove("GOROOT");
    command
}

/// Builds the program; returns where it is.
pub(crate) fn build(minor: u32, variant: Variant) -> PathBuf {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let executable = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("stacks-1.{minor}-{variant:?}"));
    let built = command(minor)
        .args(["build", "-o"])
        .arg(&executable)
        .args(variant.flags())
        .arg(".")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stacks/program"))
        .env("CGO_ENABLED", if variant == Variant::Cgo { "1" } else { "0" })
        .status()
        .unwrap();
    assert!(built.success());
    executable
}

/// A running program; killed when dropped.
pub(crate) struct Program {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    /// One whose goroutines are parked, all but one.
    pub(crate) fn start(minor: u32, variant: Variant) -> Self {
        Self::run(minor, variant, &[])
    }

    /// One whose goroutines never rest.
    pub(crate) fn start_busy(minor: u32) -> Self {
        Self::run(minor, Variant::Static, &["busy"])
    }

    fn run(minor: u32, variant: Variant, arguments: &[&str]) -> Self {
        Self::run_file(&build(minor, variant), arguments)
    }

    /// One that was built.
    pub(crate) fn run_file(executable: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(executable)
            .args(arguments)
            // As programs for the newest version have it.
            .env("GODEBUG", "tracebacklabels=1,asynctimerchan=0")
            // Broken programs survive until somebody looks at their stacks.
            .env("GOGC", if arguments.contains(&"victims") { "off" } else { "100" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut program = Self { child, input, output };
        assert_eq!(program.line(), "ready");
        program
    }

    /// Its own profile, by its own runtime.
    pub(crate) fn own(&mut self, format: &str) -> Vec<u8> {
        writeln!(self.input, "{format}").unwrap();
        let mut profile = vec![0; self.line().parse().unwrap()];
        self.output.read_exact(&mut profile).unwrap();
        profile
    }

    /// Our profile, by the command.
    pub(crate) fn ours(&self, arguments: &[&str]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("profile");
        let done = Command::new(env!("CARGO_BIN_EXE_observer"))
            .args(["dump", &self.child.id().to_string(), "-o"])
            .arg(&file)
            .args(arguments)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        fs::read(file).unwrap()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
