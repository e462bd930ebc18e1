//! What the environment said when a process started.
//!
//! The kernel reads it from the process's memory, which can hang: never on a path that others wait for. Only
//! the variables named here are looked at; nothing else of it is kept or shown.

use std::fs::File;
use std::io::Read;

/// Longest environment that is read, in bytes.
const MAX_TEXT: u64 = 1 << 20;
/// Longest value that is kept, in bytes.
const MAX_VALUE: usize = 1024;

/// Variables of the Go runtime. `None` = not set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `GOMAXPROCS`.
    pub gomaxprocs: Option<Box<str>>,
    /// `GOGC`.
    pub gogc: Option<Box<str>>,
    /// `GOMEMLIMIT`.
    pub gomemlimit: Option<Box<str>>,
    /// `GODEBUG`.
    pub godebug: Option<Box<str>>,
}

impl Environment {
    /// Reads it, which can hang with the process's memory. `None` when it can't be read, or not all of it.
    #[must_use]
    pub fn read(pid: u32) -> Option<Self> {
        let mut text = Vec::new();
        let read = File::open(format!("/proc/{pid}/environ"))
            .and_then(|file| file.take(MAX_TEXT).read_to_end(&mut text));
        // A text that is cut off may lack the variable; an empty one is a process that just ended.
        match read {
            Ok(length) if length > 0 && (length as u64) < MAX_TEXT => Some(Self::parse(&text)),
            _ => None,
        }
    }

    /// A setting of `GODEBUG`; of several the last counts.
    #[must_use]
    pub fn debug(&self, name: &str) -> Option<&str> {
        debug_setting(self.godebug.as_deref()?, name)
    }

    fn parse(text: &[u8]) -> Self {
        // Of several the runtime takes the first.
        let find =
            |name: &[u8]| text.split(|&byte| byte == 0).find_map(|variable| variable.strip_prefix(name));
        Self {
            gomaxprocs: find(b"GOMAXPROCS=").and_then(value),
            gogc: find(b"GOGC=").and_then(value),
            gomemlimit: find(b"GOMEMLIMIT=").and_then(value),
            godebug: find(b"GODEBUG=").and_then(value),
        }
    }
}

/// A setting in a list as `GODEBUG` and build settings hold it; of several the last counts.
#[must_use]
pub fn debug_setting<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    list.rsplit(',').find_map(|setting| setting.strip_prefix(name)?.strip_prefix('='))
}

/// Nothing that the runtime understands is longer, or not ASCII.
fn value(bytes: &[u8]) -> Option<Box<str>> {
    std::str::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_VALUE && text.is_ascii()).map(Box::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of one setting of GODEBUG the last counts.
    #[test]
    fn finds_settings_of_godebug() {
        let text = b"GODEBUG=containermaxprocs=0,x=1,containermaxprocs=1\0GOGC=off\0GOMEMLIMIT=1GiB\0";
        let found = Environment::parse(text);
        assert_eq!((found.debug("containermaxprocs"), found.gogc.as_deref()), (Some("1"), Some("off")));
        assert_eq!((found.gomemlimit.as_deref(), found.gomaxprocs), (Some("1GiB"), None));
    }

    /// The first variable of the whole name counts, and nonsense is no value.
    #[test]
    fn finds_the_variable() {
        let value = |text: &[u8]| Environment::parse(text).gomaxprocs;
        assert_eq!(value(b"A=GOMAXPROCS=1\0GOMAXPROCS=2\0GOMAXPROCS=3\0").as_deref(), Some("2"));
        assert_eq!(value(b"XGOMAXPROCS=2\0PATH=/\0"), None);
        assert_eq!(value(&[b"GOMAXPROCS=".as_slice(), &[b'1'; 2000]].concat()), None);
        assert_eq!(value(b"GOMAXPROCS=\xff\0"), None);
    }

    /// A live process's environment can be read; that of one that doesn't exist is unknown.
    #[test]
    fn reads_a_process() {
        assert!(Environment::read(std::process::id()).is_some());
        assert_eq!(Environment::read(u32::MAX), None);
    }
}
