//! What happens to processes is seen as it happens.

use std::process::Command;
use std::time::Duration;

use observer::probe::{Options, Probes};
use observer_ebpf::abi::ProcessChange;

use crate::spawner;

/// Each of many children is reported by its pid.
#[tokio::test]
async fn every_exec_is_reported() {
    if !spawner::can_run() {
        return;
    }
    let probes = Probes::load(&Options { max_callsites_in_kernel: 1, ..Options::default() }).unwrap();
    let mut watch = probes.watch_processes().unwrap();
    assert!(watch.tells_oom_kills());
    let mut expected: Vec<u32> = (0..50).map(|_| run_true()).collect();
    let seen = async {
        while !expected.is_empty() {
            let (pid, change) = watch.next().await.unwrap();
            expected.retain(|expected| (*expected, ProcessChange::Exec) != (pid, change));
        }
    };
    tokio::time::timeout(Duration::from_secs(30), seen).await.unwrap();
}

/// Outside a runtime it is an error and no panic.
#[test]
fn watching_needs_a_runtime() {
    if !spawner::can_run() {
        return;
    }
    let probes = Probes::load(&Options { max_callsites_in_kernel: 1, ..Options::default() }).unwrap();
    assert!(probes.watch_processes().is_err());
}

fn run_true() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}
