//! One file per subject; each `pub fn` with a program attribute is one program.

mod goroutine;
mod loss;
mod process;
