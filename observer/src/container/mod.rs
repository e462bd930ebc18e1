//! Who a cgroup belongs to.

mod unit;

use std::sync::Arc;

/// Who a cgroup belongs to; an empty part is `None` and gives no label.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// Kubernetes namespace.
    pub namespace: Option<Arc<str>>,
    /// Pod name.
    pub pod: Option<Arc<str>>,
    /// Container name.
    pub container: Option<Arc<str>>,
    /// systemd unit, or the cgroup's own name where systemd doesn't manage it.
    pub unit: Option<Arc<str>>,
}

/// The owner that a cgroup's path alone tells. The root group belongs to nobody.
#[must_use]
pub fn owner(path: &str) -> Owner {
    Owner { unit: unit::from_path(path).map(Arc::from), ..Owner::default() }
}
