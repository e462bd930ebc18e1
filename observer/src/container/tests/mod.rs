//! Names from a container runtime that hangs, lies, restarts, comes late, or says too much.

mod fake;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fake::{Behaviour, Fake, Manner, pair};

use super::{ContainerName, NameOptions, Names, Naming, group, runtimes};
use crate::container::group::Container;

const UID: &str = "8f0a1c2e-1b3d-4c5e-9f70-a1b2c3d4e5f6";
/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3600);

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("cri.sock")
    }
}

fn id(number: usize) -> String {
    format!("{number:064x}")
}

fn container(number: usize) -> Container {
    group(&format!("/kubepods/burstable/pod{UID}/{}", id(number))).container.unwrap()
}

fn names(socket: &Path, grace: Duration) -> Names {
    Names::new(NameOptions { ask: true, socket: Some(socket.to_owned()), grace })
}

fn one(manner: Manner) -> Behaviour {
    let (container, pod) = pair(&id(1), ["shop", "api-0", "api"], UID);
    Behaviour { containers: vec![container], pods: vec![pod], manner }
}

fn named(namespace: &str, pod: &str, container: &str) -> Naming {
    Naming::Settled(Some(Arc::new(ContainerName {
        namespace: namespace.into(),
        pod: pod.into(),
        container: Some(container.into()),
    })))
}

/// Asks again until the condition holds; fails when it doesn't for a minute.
fn eventually(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "it never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn failed(names: &Names) -> u64 {
    names.counts().get("failed").copied().unwrap_or(0)
}

/// A container's name comes from two questions, and is not asked for again.
#[test]
fn a_container_has_a_name() {
    let place = Place::new();
    let fake = Fake::start(&place.socket(), one(Manner::Good));
    let mut names = names(&place.socket(), NEVER);
    assert_eq!(names.of(&container(1)), Naming::Awaited);
    names.settle(NEVER);
    for _ in 0..3 {
        assert_eq!(names.of(&container(1)), named("shop", "api-0", "api"));
    }
    assert_eq!(fake.asked(), 2);
    assert_eq!(names.counts().get("named"), Some(&1));
}

/// A process in the pod's own group has the pod's names and no container's.
#[test]
fn a_sandbox_has_its_pods_name() {
    let place = Place::new();
    let (_, mut pod) = pair("x", ["shop", "api-0", "api"], UID);
    pod.id = id(1);
    let _fake = Fake::start(&place.socket(), Behaviour { pods: vec![pod], ..Behaviour::default() });
    let mut names = names(&place.socket(), NEVER);
    names.of(&container(1));
    names.settle(NEVER);
    let Naming::Settled(Some(name)) = names.of(&container(1)) else { panic!("no name") };
    assert_eq!((&*name.pod, &name.container), ("api-0", &None));
}

/// Containers that aren't for Kubernetes are not asked for, and nobody is when that is switched off.
#[test]
fn others_are_not_asked_for() {
    let place = Place::new();
    let fake = Fake::start(&place.socket(), one(Manner::Good));
    let mut names = names(&place.socket(), NEVER);
    let docker = group(&format!("/docker/{}", id(1))).container.unwrap();
    assert_eq!(names.of(&docker), Naming::Settled(None));
    let mut off = Names::new(NameOptions { ask: false, socket: Some(place.socket()), grace: NEVER });
    assert_eq!(off.of(&container(1)), Naming::Settled(None));
    assert_eq!(fake.asked(), 0);
}

/// A runtime that hangs holds up nobody: the front answers meanwhile, and the question fails by itself.
#[test]
fn a_runtime_that_hangs() {
    let place = Place::new();
    let fake = Fake::start(&place.socket(), one(Manner::Hangs));
    let mut names = names(&place.socket(), NEVER);
    assert_eq!(names.of(&container(1)), Naming::Awaited);
    eventually(|| fake.asked() == 1);
    assert_eq!(names.of(&container(1)), Naming::Awaited);
    eventually(|| failed(&names) >= 1);
    assert_eq!(names.of(&container(1)), Naming::Awaited);
}

/// When the wait is over a container without a name is shown without one.
#[test]
fn the_wait_for_a_name_ends() {
    let place = Place::new();
    let mut names = names(&place.socket(), Duration::from_millis(1));
    names.of(&container(1));
    eventually(|| names.of(&container(1)) == Naming::Settled(None));
}

/// A socket that comes late is found, and one that comes back after a restart; what was known stays known.
#[test]
fn a_runtime_that_comes_late_and_restarts() {
    let place = Place::new();
    let mut names = names(&place.socket(), NEVER);
    names.of(&container(1));
    eventually(|| failed(&names) >= 1);
    assert_eq!(names.of(&container(1)), Naming::Awaited);
    let fake = Fake::start(&place.socket(), one(Manner::Good));
    eventually(|| names.of(&container(1)) == named("shop", "api-0", "api"));
    drop(fake);
    let before = failed(&names);
    assert_eq!(names.of(&container(2)), Naming::Awaited);
    eventually(|| failed(&names) > before);
    assert_eq!(names.of(&container(1)), named("shop", "api-0", "api"));
    let (container2, pod) = pair(&id(2), ["shop", "api-1", "api"], UID);
    let again = Behaviour { containers: vec![container2], pods: vec![pod], manner: Manner::Good };
    let _fake = Fake::start(&place.socket(), again);
    eventually(|| names.of(&container(2)) == named("shop", "api-1", "api"));
}

/// A runtime that says something else later changes nothing: labels of a container stay. A container that took
/// the other's place within a moment is another one, with its own name.
#[test]
fn names_stay() {
    let place = Place::new();
    let fake = Fake::start(&place.socket(), one(Manner::Good));
    let mut names = names(&place.socket(), NEVER);
    names.of(&container(1));
    names.settle(NEVER);
    drop(fake);
    let (renamed, pod1) = pair(&id(1), ["shop", "api-0", "renamed"], UID);
    let (restarted, pod2) = pair(&id(2), ["shop", "api-0", "api"], UID);
    let later =
        Behaviour { containers: vec![renamed, restarted], pods: vec![pod1, pod2], manner: Manner::Good };
    let _fake = Fake::start(&place.socket(), later);
    names.of(&container(2));
    eventually(|| names.of(&container(2)) == named("shop", "api-0", "api"));
    assert_eq!(names.of(&container(1)), named("shop", "api-0", "api"));
}

/// Answers that can't be true give no name: another pod than the cgroup's, a container without a pod, empty
/// names, other containers than were asked for, and bytes that are no message.
#[test]
fn a_runtime_that_lies() {
    let (container1, pod) = pair(&id(1), ["shop", "api-0", "api"], "another-pods-uid-0");
    let (nameless, its_pod) = pair(&id(1), ["shop", "api-0", ""], UID);
    let containers = |container| Behaviour { containers: vec![container], ..Behaviour::default() };
    let lies = [
        Behaviour { pods: vec![pod], ..containers(container1.clone()) },
        containers(container1),
        Behaviour { pods: vec![its_pod], ..containers(nameless) },
        one(Manner::Garbage),
    ];
    for lie in lies {
        let place = Place::new();
        let _fake = Fake::start(&place.socket(), lie);
        let mut names = names(&place.socket(), NEVER);
        names.of(&container(1));
        eventually(|| failed(&names) >= 1);
        assert_eq!(names.of(&container(1)), Naming::Awaited);
    }
    let place = Place::new();
    let _fake = Fake::start(&place.socket(), one(Manner::SendsAll));
    let mut names = names(&place.socket(), NEVER);
    names.of(&container(2));
    names.settle(NEVER);
    assert_eq!(names.of(&container(2)), Naming::Settled(None));
}

/// Of 10 000 containers that nobody asked for the right one is taken; an answer without end is not read.
#[test]
fn a_runtime_that_says_too_much() {
    let many = |length: usize| {
        let long = "x".repeat(length);
        let pairs =
            (0..10_000).map(|number| pair(&id(number), ["shop", &format!("api-{number}{long}"), "api"], UID));
        let (containers, pods) = pairs.unzip();
        Behaviour { containers, pods, manner: Manner::SendsAll }
    };
    let place = Place::new();
    let fake = Fake::start(&place.socket(), many(0));
    let mut asker = names(&place.socket(), NEVER);
    asker.of(&container(7000));
    asker.settle(NEVER);
    assert_eq!(asker.of(&container(7000)), named("shop", "api-7000", "api"));
    drop(fake);
    let _fake = Fake::start(&place.socket(), many(1000));
    let mut asker = names(&place.socket(), NEVER);
    asker.of(&container(7000));
    eventually(|| failed(&asker) >= 1);
}

/// Hostile names are made fit to show, and short.
#[test]
fn hostile_names() {
    let place = Place::new();
    let hostile = "evil\u{1b}[31m\n\"quoted\"\\";
    let (container1, pod) = pair(&id(1), [hostile, &"é".repeat(10_000), "\u{202e}"], UID);
    let behaviour = Behaviour { containers: vec![container1], pods: vec![pod], manner: Manner::Good };
    let _fake = Fake::start(&place.socket(), behaviour);
    let mut names = names(&place.socket(), NEVER);
    names.of(&container(1));
    names.settle(NEVER);
    let expected = named("evil\u{fffd}[31m\u{fffd}\"quoted\"\\", &"é".repeat(128), "\u{fffd}");
    assert_eq!(names.of(&container(1)), expected);
}

/// A socket of something else, as Docker's containerd, is as good as one that doesn't know the container.
#[test]
fn another_interface() {
    let place = Place::new();
    let _fake = Fake::start(&place.socket(), one(Manner::Unimplemented));
    let mut names = names(&place.socket(), NEVER);
    names.of(&container(1));
    names.settle(NEVER);
    assert_eq!(names.of(&container(1)), Naming::Settled(None));
    assert_eq!(names.counts().get("unknown"), Some(&1));
}

/// Containers that are gone are forgotten, and of endlessly many only some are asked for.
#[test]
fn the_cache_is_bounded() {
    let place = Place::new();
    let mut names = names(&place.socket(), NEVER);
    for number in 0..5000 {
        names.of(&container(number));
    }
    assert_eq!(names.of(&container(4999)), Naming::Settled(None));
    names.retain(&std::collections::HashSet::from([container(0).id]));
    assert_eq!(names.of(&container(4999)), Naming::Awaited);
}

/// `check` tells who answers at the socket, and else in words why nobody does; where names aren't wanted, nobody is asked.
#[test]
fn check_asks_the_runtime() {
    let place = Place::new();
    let options = NameOptions { ask: true, socket: Some(place.socket()), grace: NEVER };
    let answer = || runtimes(&options).unwrap().remove(0).answer;
    assert!(answer().unwrap_err().contains("nobody answers: No such file"));
    for (manner, expected) in [
        (Manner::Good, Ok("fake\u{fffd} 1.2")),
        (Manner::Unimplemented, Err("no CRI socket")),
        (Manner::Hangs, Err("did not answer within 2s")),
        (Manner::Garbage, Err("refuses")),
    ] {
        let _fake = Fake::start(&place.socket(), one(manner));
        match (answer(), expected) {
            (Ok(name), Ok(expected)) => assert_eq!(name, expected),
            (Err(reason), Err(expected)) => assert!(reason.contains(expected), "{reason}"),
            (answer, expected) => panic!("{answer:?} instead of {expected:?}"),
        }
    }
    assert_eq!(runtimes(&NameOptions { ask: false, ..options }).unwrap(), []);
}
