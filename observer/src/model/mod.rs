//! What is known of the targets, and the [`view`] that exporters read.

pub mod view;
