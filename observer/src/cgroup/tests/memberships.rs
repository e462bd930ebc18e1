//! Reading `/proc/PID/cgroup`.

use super::fake::Fake;
use crate::cgroup::CgroupError;

/// A hybrid machine where v2 has no controllers.
fn hybrid() -> Fake {
    let mut fake = Fake::new();
    fake.v1("cpu", "/", "cpu");
    fake.v1("memory", "/", "memory");
    fake.v1("systemd", "/", "name=systemd");
    fake.v2("unified", "/", "hugetlb\n");
    fake
}

/// The path that is shown for a process with this text.
fn shown(fake: &Fake, text: &str) -> String {
    fake.process("7", text);
    fake.discover().membership(7).expect("a membership").path().to_string()
}

/// The deepest group whose controllers are read is shown, whatever the unified hierarchy says.
#[test]
fn shows_the_group_that_has_the_controllers() {
    let fake = hybrid();
    assert_eq!(shown(&fake, "3:memory:/docker/c1\n2:cpu:/docker\n0::/\n"), "/docker/c1");
    let docker = "3:memory:/docker/c1\n2:cpu:/docker/c1\n0::/system.slice/containerd.service\n";
    assert_eq!(shown(&fake, docker), "/docker/c1");
    assert_eq!(shown(&fake, "3:memory:/\n2:cpu:/\n1:name=systemd:/\n0::/\n"), "/");
}

/// A unit without resource control of its own is still shown, from the hierarchy that only names.
#[test]
fn shows_units_without_controllers() {
    let fake = hybrid();
    let unit = "3:memory:/\n2:cpu:/user.slice\n1:name=systemd:/user.slice/s.scope\n0::/user.slice/s.scope\n";
    assert_eq!(shown(&fake, unit), "/user.slice/s.scope");
    assert_eq!(shown(&fake, "3:memory:/\n2:cpu:/\n1:name=systemd:/a.service\n0::/\n"), "/a.service");
}

/// Processes of the same groups have one equal membership; a process elsewhere has another.
#[test]
fn equal_groups_give_equal_memberships() {
    let fake = hybrid();
    fake.process("7", "3:memory:/a\n2:cpu:/b\n0::/\n");
    fake.process("8", "3:memory:/a\n2:cpu:/b\n0::/\n");
    fake.process("9", "3:memory:/a\n2:cpu:/c\n0::/\n");
    let hierarchies = fake.discover();
    let membership = |pid| hierarchies.membership(pid).expect("a membership");
    let distinct: std::collections::HashSet<_> = [7, 8, 9].map(membership).into_iter().collect();
    assert_eq!(distinct.len(), 2);
}

/// The mark of a removed v2 group isn't part of its name.
#[test]
fn hides_the_mark_of_removed_groups() {
    let mut fake = Fake::new();
    fake.v2("unified", "/", "cpu\n");
    assert_eq!(shown(&fake, "0::/a/b (deleted)\n"), "/a/b");
}

/// Names may hold colons, spaces and anything else; what is shown is fit for a terminal.
#[test]
fn names_may_be_anything() {
    let fake = hybrid();
    assert_eq!(shown(&fake, "3:memory:/a:b c\n2:cpu:/\n"), "/a:b c");
    assert_eq!(shown(&fake, "3:memory:/\u{1b}[2J\u{7f}\n2:cpu:/\n"), "/\u{fffd}[2J\u{fffd}");
}

/// A line break in a name can forge a line, so a text that could hold one is not believed.
#[test]
fn refuses_texts_that_may_be_forged() {
    let fake = hybrid();
    for text in
        ["3:memory:/a\n3:memory:/b\n", "3:memory:/a\nb\n2:cpu:/\n", "x:cpu:/\n", "2:cpu:a\n", "2:cpu\n", "\n"]
    {
        fake.process("7", text);
        let error = fake.discover().membership(7).expect_err("refused");
        assert!(matches!(error, CgroupError::Ambiguous { .. }), "{text:?}");
    }
}

/// A process that has exited is told from a file that can't be read.
#[test]
fn an_exited_process_is_normal() {
    let fake = hybrid();
    assert!(matches!(fake.discover().membership(7), Err(CgroupError::Exited { pid: 7 })));
    std::fs::create_dir_all(fake.path("proc/8/cgroup")).expect("created");
    assert!(matches!(fake.discover().membership(8), Err(CgroupError::Unreadable { .. })));
}
