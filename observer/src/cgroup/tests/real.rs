//! Real groups in the running kernel.

use std::thread::sleep;
use std::time::Duration;

use super::scratch::Scratch;
use crate::cgroup::{CgroupError, Controller, Hierarchies, Mode, Options, Reading, Throttling};

/// Reads a process's groups now.
fn read(scratch: &mut Scratch, pid: u32) -> Reading {
    let membership = scratch.hierarchies.membership(pid).expect("a membership");
    let reading = scratch.hierarchies.read(&membership).expect("a reading");
    assert_eq!(reading.problems, []);
    reading
}

/// The kernel's own throttle counters of a group.
fn kernel_throttling(scratch: &Scratch, group: &str) -> Throttling {
    let number = |key| scratch.number(Controller::Cpu, group, "cpu.stat", key);
    let (key, per_second) =
        if scratch.is_v1(Controller::Cpu) { ("throttled_time ", 1e9) } else { ("throttled_usec ", 1e6) };
    Throttling {
        periods: number("nr_periods "),
        throttled_periods: number("nr_throttled "),
        throttled_seconds: number(key) as f64 / per_second,
    }
}

/// Over three levels, each limit is the tightest, with the group that sets it, and follows changes at once.
#[test]
fn limits_are_effective_over_three_levels() {
    let Some(mut scratch) = Scratch::new() else { return };
    for group in ["/a", "/a/b", "/a/b/c"] {
        scratch.group(group);
    }
    scratch.set_quota("/a", 150_000);
    scratch.set_pids_max("/a", 90);
    scratch.set_pids_max("/a/b", 80);
    scratch.set_pids_max("/a/b/c", 85);
    let process = scratch.start("/a/b/c", "exec sleep 100");
    let membership = scratch.hierarchies.membership(process.id()).expect("a membership");
    assert_eq!(**membership.path(), scratch.shown("/a/b/c"));

    let reading = read(&mut scratch, process.id());
    let cores = reading.cpu.expect("cpu").limit_cores.expect("a limit");
    assert_eq!((cores.value, &*cores.binding, cores.level), (1.5, &*scratch.shown("/a"), 2));
    let pids = reading.pids.expect("pids");
    let limit = pids.limit.expect("a limit");
    assert_eq!((limit.value, &*limit.binding, limit.level), (80, &*scratch.shown("/a/b"), 1));

    scratch.set_pids_max("/a/b/c", 70);
    scratch.set_quota("/a/b", 50_000);
    let reading = read(&mut scratch, process.id());
    let limit = reading.pids.expect("pids").limit.expect("a limit");
    assert_eq!((limit.value, limit.level), (70, 0));
    assert_eq!(reading.cpu.expect("cpu").limit_cores.expect("a limit").value, 0.5);
}

/// Throttling and CPU time equal the kernel's counters, of the own group and of the one with the quota.
#[test]
fn throttling_equals_the_kernels_counters() {
    let Some(mut scratch) = Scratch::new() else { return };
    scratch.group("/quota");
    scratch.group("/quota/own");
    scratch.set_quota("/quota", 10_000);
    let busy = scratch.start("/quota/own", "while :; do :; done");
    let membership = scratch.hierarchies.membership(busy.id()).expect("a membership");
    let throttled = |_| {
        sleep(Duration::from_millis(20));
        kernel_throttling(&scratch, "/quota").throttled_periods >= 3
    };
    assert!((0..3000).any(throttled), "the kernel never throttled the group");
    drop(busy);
    // The period that is under way may still end; then the counters stand.
    let (cpu, own, quota) = loop {
        let before = (kernel_throttling(&scratch, "/quota/own"), kernel_throttling(&scratch, "/quota"));
        let reading = scratch.hierarchies.read(&membership).expect("a reading");
        let after = (kernel_throttling(&scratch, "/quota/own"), kernel_throttling(&scratch, "/quota"));
        if before == after {
            break (reading.cpu.expect("cpu"), after.0, after.1);
        }
    };
    assert_eq!(cpu.throttling, Some(own));
    assert_eq!(cpu.binding_throttling, Some(quota));
    assert!(quota.throttled_seconds > 0.0 && own.throttled_periods == 0, "{quota:?} {own:?}");
    let usage = if scratch.is_v1(Controller::CpuAcct) {
        scratch.number(Controller::CpuAcct, "/quota/own", "cpuacct.usage", "") as f64 / 1e9
    } else {
        scratch.number(Controller::CpuAcct, "/quota/own", "cpu.stat", "usage_usec ") as f64 / 1e6
    };
    assert_eq!(cpu.usage_seconds, Some(usage));
    assert!(usage > 0.0);
}

/// Tasks are counted in the own group and in the one whose limit binds.
#[test]
fn tasks_are_counted_where_the_limit_binds() {
    let Some(mut scratch) = Scratch::new() else { return };
    for group in ["/p", "/p/one", "/p/two"] {
        scratch.group(group);
    }
    scratch.set_pids_max("/p", 50);
    let one = scratch.start("/p/one", "exec sleep 100");
    let _two = scratch.start("/p/two", "exec sleep 100");
    let pids = read(&mut scratch, one.id()).pids.expect("pids");
    assert_eq!((pids.current, pids.binding_current), (Some(1), Some(2)));
    assert_eq!(scratch.number(Controller::Pids, "/p", "pids.current", ""), 2);
}

/// Forks that a limit refuses are counted as the kernel counts them.
#[test]
fn refused_forks_equal_the_kernels_counter() {
    let Some(mut scratch) = Scratch::new() else { return };
    scratch.group("/forks");
    scratch.set_pids_max("/forks", 2);
    // The shell ends at the first refusal, and a process that has ended is shown in the top group.
    let holder = scratch.start("/forks", "exec sleep 100");
    let membership = scratch.hierarchies.membership(holder.id()).expect("a membership");
    assert!(!scratch.start("/forks", "sleep 100 & wait").succeeds(), "the kernel never refused a fork");
    let kernel = scratch.number(Controller::Pids, "/forks", "pids.events", "max ");
    let pids = scratch.hierarchies.read(&membership).expect("a reading").pids.expect("pids");
    assert!(kernel > 0, "the kernel counted no refusal");
    assert_eq!((pids.refused, pids.peak), (Some(kernel), Some(2)));
}

/// Weights and CPUs are those of the kernel's files.
#[test]
fn settings_equal_the_kernels_files() {
    let Some(mut scratch) = Scratch::new() else { return };
    scratch.group("/s");
    let (file, default) =
        if scratch.is_v1(Controller::Cpu) { ("cpu.shares", 1024.0) } else { ("cpu.weight", 100.0) };
    std::fs::write(scratch.path(Controller::Cpu, "/s").join(file), "512").expect("a weight");
    let process = scratch.start("/s", "exec sleep 100");
    let reading = read(&mut scratch, process.id());
    assert_eq!(reading.cpu.expect("cpu").weight, Some(512.0 / default));
    if let Some(cpus) = reading.cpuset_cpus {
        let pid = rustix::process::Pid::from_raw(process.id() as i32);
        let allowed = rustix::thread::sched_getaffinity(pid).expect("a set").count();
        assert_eq!(cpus, allowed);
    }
}

/// A limit of huge pages that is no multiple of one is shown as the kernel has rounded it.
#[test]
fn huge_page_limits_are_as_the_kernel_rounded_them() {
    let Some(mut scratch) = Scratch::new() else { return };
    let Some(group) = HugeGroup::new(&scratch.hierarchies) else {
        eprintln!("skipped: no hugetlb group can be made here");
        return;
    };
    std::fs::write(group.path.join("hugetlb.2MB.max"), "12345678").expect("a limit");
    let process = scratch.start("", "exec sleep 100");
    std::fs::write(group.path.join("cgroup.procs"), process.id().to_string()).expect("joined");
    let reading = read(&mut scratch, process.id());
    drop(process);
    let pages = reading.hugetlb.iter().find(|pages| pages.size == "2MB").expect("2 MB pages");
    let limit = pages.limit_bytes.as_ref().expect("a limit");
    assert_eq!((limit.value, limit.level), (5 << 21, 0));
    assert_eq!((pages.usage_bytes, pages.refused), (Some(0), Some(0)));
    assert!(reading.pressure.cpu.is_some(), "every v2 group but the root counts pressure");
}

/// A group in v2's hugetlb controller, which is given to groups while this one is there.
struct HugeGroup {
    path: std::path::PathBuf,
    control: Option<std::path::PathBuf>,
}

impl HugeGroup {
    fn new(hierarchies: &Hierarchies) -> Option<Self> {
        let (_, hierarchy) = hierarchies.of(Controller::Hugetlb)?;
        let control = hierarchy.point.join("cgroup.subtree_control");
        let given = std::fs::read_to_string(&control).ok()?.contains("hugetlb");
        std::fs::write(&control, "+hugetlb").ok()?;
        let path = hierarchy.point.join(format!("observer-test-huge-{}", std::process::id()));
        let group = Self { path, control: (!given).then_some(control) };
        std::fs::create_dir(&group.path).ok()?;
        Some(group)
    }
}

impl Drop for HugeGroup {
    fn drop(&mut self) {
        super::scratch::remove(&self.path);
        if let Some(control) = &self.control {
            // Others may use it by now.
            let _ = std::fs::write(control, "-hugetlb");
        }
    }
}

/// A memory limit that is no multiple of a page is shown as the kernel has rounded it.
#[test]
fn memory_limits_are_as_the_kernel_rounded_them() {
    let Some(mut scratch) = Scratch::new() else { return };
    if scratch.is_v1(Controller::Cpu) {
        eprintln!("skipped: tests make groups in v2's memory hierarchy only");
        return;
    }
    scratch.group("/m");
    std::fs::write(scratch.path(Controller::Memory, "/m").join("memory.max"), "123456789").expect("a limit");
    let process = scratch.start("/m", "exec sleep 100");
    let memory = read(&mut scratch, process.id()).memory.expect("memory");
    let limit = memory.limit_bytes.expect("a limit");
    assert_eq!((limit.value, limit.level), (scratch.number(Controller::Memory, "/m", "memory.max", ""), 0));
    assert!(limit.value < 123_456_789);
    assert!(memory.usage_bytes.is_some_and(|usage| usage > 0 && usage < limit.value));
}

/// A group removed under open files is gone; one made anew under the same name is read afresh.
#[test]
fn a_removed_group_is_gone_and_never_stale() {
    let Some(mut scratch) = Scratch::new() else { return };
    scratch.group("/g");
    scratch.set_pids_max("/g", 33);
    let process = scratch.start("/g", "exec sleep 100");
    let membership = scratch.hierarchies.membership(process.id()).expect("a membership");
    let usage = |scratch: &mut Scratch| {
        let reading = scratch.hierarchies.read(&membership)?;
        Ok((
            reading.cpu.expect("cpu").usage_seconds,
            reading.pids.expect("pids").limit.map(|limit| limit.value),
        ))
    };
    assert_eq!(usage(&mut scratch).expect("a reading").1, Some(33));
    let pid = process.id();
    drop(process);
    assert!(matches!(scratch.hierarchies.membership(pid), Err(CgroupError::Exited { .. })));

    // Removed and made anew between two readings: kept files are dead, the new ones count.
    scratch.remove("/g");
    scratch.group("/g");
    assert_eq!(usage(&mut scratch).expect("a reading"), (Some(0.0), None));

    let open = scratch.hierarchies.open_files();
    scratch.remove("/g");
    for _ in 0..2 {
        let gone: crate::cgroup::Gone = usage(&mut scratch).expect_err("gone");
        assert_eq!(*gone.path, scratch.shown("/g"));
    }
    assert!(scratch.hierarchies.open_files() < open, "files of a removed group stay open");
}

/// In a sweep, where limits may be some seconds old, those of a group made anew under the same name are its own.
#[test]
fn a_renewed_group_has_nothing_of_the_old_one() {
    let Some(mut scratch) = Scratch::new() else { return };
    scratch.group("/r");
    scratch.set_pids_max("/r", 33);
    let process = scratch.start("/r", "exec sleep 100");
    let membership = scratch.hierarchies.membership(process.id()).expect("a membership");
    let limit = |scratch: &mut Scratch| {
        scratch.hierarchies.begin_sweep();
        let reading = scratch.hierarchies.read(&membership).expect("a reading");
        let limit = reading.pids.expect("pids").limit.map(|limit| limit.value);
        (limit, reading.cpu.expect("cpu").throttling.expect("throttling").periods)
    };
    assert_eq!(limit(&mut scratch).0, Some(33));
    scratch.set_pids_max("/r", 44);
    assert_eq!(limit(&mut scratch).0, Some(33), "limits may be 5 s old");
    drop(process);
    scratch.remove("/r");
    scratch.group("/r");
    scratch.set_pids_max("/r", 55);
    assert_eq!(limit(&mut scratch), (Some(55), 0));
}

/// Counters that only a running task can change are read anew as soon as one has run.
#[test]
fn counters_of_idle_groups_are_not_stale() {
    let Some(mut scratch) = Scratch::new() else { return };
    scratch.group("/i");
    scratch.set_quota("/i", 20_000);
    let process = scratch.start("/i", "sleep 0.5; while :; do :; done");
    let membership = scratch.hierarchies.membership(process.id()).expect("a membership");
    let periods = |scratch: &mut Scratch| {
        scratch.hierarchies.begin_sweep();
        let reading = scratch.hierarchies.read(&membership).expect("a reading");
        reading.cpu.expect("cpu").throttling.expect("throttling").throttled_periods
    };
    let idle = periods(&mut scratch);
    let kernel = |scratch: &Scratch| scratch.number(Controller::Cpu, "/i", "cpu.stat", "nr_throttled ");
    while kernel(&scratch) < idle + 5 {
        sleep(Duration::from_millis(50));
        periods(&mut scratch);
    }
    // The kernel counts a period when it is over, and the task that it stood still in runs only then: on a busy machine
    // some time later. With counters as old as limits none of the tries would do.
    let mut tries = (0..10).map(|_| {
        sleep(Duration::from_millis(30));
        (kernel(&scratch), periods(&mut scratch), kernel(&scratch))
    });
    let mut seen = Vec::new();
    let fresh = tries.any(|(before, ours, after)| {
        seen.push((before, ours, after));
        (before..=after).contains(&ours)
    });
    assert!(fresh, "not the kernel's: {seen:?}");
}

/// A process that moves has another membership, and the old one still reads the old group.
#[test]
fn a_moved_process_has_another_membership() {
    let Some(mut scratch) = Scratch::new() else { return };
    scratch.group("/from");
    scratch.group("/to");
    let process = scratch.start("/from", "exec sleep 100");
    let from = scratch.hierarchies.membership(process.id()).expect("a membership");
    scratch.join("/to", process.id());
    let to = scratch.hierarchies.membership(process.id()).expect("a membership");
    assert_ne!(from, to);
    assert_eq!(**to.path(), scratch.shown("/to"));
    let mut tasks =
        |membership| scratch.hierarchies.read(membership).expect("a reading").pids.expect("pids").current;
    assert_eq!((tasks(&from), tasks(&to)), (Some(0), Some(1)));
}

/// A process that has ended and wasn't waited for is nowhere, whatever root group v1 shows it in.
#[test]
fn a_zombie_is_in_no_group() {
    let Some(mut scratch) = Scratch::new() else { return };
    scratch.group("/z");
    let process = scratch.start("/z", "exit");
    let stat = format!("/proc/{}/stat", process.id());
    while !std::fs::read_to_string(&stat).expect("not waited for").contains(") Z ") {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    match scratch.hierarchies.membership(process.id()) {
        Err(CgroupError::Exited { pid }) => assert_eq!(pid, process.id()),
        // v2 shows a zombie's group until it has been waited for.
        Ok(membership) => assert_eq!(**membership.path(), scratch.shown("/z")),
        Err(error) => panic!("{error}"),
    }
}

/// The unified hierarchy of a hybrid machine, read alone, gives CPU time from v2's files.
#[test]
fn the_unified_hierarchy_counts_cpu_time() {
    let Some(scratch) = Scratch::new() else { return };
    if scratch.hierarchies.mode() != Mode::Hybrid {
        eprintln!("skipped: the other tests read v2 on this machine");
        return;
    }
    let v2 = scratch.hierarchies.list.first().expect("the unified hierarchy");
    let options = Options { root: Some(v2.point.clone()), ..Options::default() };
    let mut unified = Hierarchies::discover_with(&options).expect("hierarchies");
    assert_eq!(unified.mode(), Mode::V2);
    let membership = unified.membership(std::process::id()).expect("a membership");
    let cpu = unified.read(&membership).expect("a reading").cpu.expect("cpu");
    assert!(cpu.usage_seconds.is_some_and(|usage| usage > 0.0));
    assert_eq!(cpu.limit_cores, None);
}

/// From inside a cgroup namespace, observer still finds the group of a process outside, and its limits.
#[test]
fn sees_the_host_from_inside_a_namespace() {
    let Some(mut scratch) = Scratch::new() else { return };
    for group in ["/pods", "/pods/other", "/pods/other/ctr", "/pods/mine", "/pods/mine/obs"] {
        scratch.group(group);
    }
    scratch.set_pids_max("/pods/other", 20);
    let other = scratch.start("/pods/other/ctr", "exec sleep 100");
    let test = std::env::current_exe().expect("this test");
    let script = format!(
        "OBSERVER_TEST_PID={} OBSERVER_TEST_PATH={} exec unshare --cgroup {} --exact --ignored --nocapture {}",
        other.id(),
        scratch.shown("/pods/other"),
        test.display(),
        "cgroup::tests::real::inside_a_namespace",
    );
    assert!(scratch.start("/pods/mine/obs", &script).succeeds());
}

/// The part of the test above that runs inside.
#[test]
#[ignore = "started by another test, in a cgroup namespace"]
fn inside_a_namespace() {
    let variable = |name| std::env::var(name).expect("set by the test that starts this one");
    if std::env::var_os("OBSERVER_TEST_PID").is_none() {
        eprintln!("skipped: started without the test above");
        return;
    }
    let pid = variable("OBSERVER_TEST_PID").parse().expect("a pid");
    let own = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(own.contains(" /../../../.. "), "not inside a namespace");
    let mut hierarchies = Hierarchies::discover().expect("hierarchies");
    let membership = hierarchies.membership(pid).expect("a membership");
    let limit = hierarchies.read(&membership).expect("a reading").pids.expect("pids").limit.expect("a limit");
    assert_eq!(
        (limit.value, limit.binding.to_string(), limit.level),
        (20, variable("OBSERVER_TEST_PATH"), 1)
    );
    assert_eq!(**membership.path(), format!("{}/ctr", variable("OBSERVER_TEST_PATH")));
}
