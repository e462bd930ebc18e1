//! Who a cgroup belongs to: a systemd unit, or a container with its pod.
//!
//! The path of a cgroup tells the container's id; the names behind an id are asked for at the container
//! runtime's socket on this machine, never at the cluster. Only `client.rs`, `lookup.rs`, `check.rs` and `sockets.rs` do IO.

mod cache;
mod check;
mod client;
mod group;
mod id;
mod lookup;
mod messages;
mod names;
mod sockets;
mod unit;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use cache::LookupCounts;
pub use check::{RuntimeSocket, runtimes};
pub use group::{Group, Runtime, group};
pub use names::{NameOptions, Names, Naming};

/// Who a cgroup belongs to; an empty part is `None` and gives no label.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// Kubernetes namespace.
    pub namespace: Option<Arc<str>>,
    /// Pod name.
    pub pod: Option<Arc<str>>,
    /// Container name; the beginning of its id where nobody knows a name.
    pub container: Option<Arc<str>>,
    /// systemd unit, or the cgroup's own name where systemd doesn't manage it. In a container only a unit of
    /// the container's own systemd.
    pub unit: Option<Arc<str>>,
}

impl Owner {
    /// Whom workloads belong to that have no series of their own.
    #[must_use]
    pub fn other() -> Self {
        Self { unit: Some("other".into()), ..Self::default() }
    }
}

/// What the container runtime calls a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerName {
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// Pod name.
    pub pod: Arc<str>,
    /// Container name; `None` for the pod's own sandbox.
    pub container: Option<Arc<str>>,
}
