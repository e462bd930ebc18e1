//! Which processes there are, which of them are Go programs, and who each of them is.

pub mod environment;
pub mod exe;
pub mod process;
