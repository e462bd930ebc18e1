//! Which frames of a stack the runtime itself shows (`runtime.showframe`, `src/runtime/traceback.go`).

use crate::gobin::frames::Frame;
use crate::gobin::kind::Kind;
use crate::gobin::version::GoVersion;

/// The name that tracebacks give a function.
pub(super) fn shown_name(frame: &Frame) -> &str {
    if &*frame.function == "runtime.gopanic" { "panic" } else { &frame.function }
}

/// Whether a traceback shows this frame. `first`: none was shown so far.
pub(super) fn is_shown(frame: &Frame, first: bool, version: GoVersion) -> bool {
    let name = &*frame.linked;
    if frame.kind == Kind::Callbacks || (name == "runtime.gopanic" && !first) {
        return true;
    }
    let Some(own) = name.strip_prefix("runtime.") else { return name.contains('.') };
    is_exported(own, version)
}

/// The frames that a traceback shows: the runtime's own only if there are no others.
pub(super) fn shown(frames: Vec<Frame>, version: GoVersion) -> Vec<Frame> {
    let mut first = true;
    let keep: Vec<bool> = frames
        .iter()
        .map(|frame| {
            let keep = is_shown(frame, first, version);
            first &= !keep;
            keep
        })
        .collect();
    if first {
        return frames;
    }
    frames.into_iter().zip(keep).filter_map(|(frame, keep)| keep.then_some(frame)).collect()
}

/// Whether a function of package `runtime`, named without the package, is for users.
fn is_exported(name: &str, version: GoVersion) -> bool {
    let upper = |text: &str| text.starts_with(|letter: char| letter.is_ascii_uppercase());
    if version.minor < 23 {
        return upper(name);
    }
    match name.rsplit_once('.') {
        None => upper(name),
        Some((receiver, method)) => {
            let bare =
                receiver.strip_prefix("(*").and_then(|rest| rest.strip_suffix(')')).unwrap_or(receiver);
            upper(method) && upper(bare)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{GoVersion, is_exported};

    /// Methods of the runtime's own types are for users only if the type is; Go before 1.23 hid them all.
    #[test]
    fn exported_functions_of_the_runtime() {
        let exported = |name| [22, 23].map(|minor| is_exported(name, GoVersion { minor, patch: 0 }));
        assert_eq!(exported("Goexit"), [true, true]);
        assert_eq!(exported("gopark"), [false, false]);
        assert_eq!(exported("(*Func).Entry"), [false, true]);
        assert_eq!(exported("(*timers).Run"), [false, false]);
        assert_eq!(exported("Frames.next"), [true, false]);
    }
}
