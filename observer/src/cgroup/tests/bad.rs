//! Groups that nobody would make by hand: very many, with hostile names, threaded, without files.

use std::fs;
use std::path::PathBuf;

use super::fake::Fake;
use super::scratch::{self, Scratch};
use crate::cgroup::{Controller, Hierarchies, Limit, Membership, Options, Reason};

/// A folder in the pids hierarchy with very many groups.
struct Many(PathBuf);

const GROUPS: usize = 10_000;

impl Many {
    fn new(hierarchies: &Hierarchies) -> Option<Self> {
        let (_, hierarchy) = hierarchies.of(Controller::Pids)?;
        let many = Self(hierarchy.point.join(format!("observer-test-many-{}", std::process::id())));
        fs::create_dir(&many.0).ok()?;
        for number in 0..GROUPS {
            fs::create_dir(many.0.join(number.to_string())).expect("a group");
        }
        Some(many)
    }
}

impl Drop for Many {
    fn drop(&mut self) {
        for number in 0..GROUPS {
            // What was never made needs no removal.
            let _ = fs::remove_dir(self.0.join(number.to_string()));
        }
        scratch::remove(&self.0);
    }
}

/// Ten thousand groups are read one after the other within the bound of open files, and found gone when they are.
#[test]
fn very_many_groups_stay_within_the_bound() {
    const OPEN: usize = 64;
    let options = Options { open_files: OPEN, ..Options::default() };
    let mut hierarchies = Hierarchies::discover_with(&options).expect("hierarchies");
    let Some(many) = Many::new(&hierarchies) else {
        eprintln!("skipped: no groups can be made in the pids hierarchy");
        return;
    };
    let (index, hierarchy) = hierarchies.of(Controller::Pids).expect("a hierarchy");
    let folder = many.0.strip_prefix(&hierarchy.point).expect("below").display().to_string();
    let labels = if hierarchy.controllers.contains(&Controller::Memory) { "" } else { "pids" };
    let parse = |hierarchies: &Hierarchies, number: usize| {
        let text = format!("{}:{labels}:/{folder}/{number}\n", if labels.is_empty() { 0 } else { 7 });
        Membership::parse(&hierarchies.list, text.as_bytes()).expect("a membership")
    };
    hierarchies.begin_sweep();
    for number in 0..GROUPS {
        let membership = parse(&hierarchies, number);
        assert!(membership.place(index).flatten().is_some(), "the group isn't seen");
        let reading = hierarchies.read(&membership).expect("a reading");
        assert_eq!((reading.pids.and_then(|pids| pids.current), reading.problems), (Some(0), Vec::new()));
        assert!(hierarchies.open_files() <= OPEN);
    }
    hierarchies.end_sweep();
    drop(many);
    for number in (0..GROUPS).step_by(500) {
        let membership = parse(&hierarchies, number);
        hierarchies.read(&membership).expect_err("gone");
    }
}

/// A group may have nearly any name: it is read, and what is shown can't act on a terminal. The kernel itself
/// refuses line breaks.
#[test]
fn hostile_names_are_read_and_shown_harmlessly() {
    let Some(mut scratch) = Scratch::new() else { return };
    let name = "/\u{1b}[2J\u{7f} :x\\012";
    scratch.group(name);
    scratch.set_pids_max(name, 17);
    let process = scratch.start(name, "exec sleep 100");
    let membership = scratch.hierarchies.membership(process.id()).expect("a membership");
    assert!(!membership.path().chars().any(char::is_control), "{:?}", membership.path());
    assert!(membership.path().ends_with(" :x\\012"), "{:?}", membership.path());
    let reading = scratch.hierarchies.read(&membership).expect("a reading");
    let limit = reading.pids.expect("pids").limit.expect("a limit");
    assert_eq!((limit.value, limit.level), (17, 0));
    assert!(!limit.binding.chars().any(char::is_control), "{:?}", limit.binding);
    let path = scratch.path(Controller::Pids, "/a\nb");
    let refused = fs::create_dir(&path).is_err();
    if !refused {
        scratch::remove(&path);
    }
    assert!(refused, "this kernel takes line breaks: then /proc/PID/cgroup can't be believed at all");
}

/// A threaded group has no memory controller of its own: the limit is that of the group above, and nothing is a
/// problem.
#[test]
fn threaded_groups_have_the_limits_above() {
    let mut fake = Fake::new();
    fake.v2("sys", "/", "cpu memory pids\n");
    let group =
        |limit| [("cgroup.type", "domain threaded\n"), ("memory.max", limit), ("memory.current", "900\n")];
    fake.group("sys/app", &group("1048576\n"));
    fake.group(
        "sys/app/threads",
        &[("cgroup.type", "threaded\n"), ("cpu.max", "50000 100000\n"), ("cpu.stat", "usage_usec 5\n")],
    );
    fake.process("7", "0::/app/threads\n");
    let (_, reading) = fake.read();
    let memory = reading.memory.expect("memory");
    assert_eq!(memory.limit_bytes, Some(Limit { value: 1 << 20, binding: "/app".into(), level: 1 }));
    assert_eq!((memory.usage_bytes, memory.binding_usage_bytes), (None, Some(900)));
    assert_eq!(reading.cpu.expect("cpu").limit_cores.map(|limit| limit.value), Some(0.5));
    assert_eq!(reading.problems, []);
}

/// A file that has become something else costs its own value, and so does one that is no text.
#[test]
fn files_that_change_their_type_cost_their_own_value() {
    let mut fake = Fake::new();
    fake.v2("sys", "/", "cpu memory pids\n");
    fake.group("sys/app", &[("cgroup.type", "domain\n"), ("pids.current", "3\n"), ("memory.current", "9\n")]);
    fs::create_dir(fake.path("sys/app/pids.max")).expect("a folder");
    fs::write(fake.path("sys/app/memory.max"), [0xff, 0xfe, b'\n']).expect("written");
    fake.process("7", "0::/app\n");
    let (_, reading) = fake.read();
    let pids = reading.pids.expect("pids");
    assert_eq!((pids.limit, pids.current), (None, Some(3)));
    assert_eq!(reading.memory.expect("memory").usage_bytes, Some(9));
    let mut problems: Vec<_> =
        reading.problems.iter().map(|problem| (problem.file, problem.reason)).collect();
    problems.sort_unstable();
    assert_eq!(problems, [("memory.max", Reason::Malformed), ("pids.max", Reason::Io)]);
}

/// What an ancestor says is read once in a sweep, and anew in the next and without one.
#[test]
fn ancestors_are_read_once_in_a_sweep() {
    let mut fake = Fake::new();
    fake.v2("sys", "/", "pids\n");
    fake.group("sys/pod", &[("cgroup.type", "domain\n"), ("pids.max", "50\n"), ("pids.current", "1\n")]);
    fake.group("sys/pod/a", &[("pids.max", "max\n"), ("pids.current", "1\n")]);
    fake.process("7", "0::/pod/a\n");
    let mut hierarchies = fake.discover();
    let membership = hierarchies.membership(7).expect("a membership");
    let limit = |hierarchies: &mut Hierarchies, written: &str| {
        fake.file("sys/pod/pids.max", written);
        let reading = hierarchies.read(&membership).expect("a reading");
        reading.pids.expect("pids").limit.map(|limit| limit.value)
    };
    hierarchies.begin_sweep();
    assert_eq!(limit(&mut hierarchies, "50\n"), Some(50));
    assert_eq!(limit(&mut hierarchies, "60\n"), Some(50));
    hierarchies.begin_sweep();
    assert_eq!(limit(&mut hierarchies, "70\n"), Some(70));
    hierarchies.end_sweep();
    assert_eq!(limit(&mut hierarchies, "80\n"), Some(80));
    assert_eq!(limit(&mut hierarchies, "max\n"), None);
}
