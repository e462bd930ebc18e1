//! Hierarchies in folders laid out like the kernel's, and in the real kernel.

mod bad;
mod fake;
mod layouts;
mod memberships;
mod real;
mod scratch;
