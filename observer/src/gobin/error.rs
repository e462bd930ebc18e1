//! Why an executable can't be used.

/// One variant per way in which an executable fails us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No ELF file, or an ELF file that Go didn't link. The only answer that means "not mine".
    #[error("not a Go executable: {0}")]
    NotGo(&'static str),
    /// A Go executable for another machine.
    #[error("{0} is not supported: observer reads 64-bit x86 executables (GOARCH=amd64)")]
    OtherMachine(&'static str),
    /// A Go executable whose Go version can't be observed.
    #[error("{0}")]
    Unsupported(String),
    /// A structure that can't be right.
    #[error("the executable is malformed: {what} at offset {at:#x}")]
    Malformed {
        /// Which structure.
        what: &'static str,
        /// Where, in bytes from the start of the file.
        at: u64,
    },
    /// The file ends too early.
    #[error("the executable is truncated: it ends before offset {at:#x}")]
    Truncated {
        /// Where more bytes should be.
        at: u64,
    },
    /// Reading on would take out of proportion long: its structures overlap, or refer to each other in circles.
    #[error("the executable is malformed: its structures need more reading than {limit} bytes")]
    Budget {
        /// Bytes that were allowed.
        limit: u64,
    },
    /// The file can't be read.
    #[error("the executable can't be read: {0}")]
    Io(String),
}

/// Result of this stage.
pub type Result<T> = std::result::Result<T, Error>;
