//! One pass over a target's `runtime.allgs`, read from outside with `process_vm_readv`.
//!
//! The target is never stopped, so nothing read here is one instant's state: what can't be right is
//! counted as torn and left out. Every length and pointer is the target's word and bounded.

mod ages;
mod batch;
pub mod census;
pub mod descriptors;
mod fields;
mod known_stacks;
pub mod labels;
pub mod marks;
pub mod memory;
pub mod reader;
pub mod runtime;
pub mod sources;
mod stack_memory;
mod stack_pass;
pub mod stacks;
mod threads;
mod unwind;
pub mod wait_reasons;
mod yielding;
