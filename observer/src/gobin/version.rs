//! Go versions.

use std::fmt;

/// The part of a Go version string that decides layouts: `go1.MINOR[.PATCH]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoVersion {
    /// 24 in `go1.24.11`.
    pub minor: u32,
    /// 11 in `go1.24.11`; 0 where there is none.
    pub patch: u32,
}

impl GoVersion {
    /// The oldest version that is supported: the first whose layouts were measured.
    pub const OLDEST: Self = Self { minor: 19, patch: 0 };

    /// Reads `go1.24.11`, `go1.26.6 X:nogreenteagc`, `devel go1.27-0a1b2c …`, `go1.25rc1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let start = text.find("go1.")? + "go1.".len();
        let digits = |text: &str| -> Option<(u32, usize)> {
            let len = text.bytes().take_while(u8::is_ascii_digit).count();
            Some((text[..len].parse().ok()?, len))
        };
        let (minor, len) = digits(&text[start..])?;
        let rest = &text[start + len..];
        let patch = rest.strip_prefix('.').and_then(digits).map_or(0, |(patch, _)| patch);
        Some(Self { minor, patch })
    }
}

impl fmt::Display for GoVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "go1.{}.{}", self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::GoVersion;

    /// Vendors, experiments and pre-releases decorate the version in many ways; the number is found in all.
    #[test]
    fn decorated_versions() {
        for (text, minor, patch) in [
            ("go1.24.11", 24, 11),
            ("go1.21", 21, 0),
            ("go1.26.6 X:nogreenteagc", 26, 6),
            ("devel go1.28-0a1b2c3 Tue Nov 3", 28, 0),
            ("go1.25rc1", 25, 0),
            ("go1.22.4-microsoft", 22, 4),
        ] {
            assert_eq!(GoVersion::parse(text), Some(GoVersion { minor, patch }), "{text}");
        }
        assert_eq!(GoVersion::parse("gccgo 12"), None);
        assert_eq!(GoVersion::parse("go1.99999999999"), None);
    }
}
