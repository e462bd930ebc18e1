//! Reading v1, v2 and hybrid layouts.

use super::fake::Fake;
use crate::cgroup::{
    CgroupError, Controller, Hierarchies, Limit, Mode, Options, Pressure, Reason, Stall, Throttling,
};

fn limit<T>(value: T, binding: &str, level: u32) -> Option<Limit<T>> {
    Some(Limit { value, binding: binding.into(), level })
}

const STAT: &str = "usage_usec 2500000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 250000\n";

/// A pod on v2: its container sets no CPU quota, more memory than the pod has, and fewer pids.
fn pod() -> Fake {
    let mut fake = Fake::new();
    fake.v2("sys", "/", "cpuset cpu io memory pids\n");
    fake.file("sys/cpu.stat", "usage_usec 99\n");
    let pod = "sys/kubepods.slice/pod.slice";
    fake.group(
        pod,
        &[
            ("cgroup.type", "domain\n"),
            ("cpu.max", "150000 100000\n"),
            ("cpu.stat", "usage_usec 9\nnr_periods 20\nnr_throttled 8\nthrottled_usec 1500000\n"),
            ("memory.max", "104857600\n"),
            ("memory.current", "900\n"),
            ("pids.max", "max\n"),
            ("pids.current", "30\n"),
        ],
    );
    fake.group(
        &format!("{pod}/ctr"),
        &[
            ("cpu.max", "max 100000\n"),
            ("cpu.stat", STAT),
            ("memory.max", "209715200\n"),
            ("memory.current", "700\n"),
            ("pids.max", "100\n"),
            ("pids.current", "12\n"),
        ],
    );
    fake.group(
        "sys/kubepods.slice",
        &[("cpu.max", "max 100000\n"), ("memory.max", "max\n"), ("pids.max", "max\n")],
    );
    fake.process("7", "0::/kubepods.slice/pod.slice/ctr\n");
    fake
}

/// v2: each limit is the tightest over the levels, with the group that sets it and its throttling.
#[test]
fn v2_limits_bind_where_they_are_tightest() {
    let fake = pod();
    assert_eq!(fake.discover().mode(), Mode::V2);
    assert_eq!(fake.discover().partial(), []);
    let (membership, reading) = fake.read();
    assert_eq!(&**membership.path(), "/kubepods.slice/pod.slice/ctr");
    let cpu = reading.cpu.expect("cpu");
    assert_eq!(cpu.limit_cores, limit(1.5, "/kubepods.slice/pod.slice", 1));
    assert_eq!(cpu.usage_seconds, Some(2.5));
    let own = Throttling { periods: 10, throttled_periods: 4, throttled_seconds: 0.25 };
    assert_eq!(cpu.throttling, Some(own), "without a quota of its own");
    let pod = Throttling { periods: 20, throttled_periods: 8, throttled_seconds: 1.5 };
    assert_eq!(cpu.binding_throttling, Some(pod));
    let memory = reading.memory.expect("memory");
    assert_eq!(memory.limit_bytes, limit(104_857_600, "/kubepods.slice/pod.slice", 1));
    assert_eq!((memory.usage_bytes, memory.binding_usage_bytes), (Some(700), Some(900)));
    let pids = reading.pids.expect("pids");
    assert_eq!(pids.limit, limit(100, "/kubepods.slice/pod.slice/ctr", 0));
    assert_eq!((pids.current, pids.binding_current), (Some(12), None));
    assert_eq!(reading.problems, []);
}

/// Equal limits at several levels are the nearest group's.
#[test]
fn equal_limits_are_the_nearest_groups() {
    let fake = pod();
    fake.file("sys/kubepods.slice/pod.slice/pids.max", "100\n");
    fake.file("sys/kubepods.slice/pids.max", "100\n");
    assert_eq!(fake.read().1.pids.expect("pids").limit, limit(100, "/kubepods.slice/pod.slice/ctr", 0));
}

/// v2's root has no limit files and a group may lack a controller: no value, and no problem.
#[test]
fn v2_groups_without_files_have_no_values() {
    let fake = pod();
    fake.process("7", "0::/\n");
    let (membership, reading) = fake.read();
    assert_eq!(&**membership.path(), "/");
    let cpu = reading.cpu.expect("cpu");
    assert_eq!((cpu.usage_seconds, cpu.limit_cores, cpu.throttling), (Some(0.000_099), None, None));
    assert_eq!(reading.memory, Some(Default::default()));

    // A threaded group: no memory files of its own, but the limit above still holds.
    fake.group("sys/kubepods.slice/pod.slice/ctr/threads", &[("cpu.stat", "usage_usec 5\n")]);
    fake.process("7", "0::/kubepods.slice/pod.slice/ctr/threads\n");
    let reading = fake.read().1;
    let memory = reading.memory.expect("memory");
    assert_eq!(
        (memory.limit_bytes, memory.usage_bytes),
        (limit(104_857_600, "/kubepods.slice/pod.slice", 2), None)
    );
    assert_eq!(reading.problems, []);
}

/// A v1 machine whose cpu and cpuacct share one hierarchy.
fn v1() -> Fake {
    let mut fake = Fake::new();
    fake.v1("sys/cpu,cpuacct", "/", "cpu,cpuacct");
    fake.v1("sys/memory", "/", "memory");
    fake.v1("sys/pids", "/", "pids");
    fake.v1("sys/systemd", "/", "xattr,name=systemd");
    fake.v1("sys/devices", "/", "devices");
    for root in ["cpu,cpuacct", "memory", "pids"] {
        fake.file(&format!("sys/{root}/release_agent"), "\n");
    }
    fake.group(
        "sys/cpu,cpuacct/docker",
        &[
            ("cpu.cfs_quota_us", "50000\n"),
            ("cpu.cfs_period_us", "100000\n"),
            ("cpu.stat", "nr_periods 9\nnr_throttled 8\nthrottled_time 7000000000\n"),
        ],
    );
    fake.group(
        "sys/cpu,cpuacct/docker/c1",
        &[
            ("cpu.cfs_quota_us", "-1\n"),
            ("cpuacct.usage", "1500000000\n"),
            ("cpu.stat", "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n"),
        ],
    );
    fake.group(
        "sys/memory/docker",
        &[
            ("memory.limit_in_bytes", "4096000\n"),
            ("memory.usage_in_bytes", "4000\n"),
            ("memory.use_hierarchy", "1\n"),
        ],
    );
    fake.group(
        "sys/memory/docker/c1",
        &[("memory.limit_in_bytes", "9223372036854771712\n"), ("memory.usage_in_bytes", "3000\n")],
    );
    fake.group("sys/pids/docker", &[("pids.max", "max\n")]);
    fake.group("sys/pids/docker/c1", &[("pids.max", "64\n"), ("pids.current", "3\n")]);
    fake.process("7", "12:pids:/docker/c1\n5:memory:/docker/c1\n3:cpu,cpuacct:/docker/c1\n2:devices:/\n1:name=systemd:/docker/c1\n");
    fake
}

/// v1: quota and period, nanoseconds, and the largest value as "unlimited".
#[test]
fn v1_limits_bind_where_they_are_tightest() {
    let fake = v1();
    assert_eq!(fake.discover().mode(), Mode::V1);
    let (membership, reading) = fake.read();
    assert_eq!(&**membership.path(), "/docker/c1");
    let cpu = reading.cpu.expect("cpu");
    assert_eq!((cpu.limit_cores, cpu.usage_seconds), (limit(0.5, "/docker", 1), Some(1.5)));
    assert_eq!(cpu.throttling, Some(Throttling::default()));
    let docker = Throttling { periods: 9, throttled_periods: 8, throttled_seconds: 7.0 };
    assert_eq!(cpu.binding_throttling, Some(docker));
    let memory = reading.memory.expect("memory");
    assert_eq!(memory.limit_bytes, limit(4_096_000, "/docker", 1));
    assert_eq!((memory.usage_bytes, memory.binding_usage_bytes), (Some(3000), Some(4000)));
    let pids = reading.pids.expect("pids");
    assert_eq!((pids.limit, pids.current), (limit(64, "/docker/c1", 0), Some(3)));
    assert_eq!(reading.problems, []);
}

/// v1 without `memory.use_hierarchy`: an ancestor's limit doesn't hold for the groups below.
#[test]
fn v1_memory_limits_need_use_hierarchy() {
    let fake = v1();
    fake.file("sys/memory/docker/memory.use_hierarchy", "0\n");
    assert_eq!(fake.read().1.memory.expect("memory").limit_bytes, None);
    fake.file("sys/memory/docker/c1/memory.limit_in_bytes", "8192000\n");
    assert_eq!(fake.read().1.memory.expect("memory").limit_bytes, limit(8_192_000, "/docker/c1", 0));
}

/// Hybrid: each controller is read where it lives, memory in v2 and the others in v1.
#[test]
fn hybrid_reads_each_controller_where_it_lives() {
    let mut fake = Fake::new();
    fake.v1("sys/cpu", "/", "cpu");
    fake.v1("sys/cpuacct", "/", "cpuacct");
    fake.v2("sys/unified", "/", "memory hugetlb\n");
    fake.group("sys/cpu/a", &[("cpu.cfs_quota_us", "-1\n"), ("release_agent", "")]);
    fake.group("sys/cpuacct/b", &[("cpuacct.usage", "2000000000\n")]);
    fake.group("sys/unified/c/d", &[("memory.current", "5\n"), ("memory.max", "max\n"), ("cpu.stat", STAT)]);
    fake.process("7", "3:cpu:/a\n2:cpuacct:/b\n0::/c/d\n");
    let hierarchies = fake.discover();
    assert_eq!(hierarchies.mode(), Mode::Hybrid);
    assert_eq!(
        hierarchies.controllers(),
        [Controller::Cpu, Controller::Memory, Controller::CpuAcct, Controller::Hugetlb]
    );
    let (membership, reading) = fake.read();
    assert_eq!(&**membership.path(), "/c/d");
    assert_eq!(reading.cpu.expect("cpu").usage_seconds, Some(2.0));
    assert_eq!(reading.memory.expect("memory").usage_bytes, Some(5));
    assert_eq!(reading.pids, None);
}

/// Of several mounts of one hierarchy, the one that shows most is used; hidden and foreign ones are not.
#[test]
fn prefers_the_mount_that_shows_most() {
    let mut fake = pod();
    fake.v2("subtree", "/kubepods.slice", "cpu\n");
    fake.line("30 23 0:1 / /proc rw - cgroup2 cgroup2 rw");
    assert_eq!(fake.read().1.pids.expect("pids").current, Some(12));

    let mut bound = Fake::new();
    bound.v2("only", "/kubepods.slice", "pids cpu\n");
    bound.file("only/cgroup.type", "domain\n");
    bound.group("only", &[("pids.max", "50\n"), ("pids.current", "8\n")]);
    bound.group("only/x", &[("pids.max", "60\n"), ("pids.current", "4\n")]);
    bound.process("7", "0::/kubepods.slice/x\n");
    let (membership, reading) = bound.read();
    assert_eq!(&**membership.path(), "/kubepods.slice/x");
    assert_eq!(reading.pids.expect("pids").limit, limit(50, "/kubepods.slice", 1));
    assert_eq!(bound.discover().partial(), [Controller::Cpu, Controller::Pids, Controller::CpuAcct]);
}

/// `root` restricts the search, and says so when nothing is mounted there.
#[test]
fn root_restricts_the_search() {
    let mut fake = pod();
    fake.v2("host/sys", "/", "pids\n");
    fake.discover();
    let options = |root: &str| Options { root: Some(fake.path(root)), ..fake.options() };
    let hierarchies = Hierarchies::discover_with(&options("host")).expect("hierarchies");
    assert_eq!(hierarchies.controllers(), [Controller::Pids, Controller::CpuAcct]);
    assert!(matches!(Hierarchies::discover_with(&options("nothing")), Err(CgroupError::NotMounted { .. })));
}

/// A machine without cgroups is a machine without readings.
#[test]
fn no_mounts_give_no_values() {
    let fake = Fake::new();
    fake.process("7", "0::/a\n");
    assert_eq!(fake.discover().mode(), Mode::None);
    let (membership, reading) = fake.read();
    assert_eq!((&**membership.path(), reading), ("/", Default::default()));
}

/// From inside a cgroup namespace, the host's mount still shows every group with its full path and limits.
#[test]
fn namespaces_are_seen_through_the_hosts_mount() {
    let mut fake = Fake::new();
    fake.v2("own", "/", "cpu pids\n");
    fake.v2("host", "/../../..", "cpu pids\n");
    fake.group("host/pods/other", &[("pids.max", "20\n")]);
    fake.group("host/pods/other/ctr", &[("pids.max", "max\n"), ("pids.current", "2\n")]);
    fake.group("host/pods/mine/obs", &[("cgroup.procs", &format!("1\n{}\n", std::process::id()))]);
    fake.group("host/pods/zzz/obs", &[("cgroup.procs", "1\n")]);
    fake.process("self", "0::/\n");
    fake.process("7", "0::/../../other/ctr\n");
    let (membership, reading) = fake.read();
    assert_eq!(&**membership.path(), "/pods/other/ctr");
    assert_eq!(reading.pids.expect("pids").limit, limit(20, "/pods/other", 1));
}

/// A group that no mount shows is a named problem, and never another group's values.
#[test]
fn groups_outside_are_named() {
    let mut fake = Fake::new();
    fake.v2("own", "/", "pids\n");
    fake.group("own", &[("cgroup.type", "domain\n"), ("pids.current", "1\n")]);
    fake.group("x", &[("pids.current", "666\n")]);
    fake.process("7", "0::/../x\n");
    let (membership, reading) = fake.read();
    assert_eq!((&**membership.path(), reading.pids), ("/../x", None));
    assert!(reading.problems.iter().all(|problem| problem.reason == Reason::Outside));
    assert_eq!(reading.problems.len(), 2);
    assert!(reading.problems[0].to_string().contains("/../x: no cgroup mount shows this group"));
}

/// A malformed file costs its own value only; an unreadable level leaves the effective limit unknown.
#[test]
fn malformed_files_cost_their_own_value_only() {
    let fake = pod();
    fake.file("sys/kubepods.slice/pod.slice/ctr/cpu.stat", "usage_usec -5\n");
    fake.file("sys/kubepods.slice/pids.max", "lots\n");
    let reading = fake.read().1;
    let cpu = reading.cpu.expect("cpu");
    assert_eq!((cpu.usage_seconds, cpu.throttling), (None, None));
    assert_eq!(cpu.limit_cores.expect("limit").value, 1.5);
    let pids = reading.pids.expect("pids");
    assert_eq!((pids.limit, pids.current), (None, Some(12)));
    let named: Vec<_> = reading.problems.iter().map(|p| (p.file, &*p.path, p.reason)).collect();
    let own = "/kubepods.slice/pod.slice/ctr";
    assert_eq!(
        named,
        [("cpu.stat", own, Reason::Malformed), ("pids.max", "/kubepods.slice", Reason::Malformed)]
    );
}

/// A container that nests groups without end makes its own limits unknown, and nothing slow.
#[test]
fn endless_nesting_is_refused() {
    let fake = pod();
    let deep = "/d".repeat(200);
    fake.group(&format!("sys{deep}"), &[("pids.current", "1\n")]);
    fake.process("7", &format!("0::{deep}\n"));
    let reading = fake.read().1;
    assert_eq!(reading.pids.expect("pids").current, Some(1));
    assert!(reading.problems.iter().all(|problem| problem.reason == Reason::TooDeep));
    let limits: Vec<_> = reading.problems.iter().map(|problem| problem.file).collect();
    assert_eq!(limits, ["cpu.max", "memory.max", "memory.high", "memory.swap.max", "pids.max"]);
}

/// A removed group is gone: that is not a problem, and no value of it is shown.
#[test]
fn removed_groups_are_gone() {
    let fake = pod();
    let mut hierarchies = fake.discover();
    let membership = hierarchies.membership(7).expect("a membership");
    fake.remove("sys/kubepods.slice/pod.slice/ctr");
    let gone = hierarchies.read(&membership).expect_err("gone");
    assert_eq!(&*gone.path, "/kubepods.slice/pod.slice/ctr");
    assert!(!fake.root().join("sys/kubepods.slice/pod.slice/ctr").exists());
}

/// v2: everything beside limits and use, from texts recorded from 6.12.
#[test]
fn v2_reads_every_controller() {
    let fake = pod();
    let own = "sys/kubepods.slice/pod.slice/ctr";
    fake.file("sys/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n");
    fake.group("huge", &[("hugepages-2048kB/nr_hugepages", "0\n")]);
    fake.group(
        own,
        &[
            ("cpu.weight", "50\n"),
            ("memory.high", "max\n"),
            ("memory.low", "4096\n"),
            ("memory.peak", "800\n"),
            ("memory.swap.current", "0\n"),
            ("memory.events", "low 0\nhigh 3\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n"),
            ("pids.peak", "99\n"),
            ("pids.events", "max 5\n"),
            ("io.weight", "default 100\n8:16 10\n"),
            ("io.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=250000\n"),
            ("hugetlb.2MB.max", "max\n"),
            ("hugetlb.2MB.current", "2097152\n"),
            ("hugetlb.2MB.events", "max 7\n"),
        ],
    );
    fake.group(
        "sys/kubepods.slice/pod.slice",
        &[
            ("memory.high", "90000000\n"),
            ("memory.events", "low 0\nhigh 4\nmax 20\noom 3\noom_kill 2\noom_group_kill 0\n"),
            ("hugetlb.2MB.max", "10485760\n"),
            ("cpuset.cpus.effective", "0-2,5\n"),
        ],
    );
    let (_, reading) = fake.read();
    assert_eq!(reading.problems, []);
    assert_eq!(reading.cpu.expect("cpu").weight, Some(0.5));
    let memory = reading.memory.expect("memory");
    assert_eq!(memory.high_bytes, limit(90_000_000, "/kubepods.slice/pod.slice", 1));
    assert_eq!((memory.low_bytes, memory.peak_bytes, memory.swap_bytes), (Some(4096), Some(800), Some(0)));
    assert_eq!((memory.events.oom_kill, memory.events.max), (Some(1), Some(9)));
    assert_eq!(memory.binding_events.and_then(|events| events.max), Some(20));
    let pids = reading.pids.expect("pids");
    assert_eq!((pids.peak, pids.refused), (Some(99), Some(5)));
    assert_eq!(reading.io.expect("io").weight, Some(100));
    let [pages] = &reading.hugetlb[..] else { panic!("one size: {:?}", reading.hugetlb) };
    assert_eq!(pages.limit_bytes, limit(10_485_760, "/kubepods.slice/pod.slice", 1));
    assert_eq!((pages.size, pages.usage_bytes, pages.refused), ("2MB", Some(2_097_152), Some(7)));
    assert_eq!(reading.cpuset_cpus, Some(4), "of the nearest level that says");
    let stall = Stall { waiting_seconds: 1.5, stalled_seconds: Some(0.25) };
    assert_eq!(reading.pressure, Pressure { io: Some(stall), ..Pressure::default() });
}

/// v1: the same things under other names.
#[test]
fn v1_reads_every_controller() {
    let mut fake = v1();
    fake.v1("sys/blkio", "/", "blkio");
    fake.v1("sys/cpuset", "/", "cpuset");
    fake.group("sys/blkio/docker/c1", &[("blkio.bfq.weight", "300\n")]);
    fake.group("sys/cpuset/docker/c1", &[("cpuset.effective_cpus", "1\n")]);
    fake.group(
        "sys/memory/docker/c1",
        &[
            ("memory.failcnt", "11\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
            ("memory.max_usage_in_bytes", "3500\n"),
        ],
    );
    fake.group("sys/cpu,cpuacct/docker/c1", &[("cpu.shares", "2048\n")]);
    fake.file("sys/pids/docker/c1/pids.events", "max 2\n");
    fake.process("7", "7:blkio:/docker/c1\n6:cpuset:/docker/c1\n12:pids:/docker/c1\n5:memory:/docker/c1\n3:cpu,cpuacct:/docker/c1\n");
    let (_, reading) = fake.read();
    assert_eq!(reading.problems, []);
    assert_eq!(reading.cpu.expect("cpu").weight, Some(2.0));
    let io = reading.io.expect("io");
    assert_eq!((io.weight, io.default_weight), (Some(300), Some(100)));
    assert_eq!(reading.cpuset_cpus, Some(1));
    let memory = reading.memory.expect("memory");
    assert_eq!((memory.events.max, memory.events.oom_kill), (Some(11), Some(1)));
    assert_eq!((memory.peak_bytes, memory.high_bytes), (Some(3500), None));
    assert_eq!(reading.pids.expect("pids").refused, Some(2));
    assert_eq!(reading.pressure, Pressure::default());
}

/// The unified root's pressure is the machine's, and is not shown as a group's; neither on a hybrid machine nor on one
/// with v2 alone.
#[test]
fn the_unified_roots_pressure_is_nobodys() {
    let mut fake = v1();
    fake.v2("sys/unified", "/", "hugetlb\n");
    for group in ["sys/unified", "sys/unified/own"] {
        fake.group(group, &[("cpu.pressure", "some avg10=1.00 avg60=1.00 avg300=1.00 total=7000000\n")]);
    }
    let cpu = |fake: &Fake, path: &str| {
        fake.process("7", &format!("0::{path}\n"));
        fake.read().1.pressure.cpu.map(|stall| stall.waiting_seconds)
    };
    assert_eq!(cpu(&fake, "/"), None);
    assert_eq!(cpu(&fake, "/own"), Some(7.0));
    let mut alone = Fake::new();
    alone.v2("sys", "/", "cpu\n");
    let text = "some avg10=1.00 avg60=1.00 avg300=1.00 total=7000000\n";
    alone.group("sys", &[("cpu.pressure", text)]);
    alone.group("sys/own", &[("cgroup.type", "domain\n"), ("cpu.pressure", text)]);
    assert_eq!((cpu(&alone, "/"), cpu(&alone, "/own")), (None, Some(7.0)));
}
