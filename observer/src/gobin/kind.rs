//! What the runtime knows a function as (`_func.funcID`, `src/internal/abi/symtab.go`): tracebacks treat
//! some functions specially. The numbers move when a version adds or drops a function.

use super::version::GoVersion;

/// A function's part in tracebacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No special one.
    Ordinary,
    /// The compiler made it; hidden, unless it panics itself.
    Wrapper,
    /// Begins a panic: a wrapper that calls it is shown.
    Panic,
    /// The kernel interrupted what is below it, by a fault: a panic too.
    FaultPanic,
    /// Something interrupted what is below it between two instructions.
    Interrupt,
    /// C code called into Go.
    CgoCallback,
    /// Runs finalizers or cleanups, and is shown for that.
    Callbacks,
}

impl Kind {
    /// What `id` means in a Go version.
    #[must_use]
    pub fn of(version: GoVersion, id: u8) -> Self {
        let ids = Ids::of(version);
        match id {
            0 => Self::Ordinary,
            3 => Self::Interrupt,
            4 => Self::CgoCallback,
            _ if id == ids.wrapper => Self::Wrapper,
            _ if id == ids.gopanic || id == ids.panicwrap => Self::Panic,
            _ if id == ids.sigpanic => Self::FaultPanic,
            _ if id == ids.debug_call => Self::Interrupt,
            _ if ids.callbacks.contains(&id) => Self::Callbacks,
            _ => Self::Ordinary,
        }
    }

    /// Whether what is below it was about to run its program counter, rather than to return to it.
    #[must_use]
    pub const fn interrupts(self) -> bool {
        matches!(self, Self::FaultPanic | Self::Interrupt)
    }

    /// Whether a wrapper that calls it is shown (`runtime.elideWrapperCalling`).
    #[must_use]
    pub const fn shows_wrapper(self) -> bool {
        matches!(self, Self::Panic | Self::FaultPanic)
    }
}

struct Ids {
    debug_call: u8,
    gopanic: u8,
    panicwrap: u8,
    sigpanic: u8,
    wrapper: u8,
    callbacks: &'static [u8],
}

impl Ids {
    const fn of(version: GoVersion) -> Self {
        match version.minor {
            ..=21 => {
                Self { debug_call: 5, gopanic: 9, panicwrap: 14, sigpanic: 18, wrapper: 21, callbacks: &[] }
            }
            22..=24 => {
                Self { debug_call: 6, gopanic: 10, panicwrap: 15, sigpanic: 19, wrapper: 22, callbacks: &[] }
            }
            _ => Self {
                debug_call: 6,
                gopanic: 10,
                panicwrap: 15,
                sigpanic: 20,
                wrapper: 23,
                callbacks: &[18, 19],
            },
        }
    }
}

/// `funcID_wrapper`: a function that the compiler made, hidden in tracebacks.
#[must_use]
pub const fn wrapper_id(version: GoVersion) -> u8 {
    Ids::of(version).wrapper
}

#[cfg(test)]
mod tests {
    use super::{GoVersion, Kind, wrapper_id};

    /// Numbers move between versions, and each is known by what the versions' own tables say.
    #[test]
    fn numbers_are_those_of_the_version() {
        let kind = |minor, id| Kind::of(GoVersion { minor, patch: 0 }, id);
        assert_eq!([kind(19, 18), kind(22, 19), kind(25, 20)], [Kind::FaultPanic; 3]);
        assert_eq!([kind(21, 9), kind(24, 10), kind(27, 15)], [Kind::Panic; 3]);
        assert_eq!([kind(19, 3), kind(21, 5), kind(22, 6)], [Kind::Interrupt; 3]);
        assert_eq!([kind(24, 18), kind(25, 17), kind(19, 19)], [Kind::Ordinary; 3]);
        assert_eq!([kind(25, 18), kind(27, 19)], [Kind::Callbacks; 2]);
        for minor in [19, 21, 22, 24, 25, 27] {
            assert_eq!(kind(minor, wrapper_id(GoVersion { minor, patch: 0 })), Kind::Wrapper);
        }
    }
}
