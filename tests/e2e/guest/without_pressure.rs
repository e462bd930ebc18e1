//! A kernel that doesn't account for pressure: `psi=0`, or built without.

use super::support::limits;
use crate::doctor::{doctor, findings};
use anyhow::{Result, ensure};
use observer_tests::cgroup::Child;
use observer_tests::metrics::Samples;
use observer_tests::proc::loop_device;
use observer_tests::serve::Serve;
use std::path::Path;

/// There are no series of pressure, none that is 0, and everything else of the group is there.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn serve_shows_everything_else() -> Result<()> {
    ensure!(!Path::new("/proc/pressure/io").exists(), "this kernel accounts for pressure");
    let group = Child::create("memory")?;
    group.write("memory.max", "100M")?;
    let limits = limits()?;
    group.add(limits.pid())?;
    let serve = Serve::start(&["--interval", "200ms"])?;
    let limit = |samples: &Samples| samples.sum("observer_cgroup_memory_limit_bytes", &[]);
    let samples = serve.until("the limit", |samples| limit(samples).is_some())?;
    assert_eq!(limit(&samples), Some(f64::from(100 << 20)));
    let pressure = samples.all.iter().find(|sample| sample.name.starts_with("observer_cgroup_pressure"));
    ensure!(pressure.is_none(), "{pressure:?}");
    Ok(())
}

/// Goroutines that wait for a device are no finding that nobody can prove.
#[test]
#[ignore = "for guests: cargo xtask vm"]
fn doctor_says_nothing_of_pressure() -> Result<()> {
    let (device, number) = loop_device()?;
    let group = Child::create("io")?;
    group.write("io.max", &format!("{number} wbps=262144"))?;
    let mut writers = limits()?;
    group.add(writers.pid())?;
    writers.ask(&format!("write {device} 2"))?;
    let findings = findings(&doctor(writers.pid(), 4, &[])?)?;
    let of_io =
        findings.iter().find(|finding| finding["rule"].as_str().is_some_and(|r| r.starts_with("io-")));
    ensure!(of_io.is_none(), "{of_io:?}");
    writers.stop()
}
