//! The executable of a process, read through `/proc/PID/exe`: the kernel's own link works across mount
//! namespaces and for deleted files.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Identity of an executable's contents, as far as the kernel tells it cheaply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
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
        Ok(Self::from_metadata(&std::fs::metadata(path)?))
    }

    fn from_metadata(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
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

    /// Its identity.
    ///
    /// # Errors
    /// When it can't be looked at.
    pub fn id(&self) -> io::Result<FileId> {
        Ok(FileId::from_metadata(&self.file.metadata()?))
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
