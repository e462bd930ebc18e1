//! Control files kept open within a bound: reading a kept one costs a seventh of opening it anew.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// Longest text accepted from one control file, in bytes.
const MAX_TEXT: usize = 64 * 1024;
/// Bytes asked for at once.
const CHUNK: usize = 4096;
/// A read below this is the last one: the kernel cuts a text short of the buffer only before a record that
/// no longer fits, and no record of a control file is this long.
const LAST: usize = 2048;

/// Age up to which the text of a limit will do. Its file stays open: between sweeps that are further apart it is
/// read each time.
const LIMIT: Duration = Duration::from_secs(5);
/// Age up to which the text of a setting will do. Each file is read anew between half of it and all of it.
const SLOW: Duration = Duration::from_secs(60);
/// Longest text of a setting that is remembered; `memory.stat` of v1 has a thousand bytes.
const MAX_SETTING: usize = 2048;
/// Bytes of texts that are remembered, at which all are forgotten.
const MAX_REMEMBERED: usize = 16 << 20;
/// Settings remembered at most: some ten for each of thousands of groups.
const MAX_SETTINGS: usize = 1 << 16;

/// Open control files. Groups are read in turns, so what was used least recently is what is needed next:
/// while every open file is in use a further one is read without being kept.
#[derive(Debug)]
pub(super) struct Files {
    open: HashMap<Box<[u8]>, Kept>,
    capacity: usize,
    /// Counts reads; the age of kept files.
    clock: u64,
    /// Until then no file that is out of use is looked for.
    full_until: u64,
    text: Vec<u8>,
    settings: HashMap<Box<[u8]>, Setting>,
    /// Bytes that were remembered since all was forgotten.
    remembered: usize,
    /// Texts that several groups share, while a sweep lasts.
    shared: Option<HashMap<Box<[u8]>, Box<[u8]>>>,
    /// When the reading that is under way began.
    now: Instant,
    /// Whether it found a group to be another one than before, under the same name.
    renewed: bool,
}

/// The text of a setting; `None` when there is no such file.
#[derive(Debug)]
struct Setting {
    text: Option<Box<[u8]>>,
    due: Instant,
}

#[derive(Debug)]
struct Kept {
    file: File,
    used: u64,
    /// The last text and its time, where somebody asks for that.
    last: Option<(Vec<u8>, Instant)>,
}

/// How old a text may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// Read now.
    Fresh,
    /// [`LIMIT`].
    Limit,
    /// As it was last time: nothing that it tells can have changed.
    Any,
}

/// Why a file gave no text.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no such file.
    Absent,
    /// Its group was removed while it was read.
    Removed,
    /// The kernel was told not to account for what it shows, or it wasn't there a moment ago.
    Off,
    /// It is longer than any control file.
    TooLarge,
    /// Anything else.
    Io(io::Error),
}

impl Files {
    /// Keeps up to `capacity` files open (at least one).
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            open: HashMap::new(),
            capacity: capacity.max(1),
            clock: 0,
            full_until: 0,
            text: Vec::new(),
            settings: HashMap::new(),
            remembered: 0,
            shared: None,
            now: Instant::now(),
            renewed: false,
        }
    }

    /// How many files are open now.
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// Begins the reading of one membership.
    pub(super) fn begin_reading(&mut self) {
        self.now = Instant::now();
        self.renewed = false;
    }

    /// Whether this reading found a group to be another one than before: then texts of the old one may have been
    /// given out.
    pub(super) const fn renewed(&self) -> bool {
        self.renewed
    }

    /// The text of the file at `path`, at most as old as that.
    pub(super) fn read_aged(&mut self, path: &[u8], age: Age) -> Result<&[u8], Failure> {
        let now = self.now;
        let kept = self.open.get(path).filter(|_| self.shared.is_some());
        let known = kept.and_then(|kept| kept.last.as_ref()).is_some_and(|(_, at)| match age {
            Age::Fresh => false,
            Age::Limit => now.saturating_duration_since(*at) < LIMIT,
            Age::Any => true,
        });
        if !known {
            self.read(path)?;
            let Some(kept) = self.open.get_mut(path) else { return Ok(&self.text) };
            let (text, at) = kept.last.get_or_insert_with(|| (Vec::new(), now));
            text.clear();
            text.extend_from_slice(&self.text);
            *at = now;
        }
        let last = self.open.get(path).and_then(|kept| kept.last.as_ref());
        last.map(|(text, _)| text.as_slice()).ok_or(Failure::Absent)
    }

    /// The current text, and whether it is the same as last time.
    pub(super) fn read_watched(&mut self, path: &[u8]) -> Result<(&[u8], bool), Failure> {
        self.read(path)?;
        let Some(kept) = self.open.get_mut(path) else { return Ok((&self.text, false)) };
        let (last, _) = kept.last.get_or_insert_with(|| (Vec::new(), self.now));
        let same = *last == self.text;
        if !same {
            last.clear();
            last.extend_from_slice(&self.text);
        }
        Ok((&self.text, same))
    }

    /// The current text of the file at `path`, always fresh from the kernel.
    pub(super) fn read(&mut self, path: &[u8]) -> Result<&[u8], Failure> {
        self.clock += 1;
        let known = self.open.contains_key(path);
        let mut read = self.read_once(path);
        if known && matches!(read, Err(Failure::Removed)) {
            // Another group may have the same name now, as when a service is started again.
            let group = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            self.close_below(&path[..group]);
            self.renewed = true;
            read = self.read_once(path);
        }
        read.map(|()| self.text.as_slice())
    }

    /// From now on [`Self::read_shared`] reads each file once.
    pub(super) fn begin_sweep(&mut self) {
        self.shared = Some(HashMap::new());
    }

    /// Forgets what was shared.
    pub(super) fn end_sweep(&mut self) {
        self.shared = None;
    }

    /// The text of a file of a group that others are below: as it is now, or as it was earlier in this sweep.
    pub(super) fn read_shared(&mut self, path: &[u8]) -> Result<&[u8], Failure> {
        if !self.shared.as_ref().is_some_and(|shared| shared.contains_key(path)) {
            self.read(path)?;
            let Some(shared) = &mut self.shared else { return Ok(&self.text) };
            shared.insert(path.into(), self.text.as_slice().into());
        }
        self.shared.as_ref().and_then(|shared| shared.get(path)).map(AsRef::as_ref).ok_or(Failure::Absent)
    }

    /// The text of a file that is set by people, or grows slowly: up to a minute old, and not kept open.
    pub(super) fn read_slow(&mut self, path: &[u8]) -> Result<&[u8], Failure> {
        let now = self.now;
        if self.settings.get(path).is_none_or(|setting| setting.due <= now) {
            let read = open(path).and_then(|file| read_text(&file, &mut self.text));
            let text = match &read {
                Ok(()) if self.text.len() <= MAX_SETTING => Some(self.text.as_slice().into()),
                Err(Failure::Absent) => None,
                _ => return read.map(|()| self.text.as_slice()),
            };
            self.remember(path, text, now);
            read?;
        }
        // Whether the group is still there its other files tell.
        self.settings.get(path).and_then(|setting| setting.text.as_deref()).ok_or(Failure::Off)
    }

    /// Closes the files of a group and of those below it.
    pub(super) fn close_below(&mut self, directory: &[u8]) {
        self.open.retain(|path, _| !is_below(path, directory));
        self.forget_settings(directory);
    }

    fn forget_settings(&mut self, directory: &[u8]) {
        self.settings.retain(|path, _| !is_below(path, directory));
    }

    fn remember(&mut self, path: &[u8], text: Option<Box<[u8]>>, now: Instant) {
        if self.settings.len() >= MAX_SETTINGS {
            self.settings.retain(|_, setting| setting.due > now);
        }
        if self.settings.len() >= MAX_SETTINGS || self.remembered >= MAX_REMEMBERED {
            self.settings.clear();
            self.remembered = 0;
        }
        self.remembered += text.as_ref().map_or(0, |text| text.len());
        // Spread, so that not all are due in one sweep.
        let spread =
            path.iter().fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(*byte)));
        let due = now + SLOW / 2 + (SLOW / 2).mul_f64(f64::from(spread % 64) / 64.0);
        self.settings.insert(path.into(), Setting { text, due });
    }

    /// Fills `text`; a file that can't be read doesn't stay open.
    fn read_once(&mut self, path: &[u8]) -> Result<(), Failure> {
        if let Some(kept) = self.open.get_mut(path) {
            kept.used = self.clock;
            let read = read_text(&kept.file, &mut self.text);
            if read.is_err() {
                self.open.remove(path);
            }
            return read;
        }
        let mut opened = open(path);
        if matches!(&opened, Err(Failure::Io(error)) if is(error, Errno::MFILE)) && !self.open.is_empty() {
            self.close_oldest();
            opened = open(path);
        }
        let file = opened?;
        read_text(&file, &mut self.text)?;
        if self.has_room() {
            self.open.insert(path.into(), Kept { file, used: self.clock, last: None });
        }
        Ok(())
    }

    /// Whether one more file may stay open, after closing those out of use: files that several rounds over all
    /// of them have not touched.
    fn has_room(&mut self) -> bool {
        if self.open.len() < self.capacity {
            return true;
        }
        if self.clock < self.full_until {
            return false;
        }
        let (rounds, clock) = (8 * self.capacity as u64, self.clock);
        self.open.retain(|_, kept| clock - kept.used < rounds);
        self.full_until = clock + self.capacity as u64;
        self.open.len() < self.capacity
    }

    /// Closes the quarter that was not used for longest (at least one).
    fn close_oldest(&mut self) {
        let mut ages: Vec<u64> = self.open.values().map(|kept| kept.used).collect();
        if ages.is_empty() {
            return;
        }
        let last = ages.len() / 4;
        let (_, &mut limit, _) = ages.select_nth_unstable(last);
        self.open.retain(|_, kept| kept.used > limit);
    }
}

fn open(path: &[u8]) -> Result<File, Failure> {
    File::open(OsStr::from_bytes(path)).map_err(Failure::from_io)
}

/// Whether `path` is a file of the group `directory`, or of one below it.
fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
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
            error if is(&error, Errno::OPNOTSUPP) => Self::Off,
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

    /// No more files than the bound stay open, those in use stay, and those out of use make room at last.
    #[test]
    fn stays_within_its_bound() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut files = Files::new(8);
        let mut read = |name: usize| {
            let path = directory.path().join(name.to_string());
            std::fs::write(&path, name.to_string()).expect("written");
            let text = files.read(path.as_os_str().as_bytes()).expect("read").to_vec();
            assert_eq!(text, name.to_string().into_bytes());
            (files.count(), files.open.keys().any(|key| key.ends_with(format!("/{name}").as_bytes())))
        };
        for name in 1..100 {
            assert!(read(0).0 <= 8);
            assert!(read(0).1, "a file in use was closed");
            assert!(read(name).0 <= 8);
        }
        assert!(read(99).1, "files out of use still take all the room");
    }

    /// The text of a setting is remembered, until its group is closed or found to be another one.
    #[test]
    fn remembers_settings() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("cpu.weight");
        let path = path.as_os_str().as_bytes();
        let mut files = Files::new(8);
        assert!(matches!(files.read_slow(path), Err(Failure::Absent)));
        assert!(matches!(files.read_slow(path), Err(Failure::Off)));
        files.close_below(directory.path().as_os_str().as_bytes());
        for text in ["100", "200"] {
            std::fs::write(OsStr::from_bytes(path), text).expect("written");
            assert_eq!(files.read_slow(path).expect("read"), text.as_bytes());
            std::fs::write(OsStr::from_bytes(path), "changed").expect("written");
            assert_eq!(files.read_slow(path).expect("read"), text.as_bytes());
            files.close_below(directory.path().as_os_str().as_bytes());
        }
        assert_eq!(files.count(), 0);
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
