//! Control files kept open within a bound: reading a kept one costs a seventh of opening it anew.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

/// Longest text accepted from one control file, in bytes.
const MAX_TEXT: usize = 64 * 1024;
/// Bytes asked for at once.
const CHUNK: usize = 4096;
/// A read below this is the last one: the kernel cuts a text short of the buffer only before a record that
/// no longer fits, and no record of a control file is this long.
const LAST: usize = 2048;

/// Open control files, least recently used closed first.
#[derive(Debug)]
pub(super) struct Files {
    open: HashMap<Box<[u8]>, Kept>,
    capacity: usize,
    /// Counts reads; the age of kept files.
    clock: u64,
    text: Vec<u8>,
}

#[derive(Debug)]
struct Kept {
    file: File,
    used: u64,
}

/// Why a file gave no text.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no such file.
    Absent,
    /// Its group was removed while it was read.
    Removed,
    /// It is longer than any control file.
    TooLarge,
    /// Anything else.
    Io(io::Error),
}

impl Files {
    /// Keeps up to `capacity` files open (at least one).
    pub(super) fn new(capacity: usize) -> Self {
        Self { open: HashMap::new(), capacity: capacity.max(1), clock: 0, text: Vec::new() }
    }

    /// How many files are open now.
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// The current text of the file at `path`, always fresh from the kernel.
    pub(super) fn read(&mut self, path: &[u8]) -> Result<&[u8], Failure> {
        self.clock += 1;
        let known = self.open.contains_key(path);
        let mut read = self.read_once(path);
        if known && matches!(read, Err(Failure::Removed)) {
            // Another group may have the same name now, as when a service is started again.
            read = self.read_once(path);
        }
        read.map(|()| self.text.as_slice())
    }

    /// Closes the files of a group and of those below it.
    pub(super) fn close_below(&mut self, directory: &[u8]) {
        self.open.retain(|path, _| path.strip_prefix(directory).is_none_or(|rest| !rest.starts_with(b"/")));
    }

    /// Fills `text`; a file that can't be read doesn't stay open.
    fn read_once(&mut self, path: &[u8]) -> Result<(), Failure> {
        if !self.open.contains_key(path) {
            self.keep(path)?;
        }
        // Present: kept just now, or found.
        let Some(kept) = self.open.get_mut(path) else { return Err(Failure::Absent) };
        kept.used = self.clock;
        let read = read_text(&kept.file, &mut self.text);
        if read.is_err() {
            self.open.remove(path);
        }
        read
    }

    /// Opens `path`, making room first, also when the process has no descriptor left.
    fn keep(&mut self, path: &[u8]) -> Result<(), Failure> {
        if self.open.len() >= self.capacity {
            self.evict();
        }
        let name = OsStr::from_bytes(path);
        let mut opened = File::open(name);
        if opened.as_ref().is_err_and(|error| is(error, Errno::MFILE)) && !self.open.is_empty() {
            self.evict();
            opened = File::open(name);
        }
        let file = opened.map_err(Failure::from_io)?;
        self.open.insert(path.into(), Kept { file, used: self.clock });
        Ok(())
    }

    /// Closes the quarter that was not used for longest (at least one), so that making room is rarely needed.
    fn evict(&mut self) {
        let mut ages: Vec<u64> = self.open.values().map(|kept| kept.used).collect();
        if ages.is_empty() {
            return;
        }
        let last = ages.len() / 4;
        let (_, &mut limit, _) = ages.select_nth_unstable(last);
        self.open.retain(|_, kept| kept.used > limit);
    }
}

/// Replaces `text` by the whole text of `file`.
fn read_text(file: &File, text: &mut Vec<u8>) -> Result<(), Failure> {
    text.clear();
    while text.len() < MAX_TEXT {
        let start = text.len();
        text.resize(start + CHUNK, 0);
        let read = file.read_at(&mut text[start..], start as u64).map_err(Failure::from_io)?;
        text.truncate(start + read);
        if read < LAST {
            return Ok(());
        }
    }
    Err(Failure::TooLarge)
}

impl Failure {
    fn from_io(error: io::Error) -> Self {
        match error {
            error if is(&error, Errno::NOENT) => Self::Absent,
            error if is(&error, Errno::NODEV) => Self::Removed,
            error => Self::Io(error),
        }
    }
}

/// Whether `error` is that of the kernel.
fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every read shows what the file holds now, through the same descriptor.
    #[test]
    fn reads_fresh_text_through_a_kept_descriptor() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("cpu.stat");
        let mut files = Files::new(4);
        for text in ["one", "two\n", ""] {
            std::fs::write(&path, text).expect("written");
            assert_eq!(files.read(path.as_os_str().as_bytes()).expect("read"), text.as_bytes());
            assert_eq!(files.count(), 1);
        }
    }

    /// No more files than the bound stay open, those used last stay, and evicted ones are opened again.
    #[test]
    fn stays_within_its_bound() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut files = Files::new(8);
        let mut read = |name: usize| {
            let path = directory.path().join(name.to_string());
            std::fs::write(&path, name.to_string()).expect("written");
            let text = files.read(path.as_os_str().as_bytes()).expect("read").to_vec();
            assert_eq!(text, name.to_string().into_bytes());
            (files.count(), files.open.keys().any(|key| key.ends_with(b"/0")))
        };
        for name in 1..100 {
            assert!(read(0).0 <= 8);
            assert!(read(name).1, "the file used before each other one was closed");
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
            std::fs::write(group.join("x"), "1").expect("written");
            files.read(group.join("x").as_os_str().as_bytes()).expect("read");
        }
        files.close_below(directory.path().join("a").as_os_str().as_bytes());
        assert_eq!(files.count(), 1);
    }

    /// A missing file and one that is far too long are told apart and not kept.
    #[test]
    fn names_what_is_wrong() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("x");
        let path = path.as_os_str().as_bytes();
        let mut files = Files::new(1);
        assert!(matches!(files.read(path), Err(Failure::Absent)));
        std::fs::write(OsStr::from_bytes(path), vec![b'1'; MAX_TEXT + 1]).expect("written");
        assert!(matches!(files.read(path), Err(Failure::TooLarge)));
        assert_eq!(files.count(), 0);
    }

    /// Texts longer than one read arrive whole.
    #[test]
    fn joins_long_texts() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("long");
        let text: Vec<u8> = (0..20_000_u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &text).expect("written");
        assert_eq!(Files::new(1).read(path.as_os_str().as_bytes()).expect("read"), text);
    }
}
