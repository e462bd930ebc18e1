//! cgroup mounts in the text of `/proc/PID/mountinfo`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::path::GroupPath;

/// One mount of a cgroup hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Device number of the file system: major and minor.
    pub(super) device: (u32, u32),
    /// The group that is mounted, relative to the reader's cgroup namespace.
    pub(super) root: GroupPath,
    /// Where it is mounted.
    pub(super) point: PathBuf,
    /// v2, or v1 with its options (controllers and `name=…` among them).
    pub(super) kind: Kind,
}

/// Version of a mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// The unified hierarchy.
    V2,
    /// A v1 hierarchy and its super-block options.
    V1(Vec<Box<[u8]>>),
}

/// The cgroup mount in one line of `mountinfo`; `None` for any other line.
pub(super) fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let device = parse_device(fields.nth(2)?)?;
    let root = GroupPath::parse(&unescape(fields.next()?))?;
    let point = PathBuf::from(OsString::from_vec(unescape(fields.next()?)));
    // Optional fields end with a lone hyphen.
    fields.find(|field| *field == b"-")?;
    let kind = match fields.next()? {
        b"cgroup2" => Kind::V2,
        b"cgroup" => Kind::V1(fields.nth(1)?.split(|&byte| byte == b',').map(Box::from).collect()),
        _ => return None,
    };
    Some(Mount { device, root, point, kind })
}

/// `major:minor`.
fn parse_device(field: &[u8]) -> Option<(u32, u32)> {
    let (major, minor) = std::str::from_utf8(field).ok()?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Undoes the kernel's octal escapes (`\040` for a space).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let (byte, next) = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), after)
            }
            _ => (*first, tail),
        };
        out.push(byte);
        rest = next;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(text: &str) -> GroupPath {
        GroupPath::parse(text.as_bytes()).expect("a path")
    }

    /// Lines of v1 and v2 mounts, with one, several and no optional fields.
    #[test]
    fn reads_mounts_of_both_versions() {
        let v1 = parse_line(
            b"33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct",
        )
        .expect("v1");
        assert_eq!((v1.device, &v1.root), ((0, 30), &root("/")));
        assert_eq!(v1.point, PathBuf::from("/sys/fs/cgroup/cpu,cpuacct"));
        let Kind::V1(options) = v1.kind else { panic!("v1 expected") };
        assert_eq!(options.iter().map(|o| o.as_ref()).collect::<Vec<_>>(), [&b"rw"[..], b"cpu", b"cpuacct"]);

        let bare = b"37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer";
        assert_eq!(parse_line(bare).expect("v1").device, (0, 34));

        let v2 = parse_line(
            b"35 24 0:30 /../../.. /host/sys/fs/cgroup ro shared:4 master:2 - cgroup2 cgroup2 rw,nsdelegate",
        )
        .expect("v2");
        assert_eq!((v2.kind, v2.root), (Kind::V2, root("/../../..")));
    }

    /// Spaces and backslashes in mount points and roots come escaped in octal.
    #[test]
    fn undoes_octal_escapes() {
        let mount = parse_line(br"1 2 0:3 /a\040b /mnt/c\011d\134e\04 rw - cgroup2 none rw").expect("mount");
        assert_eq!(mount.root, root("/a b"));
        assert_eq!(mount.point, PathBuf::from("/mnt/c\td\\e\\04"));
    }

    /// Other file systems and cut-off or broken lines are no cgroup mounts, and no panic.
    #[test]
    fn ignores_everything_else() {
        let line = b"31 23 0:28 / /sys/fs/cgroup rw shared:1 - cgroup cgroup rw,cpu";
        assert!(parse_line(line).is_some());
        // The last four bytes are the option list, which may be shorter.
        for length in 0..line.len() - b" rw,cpu".len() {
            assert_eq!(parse_line(&line[..length]), None, "{length}");
        }
        for other in ["31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw", "x", "a b c:d / / - cgroup2 x y"] {
            assert_eq!(parse_line(other.as_bytes()), None, "{other}");
        }
    }
}
