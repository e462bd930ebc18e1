//! What the kernel side of observer and user space share.
#![no_std]

pub mod abi;
