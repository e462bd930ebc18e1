//! Kernels of Debian's cloud images, kept in the cache: `CACHE/vm/kernels/6.12/` holds `vmlinuz`, the modules
//! that guests use, and `package`, the name of the package that they are from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{apt, process, toolchain};

/// The name of whatever kernel is the newest.
pub(super) const NEWEST: &str = "newest";

/// Modules that guests load, in this order.
const MODULES: [&str; 1] = ["loop"];

/// Debian's suites that carry cloud kernels between them: 5.10, 6.1 and 6.12, then all newer ones.
const SUITES: [(&str, &str); 8] = [
    ("debian", "bullseye"),
    ("debian-security", "bullseye-security"),
    ("debian", "bookworm"),
    ("debian-security", "bookworm-security"),
    ("debian", "trixie"),
    ("debian-security", "trixie-security"),
    ("debian", "trixie-backports"),
    ("debian", "sid"),
];

/// A kernel that guests can boot.
pub(super) struct Kernel {
    /// As in `uname -r`.
    pub(super) release: String,
    /// Major and minor version.
    pub(super) version: (u32, u32),
    /// The file to boot.
    pub(super) image: PathBuf,
    /// Modules in the order to load them.
    pub(super) modules: Vec<PathBuf>,
}

impl Kernel {
    /// Finds a kernel by version in the cache, or fetches Debian's newest package of it.
    pub(super) fn find(name: &str, refresh: bool) -> Result<Self> {
        let folder = vm_cache().join("kernels").join(name);
        if refresh || !folder.join("package").is_file() {
            fetch(name, &folder).with_context(|| format!("kernel {name} cannot be had"))?;
        }
        let package = fs::read_to_string(folder.join("package"))?;
        let release = package.trim_start_matches(PREFIX).to_owned();
        let numbers = numbers(&release);
        let [major, minor, ..] = numbers[..] else { bail!("{release} is no kernel version") };
        let modules = MODULES.iter().map(|module| folder.join(format!("{module}.ko"))).collect();
        Ok(Self { release, version: (major, minor), image: folder.join("vmlinuz"), modules })
    }
}

const PREFIX: &str = "linux-image-";
const SUFFIX: &str = "-cloud-amd64";

fn vm_cache() -> PathBuf {
    toolchain::cache().join("vm")
}

fn fetch(name: &str, folder: &Path) -> Result<()> {
    let suites = apt::Suites::update(&vm_cache().join("apt"), &SUITES)?;
    let package = newest(&suites.names(PREFIX)?, name).context("no suite of Debian carries it")?;
    println!("fetching {package}");
    // On the same file system, so that the finished folder appears at once or not at all.
    let temporary = tempfile::tempdir_in(vm_cache())?;
    let unpacked = temporary.path().join("unpacked");
    let release = package.trim_start_matches(PREFIX);
    // Since 6.19 the kernel and its modules are in packages of their own.
    for part in ["linux-image-", "linux-binary-", "linux-modules-"] {
        let downloads = temporary.path().join(part);
        fs::create_dir(&downloads)?;
        if let Ok(file) = suites.download(&format!("{part}{release}"), &downloads) {
            process::output(Command::new("dpkg-deb").arg("-x").arg(file).arg(&unpacked))?;
        }
    }
    let kept = temporary.path().join("kept");
    fs::create_dir(&kept)?;
    keep(&unpacked, release, &kept)?;
    fs::write(kept.join("package"), &package)?;
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder.with_file_name(""))?;
    fs::rename(&kept, folder).with_context(|| format!("cannot create {}", folder.display()))
}

/// Copies what guests use from an unpacked package.
fn keep(unpacked: &Path, release: &str, kept: &Path) -> Result<()> {
    let modules = ["lib/modules", "usr/lib/modules"].map(|place| unpacked.join(place).join(release));
    let modules = modules.iter().find(|folder| folder.is_dir()).context("the package has no modules")?;
    let images = [unpacked.join(format!("boot/vmlinuz-{release}")), modules.join("vmlinuz")];
    let image = images.iter().find(|file| file.is_file()).context("the package has no kernel")?;
    fs::copy(image, kept.join("vmlinuz"))?;
    for module in MODULES {
        let file =
            file_below(modules, &format!("{module}.ko"))?.with_context(|| format!("no {module}.ko"))?;
        let packed = file.extension().is_some_and(|extension| extension == "xz");
        let copy = kept.join(format!("{module}.ko{}", if packed { ".xz" } else { "" }));
        fs::copy(file, &copy)?;
        if packed {
            process::run(Command::new("busybox").arg("unxz").arg(copy))?;
        }
    }
    Ok(())
}

/// The file of that name, or one whose name goes on behind it.
fn file_below(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            if let Some(found) = file_below(&entry.path(), name)? {
                return Ok(Some(found));
            }
        } else if entry.file_name().to_string_lossy().starts_with(name) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// The package with the highest version among those of the kernel named.
fn newest(packages: &[String], name: &str) -> Option<String> {
    let release = |package: &String| {
        let release = package.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        let wanted = name == NEWEST || release.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        // Packages without a third number only depend on the newest of that line.
        (wanted && numbers(release).len() > 2).then(|| numbers(release))
    };
    let releases = packages.iter().filter_map(|package| Some((release(package)?, package)));
    releases.max().map(|(_, package)| package.clone())
}

/// The numbers of a version, however they are separated: `6.1.0-56` is 6, 1, 0, 56.
fn numbers(version: &str) -> Vec<u32> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Versions are compared as numbers, within the line that was asked for.
    #[test]
    fn finds_the_newest_package() {
        let packages = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64-unsigned",
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.12.100+deb13-cloud-amd64",
            "linux-image-6.12.99+deb13-cloud-amd64",
            "linux-image-7.3.4+deb13-amd64",
        ]
        .map(str::to_owned);
        let found = |name| newest(&packages, name);
        assert_eq!(found("6.1").as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(found("6.12").as_deref(), Some("linux-image-6.12.100+deb13-cloud-amd64"));
        assert_eq!(found(NEWEST), found("6.12"));
        assert_eq!(found("5.10"), None);
    }
}
