use super::*;
use std::path::Path;

fn folder(files: &mut Files, directory: &Path) -> FolderId {
    files.begin_reading();
    files.folder(directory.as_os_str().as_bytes())
}

fn text(files: &mut Files, directory: &Path, name: &'static str, age: Age) -> String {
    let folder = folder(files, directory);
    String::from_utf8(files.read(folder, name, age).expect("read").to_vec()).expect("text")
}

fn write(directory: &Path, name: &str, text: &str) {
    std::fs::write(directory.join(name), text).expect("written");
}

/// Every read shows what the file holds now, through the same descriptor.
#[test]
fn reads_fresh_text_through_a_kept_descriptor() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut files = Files::new(4);
    for written in ["one", "two\n", ""] {
        write(directory.path(), "cpu.stat", written);
        assert_eq!(text(&mut files, directory.path(), "cpu.stat", Age::Sweep), written);
        assert_eq!(files.count(), 1);
    }
}

/// In a sweep a file is read once, limits serve later sweeps as well, and what changed is read anew where it
/// has to be newer; outside of sweeps everything is.
#[test]
fn sweeps_share_texts() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut files = Files::new(4);
    let now = |files: &mut Files, age| text(files, directory.path(), "x", age);
    write(directory.path(), "x", "1");
    files.begin_sweep();
    assert_eq!(now(&mut files, Age::Sweep), "1");
    write(directory.path(), "x", "2");
    for age in [Age::Sweep, Age::Shared, Age::Limit, Age::LimitSince(files.now)] {
        assert_eq!(now(&mut files, age), "1");
    }
    assert_eq!(now(&mut files, Age::LimitSince(Instant::now())), "2");
    write(directory.path(), "x", "3");
    files.end_sweep();
    files.begin_sweep();
    assert_eq!(now(&mut files, Age::Limit), "2");
    assert_eq!(now(&mut files, Age::Sweep), "3");
    files.end_sweep();
    write(directory.path(), "x", "4");
    assert_eq!(now(&mut files, Age::Limit), "4");
}

/// What stands still has to be seen so twice.
#[test]
fn what_stands_still_was_read_twice() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut files = Files::new(4);
    files.begin_sweep();
    let then = Instant::now();
    let mut now = |written, age| {
        write(directory.path(), "x", written);
        text(&mut files, directory.path(), "x", age)
    };
    assert_eq!(now("1", Age::Sweep), "1");
    assert_eq!(now("2", Age::StillSince(then)), "2", "it was read once");
    assert_eq!(now("2", Age::StillSince(then)), "2");
    assert_eq!(now("3", Age::StillSince(then)), "2", "it stood still");
    assert_eq!(now("3", Age::StillSince(Instant::now())), "3", "but not since now");
}

/// A text's time begins when it changes.
#[test]
fn watches_texts() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut files = Files::new(4);
    let mut since = |written| {
        write(directory.path(), "x", written);
        let folder = folder(&mut files, directory.path());
        let (text, since) = files.read_watched(folder, "x").expect("read");
        assert_eq!(text, written.as_bytes());
        since
    };
    let first = since("1");
    assert_eq!(since("1"), first);
    let second = since("2");
    assert!(second > first);
    assert_eq!(since("2"), second);
}

/// No more files than the bound stay open, those in use stay, and those out of use make room at last. What many
/// groups share is kept for the sweep nevertheless, and no longer.
#[test]
fn stays_within_its_bound() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut files = Files::new(8);
    let mut read = |number: usize| {
        let group = directory.path().join(number.to_string());
        std::fs::create_dir_all(&group).expect("created");
        write(&group, "x", &number.to_string());
        assert_eq!(text(&mut files, &group, "x", Age::Sweep), number.to_string());
        let folder = folder(&mut files, &group);
        (files.count(), files.folders[folder.0].find("x").is_some())
    };
    for number in 1..100 {
        assert!(read(0).0 <= 8);
        assert!(read(0).1, "a file in use was closed");
        assert!(read(number).0 <= 8);
    }
    assert!(read(99).1, "files out of use still take all the room");
    files.begin_sweep();
    files.full_until = u64::MAX;
    let group = directory.path().join("1");
    assert_eq!(text(&mut files, &group, "x", Age::Shared), "1");
    write(&group, "x", "changed");
    assert_eq!(text(&mut files, &group, "x", Age::Shared), "1");
    files.end_sweep();
    assert_eq!((text(&mut files, &group, "x", Age::Shared).as_str(), files.count()), ("changed", 8));
    assert!(files.folders.len() - files.free.len() <= 9, "places of folders are not given back");
}

/// The text of a setting is remembered, until its group is closed or found to be another one.
#[test]
fn remembers_settings() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let mut files = Files::new(8);
    let missing = folder(&mut files, path);
    assert!(matches!(files.read(missing, "cpu.weight", Age::Setting), Err(Failure::Absent)));
    assert!(matches!(files.read(missing, "cpu.weight", Age::Setting), Err(Failure::Off)));
    files.close_below(path.as_os_str().as_bytes());
    for written in ["100", "200"] {
        write(path, "cpu.weight", written);
        assert_eq!(text(&mut files, path, "cpu.weight", Age::Setting), written);
        write(path, "cpu.weight", "changed");
        assert_eq!(text(&mut files, path, "cpu.weight", Age::Setting), written);
        files.close_below(path.as_os_str().as_bytes());
        assert_eq!((files.count(), files.settings), (0, 0));
    }
}

/// Closing a group's files leaves those of groups with a longer name alone.
#[test]
fn closes_the_files_of_one_group() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut files = Files::new(9);
    for name in ["a", "a/b", "ab"] {
        let group = directory.path().join(name);
        std::fs::create_dir_all(&group).expect("created");
        write(&group, "x", name);
        assert_eq!(text(&mut files, &group, "x", Age::Sweep), name);
    }
    files.close_below(directory.path().join("a").as_os_str().as_bytes());
    assert_eq!((files.count(), files.index.len()), (1, 1));
    assert_eq!(text(&mut files, &directory.path().join("ab"), "x", Age::Sweep), "ab");
}

/// A missing file and one that is far too long are told apart and not kept.
#[test]
fn names_what_is_wrong() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut files = Files::new(1);
    let folder = folder(&mut files, directory.path());
    assert!(matches!(files.read(folder, "x", Age::Sweep), Err(Failure::Absent)));
    write(directory.path(), "x", &"1".repeat(MAX_TEXT + 1));
    assert!(matches!(files.read(folder, "x", Age::Sweep), Err(Failure::TooLarge)));
    assert_eq!(files.count(), 0);
}

/// Texts longer than one read arrive whole.
#[test]
fn joins_long_texts() {
    let directory = tempfile::tempdir().expect("a directory");
    let written: String = (0..20_000_u32).map(|i| char::from((i % 97) as u8 + 32)).collect();
    write(directory.path(), "long", &written);
    assert_eq!(text(&mut Files::new(1), directory.path(), "long", Age::Sweep), written);
}
