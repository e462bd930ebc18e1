//! What is known of the targets, and the [`view`] that exporters read.

pub mod estimate;
pub mod finding;
pub mod history;
pub mod ledger;
pub mod on_cpu;
pub mod recent;
pub mod reconcile;
pub mod view;
pub mod waits;
