//! Executables are read once per file; what was found, or why nothing was, is remembered.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};

use crate::discover::exe::{ExeFile, FileId};
use crate::gobin::GoBinary;
use crate::gobin::buildinfo::BuildInfo;
use crate::gobin::elf::Image;
use crate::gobin::error::Error;
use crate::gobin::source::Source;

/// More files than this are forgotten and read again.
const MAX_REMEMBERED: usize = 8192;

/// A Go executable and the open file that its names are looked up in.
#[derive(Debug)]
pub struct Executable {
    /// What was found in it.
    pub binary: Arc<GoBinary>,
    /// The file.
    pub file: Arc<ExeFile>,
}

/// The three answers about a file.
#[derive(Debug, Clone)]
pub enum Recognised {
    /// Not Go, or not even an executable.
    Foreign,
    /// Go.
    Go(Arc<Executable>),
    /// Go, and it can't be observed.
    Refused {
        /// Its Go version, where that much could be read.
        version: Option<String>,
        /// Why, in one sentence.
        reason: String,
    },
}

impl Source for ExeFile {
    fn size(&self) -> u64 {
        Self::size(self)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        Self::read_at(self, offset, buf)
    }
}

/// Reads an executable. For unit files of any kind this takes milliseconds.
#[must_use]
pub fn read(path: &Path) -> Recognised {
    let file = match ExeFile::open(path) {
        Ok(file) => Arc::new(file),
        // The process has ended, or is a kernel thread.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Recognised::Foreign,
        Err(error) => {
            return Recognised::Refused {
                version: None,
                reason: format!("the executable can't be opened: {error}"),
            };
        }
    };
    match GoBinary::analyse(&*file) {
        Ok(binary) => Recognised::Go(Arc::new(Executable { binary: Arc::new(binary), file })),
        Err(Error::NotGo(_)) => Recognised::Foreign,
        Err(error) => Recognised::Refused { version: version(&file, &error), reason: error.to_string() },
    }
}

/// The version of an executable that is refused for something else.
fn version(file: &ExeFile, error: &Error) -> Option<String> {
    if matches!(error, Error::OtherMachine(_)) {
        return None;
    }
    let image = Image::read(file).ok()?;
    BuildInfo::read(file, &image).ok().map(|build| build.version)
}

/// What is known by file. Open files are held only by the targets that run them.
#[derive(Debug, Default)]
pub struct Executables {
    known: HashMap<FileId, Remembered>,
}

#[derive(Debug)]
enum Remembered {
    Go(Weak<Executable>),
    Other(Recognised),
}

impl Executables {
    /// The answer about a file, if it is known.
    #[must_use]
    pub fn get(&self, file: &FileId) -> Option<Recognised> {
        match self.known.get(file)? {
            Remembered::Go(executable) => executable.upgrade().map(Recognised::Go),
            Remembered::Other(answer) => Some(answer.clone()),
        }
    }

    /// Remembers an answer.
    pub fn put(&mut self, file: FileId, answer: &Recognised) {
        if self.known.len() >= MAX_REMEMBERED {
            self.known.clear();
        }
        let remembered = match answer {
            Recognised::Go(executable) => Remembered::Go(Arc::downgrade(executable)),
            other => Remembered::Other(other.clone()),
        };
        self.known.insert(file, remembered);
    }
}
