//! What may be probed, and that nothing stays behind.

use std::io::{BufRead, BufReader, IoSliceMut, Write};
use std::process::{Command, Stdio};
use std::{env, io};

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use observer::gobin::sites::Site;
use observer::probe::{Options, ProbeError, Probes, SiteBytes};
use observer_ebpf::abi::{Group, Probe};

use crate::sites::Symbols;
use crate::spawner::{self, ANY, Spawner};

fn load() -> Probes {
    Probes::load(&Options { max_callsites_in_kernel: 1000, ..Options::default() }).unwrap()
}

/// What the target executes, against what its file holds.
pub(crate) fn text_is_clean(target: &Spawner) -> bool {
    text_of(target.pid(), &target.symbols).as_ref() == Some(&target.symbols.text)
}

/// What a process that runs the program executes; `None` while it is being started, or when it has ended.
pub(crate) fn text_of(pid: u32, symbols: &Symbols) -> Option<Vec<u8>> {
    let mut memory = vec![0; symbols.text.len()];
    let remote = [RemoteIoVec { base: symbols.text_address as usize, len: memory.len() }];
    let read = process_vm_readv(Pid::from_raw(pid as i32), &mut [IoSliceMut::new(&mut memory)], &remote);
    (read == Ok(memory.len())).then_some(memory)
}

fn shifted(site: &Site, by: i64) -> Site {
    let move_by = |place: u64| place.wrapping_add_signed(by);
    Site { address: move_by(site.address), file_offset: move_by(site.file_offset), ..site.clone() }
}

/// A site that is off by a few bytes, in the file, in memory or in both, is never accepted: a
/// breakpoint inside an instruction would destroy the target.
#[test]
fn shifted_sites_are_refused() {
    if !spawner::can_run() {
        return;
    }
    for go in spawner::ALL {
        let (probes, target) = (load(), go.start());
        for site in &target.sites {
            for by in (-15..=15).filter(|by| *by != 0) {
                let both = shifted(site, by);
                let file_only = Site { address: site.address, ..both.clone() };
                let memory_only = Site { file_offset: site.file_offset, ..both.clone() };
                for wrong in [both, file_only, memory_only] {
                    let refused = probes.attach(&target.attachment_at(1, &[wrong]));
                    assert!(matches!(refused, Err(ProbeError::BytesDiffer { .. })), "by {by}: {refused:?}");
                }
            }
        }
        assert!(text_is_clean(&target));
    }
}

/// Even with the right bytes, an instruction that the kernel would single-step is refused: here the
/// first one of the function, where other tools attach.
#[test]
fn function_entries_are_refused() {
    if !spawner::can_run() {
        return;
    }
    let (probes, target) = (load(), ANY.start());
    let exit = &target.sites[1];
    let entry = (1..16).map(|by| target.symbols.site(Probe::Exit, exit.address - by));
    let entry = entry.into_iter().find(|site| site.bytes.starts_with(&[0x49, 0x3b, 0x66, 0x10])).unwrap();
    let refused = probes.attach(&target.attachment_at(1, &[entry]));
    assert!(matches!(refused, Err(ProbeError::NotEmulated { .. })), "{refused:?}");
    assert!(text_is_clean(&target));
}

/// Two places with the same bytes: the file offset of one with the address of the other passes the
/// comparison, and is found out because the breakpoint then isn't at the address.
#[test]
fn an_offset_of_another_place_is_refused() {
    if !spawner::can_run() {
        return;
    }
    let (probes, target) = (load(), ANY.start());
    let text = &target.symbols.text;
    // The usual way a function begins behind its stack check.
    let begin = [0x55, 0x48, 0x89, 0xe5];
    let mut places = (0..text.len() - 8).filter(|place| text[*place..].starts_with(&begin));
    let site_at = |place: usize| Site {
        bytes: begin.to_vec(),
        ..target.symbols.site(Probe::Exit, target.symbols.text_address + place as u64)
    };
    let (one, two) = (site_at(places.next().unwrap()), site_at(places.next().unwrap()));
    let mixed = Site { file_offset: two.file_offset, ..one };
    let refused = probes.attach(&target.attachment_at(1, &[mixed]));
    let memory = SiteBytes(begin.to_vec());
    assert!(
        matches!(&refused, Err(ProbeError::NotInstalled { memory: found, .. }) if *found == memory),
        "{refused:?}"
    );
    assert!(text_is_clean(&target));
}

/// One wrong site undoes the others of its target, and the slot stays free.
#[test]
fn attach_is_all_or_nothing() {
    if !spawner::can_run() {
        return;
    }
    let (probes, mut target) = (load(), ANY.start());
    let mut sites = target.sites.clone();
    sites.push(shifted(&sites[0], 1));
    probes.attach(&target.attachment_at(1, &sites)).unwrap_err();
    assert!(text_is_clean(&target));
    target.run("short", 5);
    assert_eq!((probes.attached(), probes.counts().unwrap().len()), (0, 0));
    probes.attach(&target.attachment(1)).unwrap();
    assert!(matches!(probes.attach(&target.attachment(1)), Err(ProbeError::Slot { slot: 1 })));
    assert_eq!(probes.attached(), 1);
}

/// Two observers may watch one target; each counts all, and the text is clean when both have gone.
#[test]
fn two_observers_share_a_target() {
    if !spawner::can_run() {
        return;
    }
    let (one, two, mut target) = (load(), load(), ANY.start());
    one.attach(&target.attachment(1)).unwrap();
    two.attach(&target.attachment(1)).unwrap();
    target.run("short", 100);
    let counts = [one.detach(1, Group::Lifecycle).unwrap(), two.counts().unwrap().remove(&1).unwrap()];
    assert_eq!(target.named(&counts[0]), target.named(&counts[1]));
    assert!(!text_is_clean(&target));
    drop(two);
    assert!(text_is_clean(&target));
}

/// A target that has ended is told apart from one that can't be probed.
#[test]
fn an_ended_target_is_gone() {
    if !spawner::can_run() {
        return;
    }
    let (probes, mut target) = (load(), ANY.start());
    probes.attach(&target.attachment(1)).unwrap();
    target.run("short", 20);
    target.kill();
    let gone = probes.attach(&target.attachment(2));
    assert!(matches!(gone, Err(ProbeError::Gone { .. })), "{gone:?}");
    assert_eq!(target.named(&probes.forget(1).unwrap())[0].2, 20, "counts outlive the target");
    assert_eq!((probes.attached(), probes.counts().unwrap().len()), (0, 0));
}

/// After detach the target executes exactly what its file holds.
#[test]
fn text_is_clean_after_detach() {
    if !spawner::can_run() {
        return;
    }
    let (probes, target) = (load(), ANY.start());
    probes.attach(&target.attachment(1)).unwrap();
    assert!(!text_is_clean(&target));
    probes.detach(1, Group::Lifecycle).unwrap();
    assert!(text_is_clean(&target));
}

/// An observer that is killed leaves nothing in the target, which goes on.
#[test]
fn text_is_clean_after_the_observer_is_killed() {
    if !spawner::can_run() {
        return;
    }
    let mut target = ANY.start();
    let mut holder = Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "attach::holder"])
        .env("OBSERVER_TEST_HOLD", target.pid().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("holding")));
    assert!(!text_is_clean(&target));
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(text_is_clean(&target));
    target.run("short", 100);
}

/// The process that is killed: it attaches to the target that it is told, and waits.
#[test]
#[ignore = "run by text_is_clean_after_the_observer_is_killed"]
fn holder() {
    let pid: u32 = env::var("OBSERVER_TEST_HOLD").unwrap().parse().unwrap();
    let (probes, other) = (load(), ANY.start());
    let target = observer::probe::Attachment { pid, ..other.attachment(1) };
    probes.attach(&target).unwrap();
    drop(other);
    let mut stdout = io::stdout();
    writeln!(stdout, "holding").unwrap();
    stdout.flush().unwrap();
    io::stdin().read_line(&mut String::new()).unwrap();
}
