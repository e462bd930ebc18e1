//! What an executable tells.

pub mod sites;
