//! Executables are read once per file; what was found, or why nothing was, is remembered.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};

use super::worker::Late;
use crate::discover::exe::{Contents, ExeFile};
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

/// What was found out about the file of a process.
#[derive(Debug)]
pub(super) struct Examined {
    /// The file that was opened; `None` if none could be.
    pub(super) contents: Option<Contents>,
    /// The answer.
    pub(super) answer: Recognised,
    /// Whether the answer would be the same next time. An I/O error may pass.
    pub(super) lasting: bool,
}

/// Reads an executable. This takes milliseconds.
#[must_use]
pub fn read(path: &Path) -> Recognised {
    examine(path).answer
}

/// Reads an executable, and says which it was: the process may run another one by now.
pub(super) fn examine(path: &Path) -> Examined {
    let opened = ExeFile::open(path).and_then(|file| Ok((file.contents()?, file)));
    let (contents, file) = match opened {
        Ok((contents, file)) => (contents, Arc::new(file)),
        // The process has ended, or is a kernel thread.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Examined { contents: None, answer: Recognised::Foreign, lasting: false };
        }
        Err(error) => {
            let reason = format!("the executable can't be opened: {error}");
            let answer = Recognised::Refused { version: None, reason };
            return Examined { contents: None, answer, lasting: false };
        }
    };
    let result = GoBinary::analyse(&*file);
    let lasting = !matches!(result, Err(Error::Io(_)));
    let answer = match result {
        Ok(binary) => Recognised::Go(Arc::new(Executable { binary: Arc::new(binary), file })),
        Err(Error::NotGo(_)) => Recognised::Foreign,
        Err(error) => Recognised::Refused { version: version(&file, &error), reason: error.to_string() },
    };
    Examined { contents: Some(contents), answer, lasting }
}

/// The version of an executable that is refused for something else; `None` if it may not even be Go's.
fn version(file: &ExeFile, error: &Error) -> Option<String> {
    if matches!(error, Error::OtherMachine(_)) {
        return None;
    }
    let image = Image::read(file).ok()?;
    match BuildInfo::read(file, &image) {
        Ok(build) => Some(build.version),
        Err(Error::Unsupported(_)) => Some("before go1.18".to_owned()),
        Err(_) => None,
    }
}

/// What is known by file. Open files are held only by the targets that run them.
#[derive(Default)]
pub struct Executables {
    known: HashMap<Contents, Remembered>,
}

enum Remembered {
    Go(Weak<Executable>),
    Other(Recognised),
    /// Someone still reads it.
    Late(Late<Examined>),
}

/// What is known about one file.
pub(super) enum Known {
    /// Nothing.
    No,
    /// The answer.
    Yes(Recognised),
    /// It is being read, and takes long.
    Late,
}

impl Executables {
    /// What is known about a file. Never waits.
    pub(super) fn get(&mut self, contents: &Contents) -> Known {
        match self.known.get(contents) {
            None => Known::No,
            Some(Remembered::Go(executable)) => {
                executable.upgrade().map_or(Known::No, |executable| Known::Yes(Recognised::Go(executable)))
            }
            Some(Remembered::Other(answer)) => Known::Yes(answer.clone()),
            Some(Remembered::Late(late)) => match late.poll() {
                Ok(None) => Known::Late,
                Ok(Some(examined)) => {
                    self.known.remove(contents);
                    self.put(&examined);
                    if examined.contents.as_ref() == Some(contents) && examined.lasting {
                        Known::Yes(examined.answer)
                    } else {
                        Known::No
                    }
                }
                Err(()) => {
                    self.known.remove(contents);
                    Known::No
                }
            },
        }
    }

    /// Remembers an answer that will stay the same.
    pub(super) fn put(&mut self, examined: &Examined) {
        let Some(contents) = examined.contents.filter(|_| examined.lasting) else { return };
        let remembered = match &examined.answer {
            Recognised::Go(executable) => Remembered::Go(Arc::downgrade(executable)),
            other => Remembered::Other(other.clone()),
        };
        self.remember(contents, remembered);
    }

    /// Remembers that a file takes long, so that nobody else begins to read it.
    pub(super) fn put_late(&mut self, contents: Contents, late: Late<Examined>) {
        self.remember(contents, Remembered::Late(late));
    }

    fn remember(&mut self, contents: Contents, remembered: Remembered) {
        if self.known.len() >= MAX_REMEMBERED {
            self.known.clear();
        }
        self.known.insert(contents, remembered);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::super::worker::{Failure, Worker};
    use super::{Contents, Examined, Executables, Known, Recognised, examine};

    fn foreign(contents: Contents, lasting: bool) -> Examined {
        Examined { contents: Some(contents), answer: Recognised::Foreign, lasting }
    }

    fn contents() -> [Contents; 2] {
        let folder = tempfile::tempdir().unwrap();
        ["a", "b"].map(|name| {
            let path = folder.path().join(name);
            std::fs::write(&path, name).unwrap();
            Contents::of(&path).unwrap()
        })
    }

    /// A process that ended before its file was opened says nothing about the file, and an answer that came
    /// of an I/O error is asked for again.
    #[test]
    fn what_may_pass_is_not_remembered() {
        let gone = examine(Path::new("/proc/0/exe"));
        assert!(gone.contents.is_none() && !gone.lasting);
        let [file, _] = contents();
        let mut executables = Executables::default();
        executables.put(&gone);
        executables.put(&foreign(file, false));
        assert!(matches!(executables.get(&file), Known::No));
        executables.put(&foreign(file, true));
        assert!(matches!(executables.get(&file), Known::Yes(Recognised::Foreign)));
    }

    /// A file that is read for long is read by one thread only, and its answer is used when it comes; unless
    /// it is about another file, which the process had executed meanwhile.
    #[test]
    fn a_late_answer() {
        for other in [false, true] {
            let [file, another] = contents();
            let mut executables = Executables::default();
            let (release, gate) = mpsc::channel::<()>();
            let answer = foreign(if other { another } else { file }, true);
            let late = Worker::new().run(Duration::from_millis(10), move || {
                gate.recv().ok();
                answer
            });
            let Err(Failure::Late(late)) = late else { panic!("it ended by itself") };
            executables.put_late(file, late);
            assert!(matches!(executables.get(&file), Known::Late));
            release.send(()).unwrap();
            let known = loop {
                match executables.get(&file) {
                    Known::Late => std::thread::yield_now(),
                    known => break known,
                }
            };
            assert_eq!(matches!(known, Known::Yes(Recognised::Foreign)), !other);
            assert_eq!(matches!(executables.get(&another), Known::Yes(_)), other);
        }
    }
}
