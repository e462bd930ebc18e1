//! Executables and memory that lie: whatever they hold, the answer is a value or a named error, reached with
//! bounded reading.

mod counted;
mod files;
mod goroutines;
mod memory;
mod mutations;
mod random;
mod synthetic;
