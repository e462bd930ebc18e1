//! Execs are seen as they happen.

use std::process::Command;
use std::time::Duration;

use observer::probe::{Options, Probes};

use crate::spawner;

/// Each of many children is reported by its pid.
#[tokio::test]
async fn every_exec_is_reported() {
    if !spawner::can_run() {
        return;
    }
    let probes = Probes::load(&Options { max_callsites_in_kernel: 1, ..Options::default() }).unwrap();
    let mut execs = probes.watch_execs().unwrap();
    let mut expected: Vec<u32> = (0..50).map(|_| run_true()).collect();
    let seen = async {
        while !expected.is_empty() {
            let pid = execs.next().await.unwrap();
            expected.retain(|expected| *expected != pid);
        }
    };
    tokio::time::timeout(Duration::from_secs(30), seen).await.unwrap();
}

/// Outside a runtime it is an error and no panic.
#[test]
fn execs_need_a_runtime() {
    if !spawner::can_run() {
        return;
    }
    let probes = Probes::load(&Options { max_callsites_in_kernel: 1, ..Options::default() }).unwrap();
    assert!(probes.watch_execs().is_err());
}

fn run_true() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}
