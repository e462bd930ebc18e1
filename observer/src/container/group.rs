//! What the path of a cgroup tells.

use std::sync::Arc;

use super::{ContainerName, Owner, id, unit};

/// Digits of an id that are shown where a container has no name, as `docker ps` does.
const SHORT_ID: usize = 12;

/// What the path of a cgroup tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Group {
    /// The innermost container that the group is of or in.
    pub container: Option<Container>,
    /// The innermost systemd unit, below the container if there is one.
    pub unit: Option<Arc<str>>,
    /// The innermost systemd slice around it.
    pub slice: Option<Arc<str>>,
}

/// A container as a path names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Container {
    /// Its id: 64 hexadecimal digits.
    pub id: Arc<str>,
    /// Uid of its pod, where the path has it.
    pub pod_uid: Option<Arc<str>>,
    /// Who runs it.
    pub runtime: Runtime,
}

/// Who runs a container, as far as the path tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// containerd or CRI-O, for Kubernetes.
    Cri,
    /// Docker.
    Docker,
    /// Podman.
    Podman,
    /// The path has an id and nothing else.
    Unknown,
}

impl Container {
    /// Whether the container runtime's CRI socket may know it.
    #[must_use]
    pub fn is_known_to_cri(&self) -> bool {
        self.pod_uid.is_some() || matches!(self.runtime, Runtime::Cri | Runtime::Unknown)
    }
}

impl Group {
    /// Who it belongs to, with the container's name if that is known.
    #[must_use]
    pub fn owner(&self, name: Option<&ContainerName>) -> Owner {
        let unit = self.unit.clone();
        match (&self.container, name) {
            (None, _) => Owner { unit, ..Owner::default() },
            (Some(_), Some(name)) => Owner {
                namespace: Some(name.namespace.clone()),
                pod: Some(name.pod.clone()),
                container: name.container.clone(),
                unit,
            },
            (Some(container), None) => {
                Owner { container: Some(container.id[..SHORT_ID].into()), unit, ..Owner::default() }
            }
        }
    }
}

/// Reads a cgroup's path: of any hierarchy, any driver, also from within a cgroup namespace.
#[must_use]
pub fn group(path: &str) -> Group {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != "..").collect();
    let found = parts.iter().enumerate().rev().find_map(|(at, part)| Some((at, id::container(part)?)));
    let slice = parts.iter().rev().find_map(|part| unit::slice(part)).map(Arc::from);
    let Some((at, (id, named))) = found else {
        return Group { container: None, unit: unit::of_host(&parts).map(Arc::from), slice };
    };
    let pod_uid = parts[..=at].iter().rev().find_map(|part| id::pod_uid(part));
    let runtime = match named {
        Runtime::Unknown => around(&parts[..at]),
        named => named,
    };
    Group {
        container: Some(Container { id: id.into(), pod_uid: pod_uid.map(Arc::from), runtime }),
        unit: unit::innermost(&parts[at + 1..]).map(Arc::from),
        slice,
    }
}

/// Who runs the containers right below a group.
fn around(parents: &[&str]) -> Runtime {
    match parents.last() {
        Some(&"docker") => Runtime::Docker,
        Some(parent) if parent.starts_with("libpod") => Runtime::Podman,
        _ => Runtime::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
    const UID: &str = "8f0a1c2e-1b3d-4c5e-9f70-a1b2c3d4e5f6";
    const UID_: &str = "8f0a1c2e_1b3d_4c5e_9f70_a1b2c3d4e5f6";

    fn check(path: &str, runtime: Runtime, pod_uid: Option<&str>, unit: Option<&str>) {
        let path = path.replace("ID", ID).replace("UID_", UID_).replace("UUID", UID).replace("OTHER", OTHER);
        let group = group(&path);
        let container = group.container.unwrap_or_else(|| panic!("no container in {path}"));
        assert_eq!(&*container.id, ID, "{path}");
        assert_eq!(container.runtime, runtime, "{path}");
        assert_eq!(container.pod_uid.as_deref(), pod_uid, "{path}");
        assert_eq!(group.unit.as_deref(), unit, "{path}");
    }

    /// The layouts of containerd, CRI-O, Docker and Podman with both drivers, on v1 and v2.
    #[test]
    fn finds_containers() {
        let systemd =
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podPOD.slice".replace("POD", UID_);
        for (name, runtime) in [
            ("cri-containerd-ID.scope", Runtime::Cri),
            ("crio-ID.scope", Runtime::Cri),
            ("crio-ID.scope/container", Runtime::Cri),
            ("docker-ID.scope", Runtime::Docker),
        ] {
            check(&format!("{systemd}/{name}"), runtime, Some(UID), None);
        }
        let guaranteed = format!("/kubepods.slice/kubepods-pod{UID_}.slice/cri-containerd-ID.scope");
        check(&guaranteed, Runtime::Cri, Some(UID), None);
        check(&format!("/kubepods/besteffort/pod{UID}/ID"), Runtime::Unknown, Some(UID), None);
        check(&format!("/kubepods/pod{UID}/crio-ID"), Runtime::Cri, Some(UID), None);
        check(&format!("/../../pod{UID}/ID"), Runtime::Unknown, Some(UID), None);
        let mixed =
            format!("/system.slice/containerd.service/kubepods-burstable-pod{UID_}.slice:cri-containerd:ID");
        check(&mixed, Runtime::Cri, Some(UID), None);
        check("/system.slice:docker:ID", Runtime::Docker, None, None);
        check("/system.slice/docker-ID.scope", Runtime::Docker, None, None);
        check("/docker/ID", Runtime::Docker, None, None);
        check("/machine.slice/libpod-ID.scope", Runtime::Podman, None, None);
        check("/machine.slice/libpod-ID.scope/container", Runtime::Podman, None, None);
        check(
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
            Runtime::Podman,
            None,
            None,
        );
        check("/libpod_parent/libpod-ID", Runtime::Podman, None, None);
        check("/system.slice/web.service/libpod-payload-ID", Runtime::Podman, None, None);
        check("/k8s.io/ID", Runtime::Unknown, None, None);
        check("/system.slice/nerdctl-ID.scope", Runtime::Unknown, None, None);
    }

    /// A static pod's uid is a hash without dashes.
    #[test]
    fn finds_static_pods() {
        let uid = "d41d8cd98f00b204e9800998ecf8427e";
        check(&format!("/kubepods/burstable/pod{uid}/ID"), Runtime::Unknown, Some(uid), None);
    }

    /// Of nested containers the innermost counts, and units of a container's own systemd are its units.
    #[test]
    fn nested_containers() {
        let kind = format!(
            "/docker/OTHER/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID_}.slice/cri-containerd-ID.scope"
        );
        check(&kind, Runtime::Cri, Some(UID), None);
        check("/docker/ID/system.slice/nginx.service", Runtime::Docker, None, Some("nginx.service"));
        check("/system.slice/docker-ID.scope/init.scope", Runtime::Docker, None, Some("init.scope"));
    }

    /// What only looks like a container isn't one: monitors, short, long and upper-case ids.
    #[test]
    fn other_groups() {
        for (path, unit) in [
            (format!("/machine.slice/libpod-conmon-{ID}.scope"), format!("libpod-conmon-{ID}.scope")),
            (format!("/x/{}", &ID[1..]), ID[1..].to_owned()),
            (format!("/x/0{ID}"), format!("0{ID}")),
            (format!("/x/{}", ID.to_uppercase()), ID.to_uppercase()),
            ("/system.slice/nginx.service".to_owned(), "nginx.service".to_owned()),
        ] {
            let group = group(&path);
            assert_eq!((group.container, group.unit.as_deref()), (None, Some(&*unit)), "{path}");
        }
        assert_eq!(group("/"), Group::default());
        assert_eq!(group(""), Group::default());
    }

    /// The innermost slice is told, also of containers.
    #[test]
    fn slices() {
        for (path, slice) in [
            ("/system.slice/nginx.service", Some("system.slice")),
            ("/user.slice/user-1000.slice/session-1.scope", Some("user-1000.slice")),
            (&*format!("/machine.slice/libpod-{ID}.scope"), Some("machine.slice")),
            ("/docker/x", None),
        ] {
            assert_eq!(group(path).slice.as_deref(), slice, "{path}");
        }
    }

    /// A name replaces the id, and only that; without one the id's beginning tells containers apart.
    #[test]
    fn owners() {
        let group = group(&format!("/kubepods/pod{UID}/{ID}"));
        let name =
            ContainerName { namespace: "shop".into(), pod: "api-0".into(), container: Some("api".into()) };
        let named = group.owner(Some(&name));
        assert_eq!(named.namespace.as_deref(), Some("shop"));
        assert_eq!(named.pod.as_deref(), Some("api-0"));
        assert_eq!(named.container.as_deref(), Some("api"));
        assert_eq!(named.unit, None);
        let unnamed = group.owner(None);
        assert_eq!(unnamed, Owner { container: Some("0123456789ab".into()), ..Owner::default() });
    }
}
