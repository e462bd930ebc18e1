//! Tests for guests that `cargo xtask vm` boots: kernels other than this machine's, where the unified cgroup
//! hierarchy has every controller, and where limits, kills and refusals hurt nobody. Other machines ignore them.

mod cgroups;
mod check;
mod doctor;
mod probes;
mod snapshots;
mod support;
mod unit;
mod without_pressure;
