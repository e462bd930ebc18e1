//! Container ids and pod uids in the names of cgroups.

use super::Runtime;

/// Digits of the ids that containerd (for Kubernetes), CRI-O, Docker and Podman give.
const ID_DIGITS: usize = 64;
/// Processes that keep watch over a container are beside it, not in it.
const MONITOR: &str = "conmon";

/// The container that one part of a path names, and who runs it.
pub(super) fn container(part: &str) -> Option<(&str, Runtime)> {
    // runc, told a name for systemd where cgroups are made as files: `slice:prefix:id`.
    if let Some((rest, id)) = part.rsplit_once(':') {
        let prefix = rest.rsplit_once(':').map_or(rest, |(_, prefix)| prefix);
        return is_id(id).then(|| (id, runtime(prefix)));
    }
    let name = part.strip_suffix(".scope").unwrap_or(part);
    match name.rsplit_once('-') {
        Some((prefix, id)) => (is_id(id) && !prefix.ends_with(MONITOR)).then(|| (id, runtime(prefix))),
        None => is_id(name).then_some((name, Runtime::Unknown)),
    }
}

fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn runtime(prefix: &str) -> Runtime {
    match prefix {
        "cri-containerd" | "crio" => Runtime::Cri,
        "docker" => Runtime::Docker,
        _ if prefix.starts_with("libpod") => Runtime::Podman,
        _ => Runtime::Unknown,
    }
}

/// The pod that one part of a path names: `pod<uid>`, `kubepods-burstable-pod<uid>.slice`, also before `:`.
pub(super) fn pod_uid(part: &str) -> Option<String> {
    let part = part.split(':').next().unwrap_or_default();
    let uid = match part.strip_suffix(".slice") {
        Some(slice) => slice.strip_prefix("kubepods").or_else(|| slice.strip_prefix("kubelet-kubepods"))?,
        None => part,
    };
    let uid = match uid.rsplit_once("-pod") {
        Some((_, uid)) => uid,
        None => uid.strip_prefix("pod")?,
    };
    // systemd takes `-` for a level of slices.
    let uid = uid.replace('_', "-");
    let plain = uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    (plain && (16..=64).contains(&uid.len())).then_some(uid)
}
