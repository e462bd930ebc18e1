//! One file per subject; each `pub fn` with a program attribute is one program.

mod callsite;
mod context;
mod goroutine;
mod loss;
mod process;
mod sample;
mod task;
mod wait;
