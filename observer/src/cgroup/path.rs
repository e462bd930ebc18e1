//! Paths of groups as the kernel writes them, seen from the reader's cgroup namespace.

/// A group relative to the root of the reader's cgroup namespace: so many levels up, then down by name.
///
/// Both `/proc/PID/cgroup` and the root field of `mountinfo` are written this way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct GroupPath {
    /// Leading `..` components; 0 outside cgroup namespaces.
    pub(super) up: usize,
    /// The names below that.
    pub(super) names: Vec<Box<[u8]>>,
}

impl GroupPath {
    /// Parses `/a/b` or `/../../a`. `None` when it isn't absolute, or goes up after going down.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let mut path = Self::default();
        for part in text.strip_prefix(b"/")?.split(|&byte| byte == b'/') {
            match part {
                b"" if path.names.is_empty() => {}
                b".." if path.names.is_empty() => path.up += 1,
                b"" | b"." | b".." => return None,
                name => path.names.push(name.into()),
            }
        }
        Some(path)
    }

    /// Where this group lies below a mount of `root`, as `/a/b` (empty for the mount's top).
    ///
    /// `above` names the levels between the mount's top and the namespace's root, as far as they are known.
    /// `None` when the group isn't below that mount, or can't be told to be.
    pub(super) fn below(&self, root: &Self, above: &[Box<[u8]>]) -> Option<Box<[u8]>> {
        let missing = root.up.checked_sub(self.up)?;
        let all: Vec<_> = above.get(..missing)?.iter().chain(&self.names).collect();
        let top = root.names.len();
        if all.len() < top || all.iter().zip(&root.names).any(|(a, b)| *a != b) {
            return None;
        }
        Some(join(&all[top..]))
    }
}

/// `/a/b` for the names `a` and `b`; empty for none.
pub(super) fn join<N: AsRef<[u8]>>(names: &[N]) -> Box<[u8]> {
    names.iter().flat_map(|name| [b"/", name.as_ref()].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::GroupPath;

    fn below(path: &str, root: &str, above: &[&str]) -> Option<String> {
        let above: Vec<Box<[u8]>> = above.iter().map(|name| name.as_bytes().into()).collect();
        let (path, root) = (GroupPath::parse(path.as_bytes())?, GroupPath::parse(root.as_bytes())?);
        Some(String::from_utf8_lossy(&path.below(&root, &above)?).into_owned())
    }

    /// Without a namespace a group is where it says, less the part that the mount already is.
    #[test]
    fn strips_the_mounted_part() {
        assert_eq!(below("/", "/", &[]).as_deref(), Some(""));
        assert_eq!(below("/a/b", "/", &[]).as_deref(), Some("/a/b"));
        assert_eq!(below("/a/b", "/a", &[]).as_deref(), Some("/b"));
        assert_eq!(below("/ab", "/a", &[]), None);
        assert_eq!(below("/", "/a", &[]), None);
    }

    /// From inside a namespace the host's mount lies above, and the levels between must be known.
    #[test]
    fn finds_groups_around_a_namespace() {
        let above = ["pods", "one", "ctr"];
        assert_eq!(below("/../../two/x", "/../../..", &above).as_deref(), Some("/pods/two/x"));
        assert_eq!(below("/../../../init", "/../../..", &above).as_deref(), Some("/init"));
        assert_eq!(below("/", "/../../..", &above).as_deref(), Some("/pods/one/ctr"));
        assert_eq!(below("/../../two/x", "/../../..", &[]), None);
        assert_eq!(below("/../x", "/", &[]), None, "above the mount");
    }

    /// A path that could climb out of the mount is refused.
    #[test]
    fn refuses_paths_that_climb() {
        for path in ["", "a", "/a/..", "/a//b", "/a/.", "/../a/../b", "/a/"] {
            assert_eq!(GroupPath::parse(path.as_bytes()), None, "{path}");
        }
    }
}
