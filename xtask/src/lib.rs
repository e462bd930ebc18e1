//! What the tests share with `cargo xtask`: writing container images.

pub mod image;
