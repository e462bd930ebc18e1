//! What was decided for one group of probes in one target.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

/// Where a group stands. Lengths are of the last window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It was not in the target long enough to know what it costs.
    Trial,
    /// It stays.
    On,
    /// It comes and goes.
    Windows {
        /// How long it was in.
        length: Duration,
        /// From one window to the next.
        period: Duration,
    },
    /// It cost so much that it will be away for long.
    Off {
        /// When it is tried again; [`Duration::MAX`] if never.
        again: Duration,
    },
}

impl Decision {
    /// Names of all decisions in metrics and JSON.
    pub const NAMES: [&'static str; 4] = ["trial", "on", "windows", "off"];

    /// Its name in metrics and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trial => "trial",
            Self::On => "on",
            Self::Windows { .. } => "windows",
            Self::Off { .. } => "off",
        }
    }
}

impl Display for Decision {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trial => f.write_str("tried"),
            Self::On => f.write_str("always on"),
            Self::Windows { length, period } => {
                write!(f, "on for {} ms every {:.1} s", length.as_millis(), period.as_secs_f64())
            }
            Self::Off { again: Duration::MAX } => f.write_str("off"),
            Self::Off { again } => write!(f, "off for {:.0} s", again.as_secs_f64()),
        }
    }
}
