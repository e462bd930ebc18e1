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

/// Variables of the Go runtime. Outer `None`: the environment couldn't be read; inner: it isn't set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `GOMAXPROCS`.
    pub gomaxprocs: Option<Option<Box<str>>>,
    /// `GODEBUG`.
    pub godebug: Option<Option<Box<str>>>,
}

impl Environment {
    /// Reads it, which can hang with the process's memory.
    #[must_use]
    pub fn read(pid: u32) -> Self {
        let mut text = Vec::new();
        let read = File::open(format!("/proc/{pid}/environ"))
            .and_then(|file| file.take(MAX_TEXT).read_to_end(&mut text));
        // A text that is cut off may lack the variable; an empty one is a process that just ended.
        match read {
            Ok(length) if length > 0 && (length as u64) < MAX_TEXT => Self::parse(&text),
            _ => Self::default(),
        }
    }

    fn parse(text: &[u8]) -> Self {
        let value = |name: &str| {
            // Of several the runtime takes the first.
            let value = text
                .split(|&byte| byte == 0)
                .find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
            let value = value.filter(|value| value.len() <= MAX_VALUE);
            value.and_then(|value| std::str::from_utf8(value).ok()).map(Box::from)
        };
        Self { gomaxprocs: Some(value("GOMAXPROCS")), godebug: Some(value("GODEBUG")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first variable of the whole name counts, and nonsense is no value.
    #[test]
    fn finds_the_variable() {
        let value = |text: &[u8]| Environment::parse(text).gomaxprocs.unwrap();
        assert_eq!(value(b"A=GOMAXPROCS=1\0GOMAXPROCS=2\0GOMAXPROCS=3\0").as_deref(), Some("2"));
        assert_eq!(value(b"XGOMAXPROCS=2\0PATH=/\0"), None);
        assert_eq!(value(&[b"GOMAXPROCS=".as_slice(), &[b'1'; 2000]].concat()), None);
        assert_eq!(value(b"GOMAXPROCS=\xff\0"), None);
    }

    /// A live process's environment can be read; that of one that doesn't exist is unknown.
    #[test]
    fn reads_a_process() {
        assert!(Environment::read(std::process::id()).gomaxprocs.is_some());
        assert_eq!(Environment::read(u32::MAX), Environment::default());
    }
}
