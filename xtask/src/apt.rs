//! Debian packages, where we may install them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{process, setup};

/// The keys of Debian's archives, where Debian keeps them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Installs packages; an error where there is no apt-get, or no right to use it.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("only root may install packages");
    }
    if apt_get(&["--version"]).stdout(Stdio::null()).status().is_err() {
        bail!("there is no apt-get");
    }
    println!("installing {}", packages.join(" "));
    // A fresh image knows no packages, an old one only versions that are gone.
    if install_known(packages).is_ok() {
        return Ok(());
    }
    update()?;
    install_known(packages)
}

/// Fetches a package's file into a folder, which needs no rights; returns its path.
pub(crate) fn download(package: &str, folder: &Path) -> Result<PathBuf> {
    fetch(&[], package, folder).or_else(|_| {
        update()?;
        fetch(&[], package, folder)
    })
}

fn fetch(options: &[String], package: &str, folder: &Path) -> Result<PathBuf> {
    process::output(apt_get(&["-qq", "download", package]).args(options).current_dir(folder))?;
    let files = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let file = files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    file.with_context(|| format!("apt-get left no file of {package}"))
}

/// The command that installs them, for a person.
pub(crate) fn help(packages: &[&str]) -> String {
    format!("apt-get install {}", packages.join(" "))
}

/// Suites of Debian beside those of this machine, which stay as they are.
pub(crate) struct Suites {
    /// Options that keep apt away from the machine's own lists.
    options: Vec<String>,
}

impl Suites {
    /// Reads what packages there are now. `folder` keeps apt's files; a suite is an archive's name and its own.
    pub(crate) fn update(folder: &Path, suites: &[(&str, &str)]) -> Result<Self> {
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let mut mirrors = mirrors()?;
        if mirrors.trim().is_empty() {
            // A fresh image has no lists yet.
            self::update()?;
            mirrors = self::mirrors()?;
        }
        let line = |(archive, suite): &(&str, &str)| {
            let mirror = mirror(&mirrors, archive)?;
            Ok(format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))
        };
        fs::write(folder.join("sources.list"), suites.iter().map(line).collect::<Result<String>>()?)?;
        let path = folder.display();
        let options = [
            format!("Dir::Etc::SourceList={path}/sources.list"),
            "Dir::Etc::SourceParts=-".to_owned(),
            format!("Dir::State::Lists={path}/lists"),
            format!("Dir::Cache={path}/cache"),
            "APT::Architecture=amd64".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        ];
        let suites = Self { options: options.map(|option| format!("-o{option}")).to_vec() };
        println!("reading Debian's lists of packages");
        process::output(apt_get(&["-qq", "update"]).args(&suites.options))?;
        Ok(suites)
    }

    /// Names of all packages that begin so.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names =
            process::output(Command::new("apt-cache").args(&self.options).args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Fetches a package's file into a folder, which needs no rights; returns its path.
    pub(crate) fn download(&self, package: &str, folder: &Path) -> Result<PathBuf> {
        fetch(&self.options, package, folder)
    }
}

/// Where this machine gets packages from, a line each.
fn mirrors() -> Result<String> {
    process::output(&mut apt_get(&["indextargets", "--format", "$(REPO_URI)"]))
}

/// Where this machine gets an archive from.
fn mirror<'a>(known: &'a str, archive: &str) -> Result<&'a str> {
    let same = |uri: &&str| uri.trim_end_matches('/').rsplit('/').next() == Some(archive);
    known.lines().find(same).with_context(|| format!("apt's sources don't name the archive {archive}"))
}

fn update() -> Result<()> {
    let _lock = setup::lock(setup::PACKAGES)?;
    process::output(&mut apt_get(&["-qq", "update"])).map(drop)
}

fn install_known(packages: &[&str]) -> Result<()> {
    let _lock = setup::lock(setup::PACKAGES)?;
    // Somebody may be installing something else by hand.
    let wait = "-oDPkg::Lock::Timeout=300";
    let mut command = apt_get(&["-qq", "-y", wait, "install", "--no-install-recommends"]);
    process::output(command.args(packages)).map(drop)
}

fn apt_get(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
    command
}
