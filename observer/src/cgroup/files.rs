//! Control files kept open within a bound: reading a kept one costs a seventh of opening it anew. Files are found by
//! their group's folder, which is looked up once for all of them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::folder::{Folder, Kept};

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
/// Bytes of settings' texts that are remembered, at which all are forgotten.
const MAX_REMEMBERED: usize = 16 << 20;
/// Settings remembered at most: some ten for each of thousands of groups.
const MAX_SETTINGS: usize = 1 << 16;

/// Open control files. Groups are read in turns, so what was used least recently is what is needed next:
/// while every open file is in use a further one is read without being kept.
#[derive(Debug)]
pub(super) struct Files {
    folders: Vec<Folder>,
    index: HashMap<Arc<[u8]>, FolderId>,
    /// Places in `folders` that are free.
    free: Vec<FolderId>,
    /// Folders of which nothing may be kept, to be looked at when the sweep is over.
    doubtful: Vec<FolderId>,
    open: usize,
    capacity: usize,
    /// Counts reads; the age of kept files.
    clock: u64,
    /// Until then no file that is out of use is looked for.
    full_until: u64,
    text: Vec<u8>,
    settings: usize,
    /// Bytes that were remembered since all was forgotten.
    remembered: usize,
    /// Counts sweeps, from 1 on.
    sweep: u64,
    sweeping: bool,
    /// When the reading that is under way began.
    now: Instant,
    /// Whether it found a group to be another one than before, under the same name.
    renewed: bool,
}

/// A group's folder, while its membership is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FolderId(usize);

/// How old a text may be. Except for settings all are read now outside of sweeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// Of this sweep: a file that several memberships share is read once.
    Sweep,
    /// The same, of a file that many groups share: its text stays for the sweep also where its file can't.
    Shared,
    /// [`LIMIT`].
    Limit,
    /// [`LIMIT`], and not older than this.
    LimitSince(Instant),
    /// The same, and it must have been read again since then without being another one.
    StillSince(Instant),
    /// [`SLOW`]: set by people, or growing slowly. Its file isn't kept open.
    Setting,
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
            folders: Vec::new(),
            index: HashMap::new(),
            free: Vec::new(),
            doubtful: Vec::new(),
            open: 0,
            capacity: capacity.max(1),
            clock: 0,
            full_until: 0,
            text: Vec::new(),
            settings: 0,
            remembered: 0,
            sweep: 0,
            sweeping: false,
            now: Instant::now(),
            renewed: false,
        }
    }

    /// How many files are open now.
    pub(super) const fn count(&self) -> usize {
        self.open
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

    /// From now on what was read is as good as new, until the sweep's end.
    pub(super) const fn begin_sweep(&mut self) {
        self.sweep += 1;
        self.sweeping = true;
    }

    /// Every file is read anew. Forgets what was kept for the sweep alone.
    pub(super) fn end_sweep(&mut self) {
        self.sweeping = false;
        for id in std::mem::take(&mut self.doubtful) {
            self.folders[id.0].kept.retain(|kept| kept.file.is_some() || kept.due.is_some());
            self.release(id);
        }
    }

    /// Finds the folder at `path`. It is good until the end of the reading.
    pub(super) fn folder(&mut self, path: &[u8]) -> FolderId {
        if let Some(id) = self.index.get(path) {
            return *id;
        }
        let path: Arc<[u8]> = path.into();
        let id = self.free.pop().unwrap_or_else(|| {
            self.folders.push(Folder::default());
            FolderId(self.folders.len() - 1)
        });
        self.folders[id.0].path = Arc::clone(&path);
        self.index.insert(path, id);
        self.doubtful.push(id);
        id
    }

    /// Where a folder is.
    pub(super) fn path(&self, folder: FolderId) -> &[u8] {
        &self.folders[folder.0].path
    }

    /// The text of a file, at most as old as that.
    pub(super) fn read(&mut self, folder: FolderId, name: &'static str, age: Age) -> Result<&[u8], Failure> {
        if let Some(place) = self.folders[folder.0].place(name)
            && self.will_do(&self.folders[folder.0].kept[place], age)
        {
            return self.folders[folder.0].kept[place].text.as_deref().ok_or(Failure::Off);
        }
        match age {
            Age::Setting => self.read_setting(folder, name)?,
            Age::Shared => self.read_now(folder, name, self.sweeping)?,
            _ => self.read_now(folder, name, false)?,
        }
        match self.folders[folder.0].find(name) {
            // Whether the group is still there its other files tell.
            Some(kept) => kept.text.as_deref().ok_or(Failure::Off),
            None => Ok(&self.text),
        }
    }

    /// The text of this sweep, and when it was first read: since then it is the same.
    pub(super) fn read_watched(
        &mut self,
        folder: FolderId,
        name: &'static str,
    ) -> Result<(&[u8], Instant), Failure> {
        self.read(folder, name, Age::Sweep)?;
        match self.folders[folder.0].find(name) {
            Some(kept) => Ok((kept.text.as_deref().unwrap_or_default(), kept.since)),
            None => Ok((&self.text, self.now)),
        }
    }

    fn will_do(&self, kept: &Kept, age: Age) -> bool {
        let younger = |bound| self.now.saturating_duration_since(kept.at) < bound;
        match age {
            Age::Setting => kept.due.is_some_and(|due| due > self.now),
            _ if !self.sweeping || kept.text.is_none() => false,
            Age::Sweep | Age::Shared => kept.sweep == self.sweep,
            Age::Limit => younger(LIMIT),
            Age::LimitSince(then) => kept.at >= then && younger(LIMIT),
            Age::StillSince(then) => kept.at > then && kept.at > kept.since && younger(LIMIT),
        }
    }

    /// Reads a file, and remembers its text if it stays open, or if `keep`.
    fn read_now(&mut self, folder: FolderId, name: &'static str, keep: bool) -> Result<(), Failure> {
        self.clock += 1;
        let known = self.folders[folder.0].find(name).is_some_and(|kept| kept.file.is_some());
        let mut read = self.fill(folder, name);
        if known && matches!(read, Err(Failure::Removed)) {
            // Another group may have the same name now, as when a service is started again.
            self.forget_below(&Arc::clone(&self.folders[folder.0].path));
            self.renewed = true;
            read = self.fill(folder, name);
        }
        if let Err(failure) = read {
            self.forget(folder, name);
            return Err(failure);
        }
        let (now, sweep) = (self.now, if self.sweeping { self.sweep } else { 0 });
        if keep && self.folders[folder.0].find(name).is_none() {
            self.folders[folder.0].kept.push(Kept::new(name, now));
            self.doubtful.push(folder);
        }
        if let Some(kept) = self.folders[folder.0].find_mut(name) {
            kept.note(&self.text, now, sweep);
        }
        Ok(())
    }

    /// Reads a setting through a descriptor of its own.
    fn read_setting(&mut self, folder: FolderId, name: &'static str) -> Result<(), Failure> {
        let path = self.folders[folder.0].file(name);
        let read = open(&path).and_then(|file| read_text(&file, &mut self.text));
        let fits = self.text.len() <= MAX_SETTING;
        match &read {
            Ok(()) if fits => self.remember(folder, name, true),
            Err(Failure::Absent) => self.remember(folder, name, false),
            _ => self.forget(folder, name),
        }
        read
    }

    /// Remembers the text of a setting, or that there is no such file.
    fn remember(&mut self, folder: FolderId, name: &'static str, there: bool) {
        if self.settings >= MAX_SETTINGS {
            let now = self.now;
            self.forget_settings(|due| due > now);
        }
        if self.settings >= MAX_SETTINGS || self.remembered >= MAX_REMEMBERED {
            self.forget_settings(|_| false);
            self.remembered = 0;
        }
        let (now, due) = (self.now, self.now + self.folders[folder.0].spread(name, SLOW));
        let kept = self.folders[folder.0].find_or_add(name, now);
        if there {
            kept.note(&self.text, now, 0);
            self.remembered += self.text.len();
        } else {
            kept.text = None;
        }
        self.settings += usize::from(kept.due.replace(due).is_none());
    }

    fn forget_settings(&mut self, stays: impl Fn(Instant) -> bool) {
        for (place, folder) in self.folders.iter_mut().enumerate() {
            for kept in &mut folder.kept {
                self.settings -= usize::from(kept.due.take_if(|due| !stays(*due)).is_some());
            }
            folder.kept.retain(|kept| kept.due.is_some() || kept.file.is_some());
            if folder.kept.is_empty() {
                self.doubtful.push(FolderId(place));
            }
        }
    }

    /// Closes a file and forgets its text.
    fn forget(&mut self, folder: FolderId, name: &str) {
        let kept = &mut self.folders[folder.0].kept;
        let Some(place) = kept.iter().position(|kept| kept.name == name) else { return };
        let kept = kept.swap_remove(place);
        self.open -= usize::from(kept.file.is_some());
        self.settings -= usize::from(kept.due.is_some());
    }

    /// Closes and forgets everything of a group and of those below it.
    fn forget_below(&mut self, directory: &[u8]) {
        for folder in self.folders.iter_mut().filter(|folder| folder.is_below(directory)) {
            let (open, settings) = folder.counts();
            self.open -= open;
            self.settings -= settings;
            folder.kept.clear();
        }
    }

    /// The same while nothing is being read: the folders need no place any more.
    pub(super) fn close_below(&mut self, directory: &[u8]) {
        self.forget_below(directory);
        for place in 0..self.folders.len() {
            if self.folders[place].is_below(directory) {
                self.release(FolderId(place));
            }
        }
    }

    /// Gives up the place of a folder of which nothing is kept.
    fn release(&mut self, id: FolderId) {
        let folder = &mut self.folders[id.0];
        if folder.kept.is_empty() && self.index.remove(&folder.path).is_some() {
            *folder = Folder::default();
            self.free.push(id);
        }
    }

    /// Fills `text` through the open file, or opens it and keeps it if there is room.
    fn fill(&mut self, folder: FolderId, name: &'static str) -> Result<(), Failure> {
        let clock = self.clock;
        if let Some(kept) = self.folders[folder.0].find_mut(name)
            && let Some(file) = &kept.file
        {
            kept.used = clock;
            return read_text(file, &mut self.text);
        }
        let path = self.folders[folder.0].file(name);
        let mut opened = open(&path);
        if matches!(&opened, Err(Failure::Io(error)) if is(error, Errno::MFILE)) && self.open > 0 {
            self.close_oldest();
            opened = open(&path);
        }
        let file = opened?;
        read_text(&file, &mut self.text)?;
        if self.has_room() {
            let kept = self.folders[folder.0].find_or_add(name, self.now);
            (kept.file, kept.used) = (Some(file), clock);
            self.open += 1;
        }
        Ok(())
    }

    /// Whether one more file may stay open, after closing those out of use: files that several rounds over all
    /// of them have not touched.
    fn has_room(&mut self) -> bool {
        if self.open < self.capacity {
            return true;
        }
        if self.clock < self.full_until {
            return false;
        }
        let (rounds, clock) = (8 * self.capacity as u64, self.clock);
        self.close_unless(|used| clock - used < rounds);
        self.full_until = clock + self.capacity as u64;
        self.open < self.capacity
    }

    /// Closes the quarter that was not used for longest (at least one).
    fn close_oldest(&mut self) {
        let open = self.folders.iter().flat_map(|folder| &folder.kept).filter(|kept| kept.file.is_some());
        let mut ages: Vec<u64> = open.map(|kept| kept.used).collect();
        if ages.is_empty() {
            return;
        }
        let last = ages.len() / 4;
        let (_, &mut limit, _) = ages.select_nth_unstable(last);
        self.close_unless(|used| used > limit);
    }

    /// Closes the files whose last use was at another time.
    fn close_unless(&mut self, stays: impl Fn(u64) -> bool) {
        for (place, folder) in self.folders.iter_mut().enumerate() {
            for kept in &mut folder.kept {
                if kept.file.is_some() && !stays(kept.used) {
                    kept.file = None;
                    self.open -= 1;
                }
            }
            folder.kept.retain(|kept| kept.file.is_some() || kept.due.is_some());
            if folder.kept.is_empty() {
                self.doubtful.push(FolderId(place));
            }
        }
    }
}

fn open(path: &[u8]) -> Result<File, Failure> {
    File::open(OsStr::from_bytes(path)).map_err(Failure::from_io)
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
mod tests;
