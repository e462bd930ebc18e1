//! What is kept of one group's control files.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One group's folder.
#[derive(Debug, Default)]
pub(super) struct Folder {
    /// Where it is.
    pub(super) path: Arc<[u8]>,
    /// Some twenty files: found faster one after the other than by a hash.
    pub(super) kept: Vec<Kept>,
}

/// One file: open, or its text, or both.
#[derive(Debug)]
pub(super) struct Kept {
    /// Its name in the folder.
    pub(super) name: &'static str,
    /// The open file.
    pub(super) file: Option<File>,
    /// When the open file was last read, by the clock of reads.
    pub(super) used: u64,
    /// The last text; `None` when there was no such file.
    pub(super) text: Option<Vec<u8>>,
    /// When that was read.
    pub(super) at: Instant,
    /// Since when it is the same.
    pub(super) since: Instant,
    /// In which sweep it was read; 0 = in none.
    pub(super) sweep: u64,
    /// Until when it will do, for a setting.
    pub(super) due: Option<Instant>,
}

impl Kept {
    /// Nothing yet.
    pub(super) const fn new(name: &'static str, now: Instant) -> Self {
        Self { name, file: None, used: 0, text: None, at: now, since: now, sweep: 0, due: None }
    }

    /// Takes a text that was just read.
    pub(super) fn note(&mut self, text: &[u8], now: Instant, sweep: u64) {
        (self.at, self.sweep) = (now, sweep);
        if self.text.as_deref() != Some(text) {
            let own = self.text.get_or_insert_default();
            own.clear();
            own.extend_from_slice(text);
            self.since = now;
        }
    }
}

impl Folder {
    /// Where in the list a file is.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.kept.iter().position(|kept| kept.name == name)
    }

    /// What is kept of a file.
    pub(super) fn find(&self, name: &str) -> Option<&Kept> {
        self.place(name).map(|place| &self.kept[place])
    }

    /// The same.
    pub(super) fn find_mut(&mut self, name: &str) -> Option<&mut Kept> {
        self.place(name).map(|place| &mut self.kept[place])
    }

    /// The same, with nothing in it where nothing was kept.
    pub(super) fn find_or_add(&mut self, name: &'static str, now: Instant) -> &mut Kept {
        let place = self.place(name).unwrap_or_else(|| {
            self.kept.push(Kept::new(name, now));
            self.kept.len() - 1
        });
        &mut self.kept[place]
    }

    /// Path of a file.
    pub(super) fn file(&self, name: &str) -> Vec<u8> {
        [&self.path, &b"/"[..], name.as_bytes()].concat()
    }

    /// Whether it is the group `directory`, or one below it.
    pub(super) fn is_below(&self, directory: &[u8]) -> bool {
        self.path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }

    /// Files that are open, and settings.
    pub(super) fn counts(&self) -> (usize, usize) {
        let open = self.kept.iter().filter(|kept| kept.file.is_some()).count();
        (open, self.kept.iter().filter(|kept| kept.due.is_some()).count())
    }

    /// Between half of `most` and all of it, differently for different files, so that not all are due in one sweep.
    pub(super) fn spread(&self, name: &str, most: Duration) -> Duration {
        let bytes = self.path.iter().chain(name.as_bytes());
        let hash = bytes.fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(*byte)));
        most / 2 + (most / 2).mul_f64(f64::from(hash % 64) / 64.0)
    }
}
