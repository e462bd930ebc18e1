//! The systemd unit of `deploy/systemd`, started by systemd.

use super::support::leak_program;
use anyhow::{Context, Result, ensure};
use observer_tests::http;
use observer_tests::metrics::Samples;
use observer_tests::proc::text_is_pristine;
use observer_tests::wait;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

const ADDRESS: &str = "127.0.0.1:9764";
const PROGRAM: &str = "/usr/local/bin/observer";
/// The capabilities of the unit, as the kernel counts them.
const CAPABILITIES: [u32; 5] = [2, 19, 21, 38, 39];

/// The unit as it is starts, keeps its restrictions, and sees, names and probes the Go programs of two other units;
/// stopped, it leaves nothing in them.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn the_unit_observes_other_units() -> Result<()> {
    fs::create_dir_all("/usr/local/bin")?;
    symlink(std::env::var_os("OBSERVER_BIN").context("no observer")?, PROGRAM)?;
    let shops = ["shop", "bank"].map(|name| format!("{name}.service"));
    for unit in &shops {
        let program = leak_program()?;
        let text = format!("[Service]\nExecStart={} -rate 5\n", program.display());
        fs::create_dir_all("/run/systemd/system")?;
        fs::write(format!("/run/systemd/system/{unit}"), text)?;
    }
    systemctl(&["daemon-reload"])?;
    systemctl(&["start", &shops[0], &shops[1], "observer.service"])?;
    let created = |samples: &Samples, unit: &str| {
        samples.sum("observer_goroutines_created_total", &[("unit", unit)]) > Some(0.0)
    };
    let samples = wait::until("counts of both units", || {
        let Ok(answer) = http::request(ADDRESS, "GET /metrics HTTP/1.1\r\nHost: guest\r\n\r\n") else {
            return Ok(None);
        };
        let Ok(samples) = Samples::parse(&answer.body) else { return Ok(None) };
        Ok(shops.iter().all(|unit| created(&samples, unit)).then_some(samples))
    })?;
    let features: Vec<_> = samples.of("observer_feature_enabled", &[]).collect();
    ensure!(!features.is_empty() && features.iter().all(|sample| sample.value == 1.0), "{features:?}");
    ensure!(samples.sum("observer_cgroup_pids", &[("unit", "shop.service")]) > Some(0.0), "no cgroups");
    restricted(main_pid("observer.service")?)?;
    let targets = [main_pid(&shops[0])?, main_pid(&shops[1])?];
    for pid in targets {
        ensure!(!text_is_pristine(pid)?, "there are no probes in {pid}");
    }
    systemctl(&["stop", "observer.service"])?;
    assert_eq!(property("observer.service", "Result")?, "success");
    for pid in targets {
        ensure!(text_is_pristine(pid)?, "something is left in {pid}");
    }
    systemctl(&["stop", &shops[0], &shops[1]])
}

/// A process is in its unit's group, has the unit's capabilities and system call filter, and can gain nothing.
fn restricted(pid: u32) -> Result<()> {
    let group = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    ensure!(group.trim_end().ends_with("/system.slice/observer.service"), "{group}");
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mask = CAPABILITIES.iter().fold(0_u64, |mask, bit| mask | 1 << bit);
    let mask = format!("{mask:016x}");
    for (name, value) in [("CapBnd", &*mask), ("CapEff", &mask), ("NoNewPrivs", "1"), ("Seccomp", "2")] {
        let line = format!("{name}:\t{value}");
        ensure!(status.lines().any(|has| has == line), "not {line:?}:\n{status}");
    }
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let root = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/")).context("no root")?;
    ensure!(root.split(' ').nth(5).is_some_and(|options| options.starts_with("ro")), "{root}");
    Ok(())
}

fn main_pid(unit: &str) -> Result<u32> {
    Ok(property(unit, "MainPID")?.parse()?)
}

fn property(unit: &str, name: &str) -> Result<String> {
    let output = Command::new("systemctl").args(["show", "--property", name, "--value", unit]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn systemctl(args: &[&str]) -> Result<()> {
    let output = Command::new("systemctl").args(args).output()?;
    ensure!(output.status.success(), "systemctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
