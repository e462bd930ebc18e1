//! Time on a CPU by callsite, against programs that burn it in a known proportion.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use observer::discover::exe::ExeFile;
use observer::discover::process;
use observer::gobin::GoBinary;
use observer::gobin::source::Source;
use observer::probe::{Counts, Options, Probes, SampledTarget, TargetCounts};
use observer_ebpf::abi::CallsiteKey;

use crate::spawner::{self, BUILDS};

/// Often, so that a short burn gives many samples; a prime, so as not to walk in step with anything.
const HZ: u32 = 997;
/// CPU time that is burnt.
const BURN_MS: u32 = 1000;

/// Of a second of CPU time that two goroutines use three to one, the samples find three quarters at the one
/// callsite and one quarter at the other, and as much in all as the kernel accounts to the process: however
/// the program is built and linked.
#[test]
fn samples_follow_cpu_time() {
    if !spawner::can_run() {
        return;
    }
    let probes = Probes::load(&Options { cpu_sampling_hz: HZ, ..Options::default() }).unwrap();
    for (slot, (go, build)) in
        spawner::ALL.into_iter().flat_map(|go| BUILDS.map(|build| (go, build))).enumerate()
    {
        let what = format!("Go {} {build:?}", go.version);
        let executable = go.build(build);
        let (samples, used) = sampled(&probes, slot as u64, &executable, burn);
        check(&what, &samples, used);
    }
    assert_eq!(probes.counts().unwrap(), Counts::default());
}

/// In a program that does little but start goroutines and end them, threads are often caught between two goroutines:
/// that is the scheduler's time, not memory that can't be read.
#[test]
fn switching_is_readable() {
    if !spawner::can_run() {
        return;
    }
    let probes = Probes::load(&Options { cpu_sampling_hz: HZ, ..Options::default() }).unwrap();
    for (slot, go) in spawner::EVERY.into_iter().enumerate() {
        let samples =
            sampled(&probes, slot as u64, &go.build(BUILDS[0]), |child| ask(child, "short 2000000")).0;
        println!("Go {}: {samples:?}", go.version);
        assert!(samples.values().sum::<u64>() > 100, "Go {}: {samples:?}", go.version);
        assert_eq!(samples.get("unreadable"), None, "Go {}: {samples:?}", go.version);
    }
}

fn check(what: &str, samples: &BTreeMap<String, u64>, used_ms: u64) {
    let all: u64 = samples.values().sum();
    let of = |entry: &str| *samples.get(entry).unwrap_or(&0) as f64 / all as f64;
    println!("{what}: {used_ms} ms used, {} ms sampled: {samples:?}", all * 1000 / u64::from(HZ));
    // Five times the standard deviation of so many samples, and some for what else the program does.
    let error = 5.0 * (0.25 * 0.75 / all as f64).sqrt() + 0.02;
    assert!((of("main.burnThree") - 0.75).abs() < error, "{what}: {samples:?}");
    assert!((of("main.burnOne") - 0.25).abs() < error, "{what}: {samples:?}");
    let sampled_ms = all as f64 * 1000.0 / f64::from(HZ);
    let error = 5.0 / (all as f64).sqrt() + 0.02;
    assert!((sampled_ms / used_ms as f64 - 1.0).abs() < error, "{what}: {sampled_ms} of {used_ms} ms");
    assert_eq!(samples.get("unreadable"), None, "{what}");
}

/// Starts a program and has it do something; returns the samples by entry, and the milliseconds of CPU time it used.
fn sampled(
    probes: &Probes,
    slot: u64,
    executable: &Path,
    work: impl FnOnce(&mut Child),
) -> (BTreeMap<String, u64>, u64) {
    let file = ExeFile::open(executable).unwrap();
    let binary = GoBinary::analyse(&file).unwrap();
    let mut child = start(executable);
    let pid = child.id();
    let (tls_offset, layout) = (binary.tls_offset.unwrap(), binary.layouts.layout());
    probes.sample(&SampledTarget { pid, slot, tls_offset, layout }).unwrap();
    let before = cpu_ms(pid);
    work(&mut child);
    let used = cpu_ms(pid) - before;
    probes.end_sampling(slot);
    let bias = process::load_bias(pid, binary.image.entry).unwrap();
    let samples = named(&file, &binary, bias, &probes.forget(slot).unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    (samples, used)
}

fn start(executable: &Path) -> Child {
    let mut child = Command::new(executable).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    ask(&mut child, "sleep 1");
    child
}

fn burn(child: &mut Child) {
    ask(child, &format!("burn {BURN_MS}"));
}

fn ask(child: &mut Child, command: &str) {
    writeln!(child.stdin.as_mut().unwrap(), "{command}").unwrap();
    let mut output = BufReader::with_capacity(1, child.stdout.as_mut().unwrap());
    assert_eq!(spawner::answer(&mut output), "ok", "{command}");
}

/// User and system time of a process, from the accounting that counts nanoseconds.
fn cpu_ms(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanoseconds = tasks.map(|task| {
        let stat = fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        stat.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    nanoseconds.sum::<u64>() / 1_000_000
}

/// Samples by entry.
fn named(source: &dyn Source, binary: &GoBinary, bias: u64, counts: &TargetCounts) -> BTreeMap<String, u64> {
    let mut samples = BTreeMap::new();
    for (&(gopc, entry), counts) in counts {
        let key = CallsiteKey { slot: 0, gopc, entry };
        let name = if key == CallsiteKey::no_goroutine(0) {
            "no goroutine".to_owned()
        } else if key == CallsiteKey::unreadable(0) {
            "unreadable".to_owned()
        } else {
            binary.callsite(source, gopc.wrapping_sub(bias), entry.wrapping_sub(bias)).unwrap().entry
        };
        *samples.entry(name).or_default() += counts.on_cpu;
    }
    samples
}
