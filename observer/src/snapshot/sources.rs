//! Who chose the runtime's settings: the values in force compared with what the environment said at the start.

use super::runtime::Settings;
use crate::discover::environment::{Environment, debug_setting};
use crate::gobin::GoBinary;

/// The first minor version of Go 1 whose default GOMAXPROCS follows the cgroup's CPU limit.
const AWARE: u32 = 25;
/// GOGC where nobody chooses it.
const DEFAULT_GOGC: i32 = 100;

/// Who chose a setting of the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The runtime itself.
    Default,
    /// The variable of that name in the environment.
    Environment,
    /// A call in the program.
    Call,
}

impl Source {
    /// The source's name in JSON and evidence.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Environment => "environment",
            Self::Call => "call",
        }
    }
}

/// Whether the build has GOMAXPROCS follow the CPU limit; the environment may change that.
pub(super) fn aware(binary: &GoBinary) -> bool {
    let debug = binary.build.setting("DefaultGODEBUG").unwrap_or_default();
    let setting = debug_setting(debug, "containermaxprocs");
    binary.version.minor >= AWARE && setting != Some("0")
}

impl Settings {
    /// Tells who chose each setting, as far as that can be told without the environment if it couldn't be read.
    /// A call that repeats what the environment says looks like the environment.
    pub fn attribute(&mut self, environment: Option<&Environment>) {
        let Some(environment) = environment else {
            self.gomaxprocs_source = self.gomaxprocs_set.filter(|set| !set).map(|_| Source::Default);
            return;
        };
        match environment.debug("containermaxprocs") {
            Some("0") => self.container_aware = false,
            // Only runtimes that know the setting note who set GOMAXPROCS.
            Some(_) => self.container_aware = self.container_aware || self.gomaxprocs_set.is_some(),
            None => {}
        }
        self.gomaxprocs_source = self.gomaxprocs.and_then(|procs| self.chose_procs(procs, environment));
        self.gogc_source = self.gogc_percent.map(|percent| chose_gogc(percent, environment));
        // Both settings are read at once: where one is known, no limit means that there is none.
        self.gomemlimit_source =
            self.gogc_percent.and_then(|_| chose_limit(self.gomemlimit_bytes, environment));
    }

    /// Before Go 1.25 a call and a default that has outlived a change of the affinity can't be told apart
    /// without a variable in the environment.
    fn chose_procs(&self, procs: u32, environment: &Environment) -> Option<Source> {
        if self.gomaxprocs_set == Some(false) {
            return Some(Source::Default);
        }
        let wanted = environment.gomaxprocs.as_deref().and_then(|text| text.parse::<u32>().ok());
        match wanted.filter(|wanted| *wanted > 0) {
            Some(wanted) if wanted == procs => Some(Source::Environment),
            Some(_) => Some(Source::Call),
            None => self.gomaxprocs_set.filter(|set| *set).map(|_| Source::Call),
        }
    }
}

/// `readGOGC` in `runtime/mgcpacer.go`: a text that is no number is not there.
fn chose_gogc(percent: i32, environment: &Environment) -> Source {
    let wanted = match environment.gogc.as_deref() {
        Some("off") => Some(-1),
        Some(text) => text.parse::<i32>().ok().map(|wanted| wanted.max(-1)),
        None => None,
    };
    match wanted {
        Some(wanted) if wanted == percent => Source::Environment,
        None if percent == DEFAULT_GOGC => Source::Default,
        _ => Source::Call,
    }
}

fn chose_limit(limit: Option<u64>, environment: &Environment) -> Option<Source> {
    let wanted = match environment.gomemlimit.as_deref() {
        None | Some("") => return Some(if limit.is_none() { Source::Default } else { Source::Call }),
        Some("off") => None,
        // The runtime ends at start-up when it doesn't understand the text.
        Some(text) => Some(byte_count(text)?),
    };
    Some(if wanted == limit { Source::Environment } else { Source::Call })
}

/// `parseByteCount` in `runtime/string.go`.
fn byte_count(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each way in which GOMAXPROCS can have come about, and the one that can't be told.
    #[test]
    fn gomaxprocs_has_a_source() {
        let source_of = |set: Option<bool>, variable: Option<Option<&str>>| {
            let mut settings = Settings { gomaxprocs: Some(4), gomaxprocs_set: set, ..Settings::default() };
            let gomaxprocs = variable.map(|text| text.map(Into::into));
            let environment =
                gomaxprocs.map(|gomaxprocs| Environment { gomaxprocs, ..Environment::default() });
            settings.attribute(environment.as_ref());
            settings.gomaxprocs_source
        };
        assert_eq!(source_of(Some(false), None), Some(Source::Default));
        assert_eq!(source_of(Some(false), Some(None)), Some(Source::Default));
        assert_eq!(source_of(Some(true), Some(Some("4"))), Some(Source::Environment));
        assert_eq!(source_of(Some(true), Some(Some("8"))), Some(Source::Call));
        assert_eq!(source_of(Some(true), Some(None)), Some(Source::Call));
        assert_eq!(source_of(Some(true), None), None, "the environment couldn't be read");
        assert_eq!(source_of(None, Some(Some("4"))), Some(Source::Environment));
        assert_eq!(source_of(None, Some(None)), None, "before Go 1.25");
    }

    /// GOGC and GOMEMLIMIT: in force as the environment said, by default, or by a call since.
    #[test]
    fn gc_settings_have_a_source() {
        let sources = |percent, limit, gogc: Option<&str>, gomemlimit: Option<&str>| {
            let mut settings =
                Settings { gogc_percent: Some(percent), gomemlimit_bytes: limit, ..Settings::default() };
            settings.attribute(Some(&Environment {
                gogc: gogc.map(Into::into),
                gomemlimit: gomemlimit.map(Into::into),
                ..Environment::default()
            }));
            (settings.gogc_source, settings.gomemlimit_source)
        };
        let both = |source| (Some(source), Some(source));
        assert_eq!(sources(100, None, None, None), both(Source::Default));
        assert_eq!(sources(-1, Some(1 << 30), Some("off"), Some("1GiB")), both(Source::Environment));
        assert_eq!(sources(50, Some(1 << 29), Some("100"), Some("1GiB")), both(Source::Call));
        assert_eq!(sources(50, Some(1 << 29), None, None), both(Source::Call));
        assert_eq!(
            sources(100, None, Some("nonsense"), Some("off")),
            (Some(Source::Default), Some(Source::Environment))
        );
    }

    /// What is written with a unit, and what the runtime wouldn't understand.
    #[test]
    fn byte_counts_are_read_as_by_go() {
        for (text, expected) in [
            ("123", Some(123)),
            ("5B", Some(5)),
            ("1536MiB", Some(1536 << 20)),
            ("2TiB", Some(2 << 40)),
            ("1GB", None),
            ("MiB", None),
            ("99999999999TiB", None),
        ] {
            assert_eq!(byte_count(text), expected, "{text}");
        }
    }

    /// GODEBUG turns the awareness of CPU limits off, and on again.
    #[test]
    fn godebug_changes_awareness() {
        let aware = |build: bool, debug: Option<&str>| {
            let mut settings =
                Settings { container_aware: build, gomaxprocs_set: Some(false), ..Settings::default() };
            let environment = Environment {
                godebug: debug.map(|value| format!("containermaxprocs={value}").into()),
                ..Environment::default()
            };
            settings.attribute(Some(&environment));
            settings.container_aware
        };
        assert!(aware(true, None) && !aware(true, Some("0")));
        assert!(aware(false, Some("1")) && !aware(false, None));
    }
}
