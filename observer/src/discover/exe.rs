//! The executable of a process, read through `/proc/PID/exe`: the kernel's own link works across mount
//! namespaces and for deleted files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};

/// What the kernel knows already is good enough: asking a file server that is dead, or a target's own one,
/// could take for ever.
const CACHED: AtFlags = AtFlags::STATX_DONT_SYNC;

/// Which file it is, as long as nobody writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    device: (u32, u32),
    inode: u64,
    size: u64,
    modified: (i64, u32),
}

/// A file and what stands in it. Other than the time of modification the time of change can't be set back;
/// it also changes when the file is removed, which makes it no part of the identity of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Contents {
    /// The file.
    pub file: FileId,
    changed: (i64, u32),
}

/// An open executable.
#[derive(Debug)]
pub struct ExeFile {
    file: File,
    size: u64,
}

impl FileId {
    /// Of the file at `path`.
    ///
    /// # Errors
    /// When it can't be looked at.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Contents::of(path)?.file)
    }
}

impl Contents {
    /// Of the file at `path`.
    ///
    /// # Errors
    /// When it can't be looked at.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from_statx(&statx(CWD, path, CACHED, StatxFlags::BASIC_STATS)?))
    }

    fn from_statx(stat: &Statx) -> Self {
        Self {
            file: FileId {
                device: (stat.stx_dev_major, stat.stx_dev_minor),
                inode: stat.stx_ino,
                size: stat.stx_size,
                modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            },
            changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        }
    }
}

impl ExeFile {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// When it can't be opened, or isn't a regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Looked at before it is opened: opening a FIFO or a device would block or act.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }

    /// Which file it is and what stands in it.
    ///
    /// # Errors
    /// When it can't be looked at.
    pub fn contents(&self) -> io::Result<Contents> {
        let flags = CACHED | AtFlags::EMPTY_PATH;
        Ok(Contents::from_statx(&statx(&self.file, "", flags, StatxFlags::BASIC_STATS)?))
    }

    /// Its length in bytes, when it was opened.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// When fewer bytes are there.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::{Contents, ExeFile};

    /// A file that is overwritten in place, with its time of modification set back, holds other contents; the
    /// file is the same.
    #[test]
    fn overwritten_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        fs::write(&path, "one").unwrap();
        let before = Contents::of(&path).unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        // The clock of a file system may be coarse.
        while Contents::of(&path).unwrap().changed == before.changed {
            fs::write(&path, "two").unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        }
        let after = Contents::of(&path).unwrap();
        assert_eq!(after.file, before.file);
        assert_ne!(after, before);
        assert_eq!(ExeFile::open(&path).unwrap().contents().unwrap(), after);
    }

    /// Removing the file of a running process makes it no other process.
    #[test]
    fn removed_while_it_runs() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("program"), folder.path().join("link"));
        fs::write(&path, "one").unwrap();
        fs::hard_link(&path, &other).unwrap();
        let before = Contents::of(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(Contents::of(&other).unwrap().file, before.file);
    }
}
