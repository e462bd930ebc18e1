//! The text that Go prints for `debug=2`, in a traceback, and on SIGQUIT.
//!
//! Two things differ. Arguments are `...`: their values are the target's memory, and no tool reads them. And
//! up to a thousand functions of a stack are shown where Go shows a hundred.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::stack::{is_shown, shown, shown_name};
use super::{Names, Subject, quote};
use crate::gobin::frames::Frame;
use crate::snapshot::census::{Goroutine, Status};
use crate::snapshot::stacks::{Condition, INNER, Record};

/// Text of stacks that is remembered: most goroutines share theirs with others.
const MAX_REMEMBERED: usize = 4 << 20;

/// Remembers texts of stacks.
#[derive(Default)]
pub(super) struct Bodies {
    known: FxHashMap<Box<[u64]>, Rc<str>>,
    bytes: usize,
    any: bool,
}

impl Bodies {
    /// Writes one goroutine.
    pub(super) fn write(
        &mut self,
        out: &mut impl Write,
        subject: &Subject,
        names: &mut Names,
        record: &Record,
        pcs: &[u64],
    ) -> io::Result<()> {
        if std::mem::replace(&mut self.any, true) {
            out.write_all(b"\n")?;
        }
        header(out, subject, names, record)?;
        match record.condition {
            Condition::Running => {
                out.write_all(b"\tgoroutine running on other thread; stack unavailable\n")?
            }
            Condition::Moved => out.write_all(b"\tstack unavailable: it moved while it was read\n")?,
            Condition::Unreadable if pcs.is_empty() => {
                out.write_all(b"\tstack unavailable: its memory can't be read\n")?;
            }
            Condition::Whole | Condition::Cut | Condition::Unreadable => {
                out.write_all(self.body(names, record, pcs).as_bytes())?;
            }
        }
        creator(out, names, &record.goroutine)
    }

    fn body(&mut self, names: &mut Names, record: &Record, pcs: &[u64]) -> Rc<str> {
        // A stack with a gap is a rare one: there is nobody to share it with.
        if record.elided == 0
            && let Some(text) = self.known.get(pcs)
        {
            return text.clone();
        }
        let text: Rc<str> = body(names, record, pcs).into();
        let size = text.len() + pcs.len() * 8;
        if record.elided == 0 && size <= MAX_REMEMBERED / 16 {
            if self.bytes + size > MAX_REMEMBERED {
                self.known.clear();
                self.bytes = 0;
            }
            self.bytes += size;
            self.known.insert(pcs.into(), text.clone());
        }
        text
    }
}

/// `goroutineheader` in `src/runtime/traceback.go`.
fn header(out: &mut impl Write, subject: &Subject, names: &Names, record: &Record) -> io::Result<()> {
    let minor = names.frames.version().minor;
    let goroutine = &record.goroutine;
    let status = match goroutine.status {
        Status::Waiting if goroutine.wait_reason == 0 => "waiting".into(),
        Status::Leaked if goroutine.wait_reason == 0 => "leaked (leaked)".into(),
        Status::Waiting => names.reasons.name(goroutine.wait_reason),
        Status::Leaked => format!("{} (leaked)", names.reasons.name(goroutine.wait_reason)).into(),
        other => other.name().into(),
    };
    write!(out, "goroutine {} [{status}", goroutine.id)?;
    if record.marks.scanned {
        write!(out, " (scan)")?;
    }
    if record.marks.bubble.is_some() && is_durable(&status, goroutine, names, minor) {
        write!(out, " (durable)")?;
    }
    let minutes = record.waited_at_most.unwrap_or(0.0) / 60.0;
    if minutes >= 1.0 && goroutine.status != Status::Leaked {
        write!(out, ", {} minutes", minutes as u64)?;
    }
    if record.locked {
        write!(out, ", locked to thread")?;
    }
    if let Some(number) = record.marks.bubble {
        write!(out, ", synctest bubble {number}")?;
    }
    let labels = record.marks.labels.as_ref().filter(|_| subject.labels_in_tracebacks);
    match labels.filter(|labels| !labels.pairs.is_empty()) {
        None => writeln!(out, "]:"),
        Some(labels) if minor < 27 => {
            writeln!(out, " labels:{{{}}}]:", quote::traceback_labels(labels, minor))
        }
        Some(labels) => writeln!(out, "] {{{}}}:", quote::traceback_labels(labels, minor)),
    }
}

/// Whether only its own bubble can wake a goroutine, and its wait reason doesn't say so itself
/// (`isIdleInSynctest` in `src/runtime/runtime2.go`). Go 1.25 looks at the last reason of those that don't wait.
fn is_durable(status: &str, goroutine: &Goroutine, names: &Names, minor: u32) -> bool {
    const DURABLE: [&str; 8] = [
        "chan receive (nil chan)",
        "chan send (nil chan)",
        "select (no cases)",
        "sleep",
        "sync.Cond.Wait",
        "coroutine",
        "synctest.Run",
        "synctest.Wait",
    ];
    let reason = names.reasons.name(goroutine.wait_reason);
    (minor < 26 || goroutine.status == Status::Waiting)
        && (DURABLE.contains(&&*reason) || reason.ends_with("(durable)"))
        && !status.ends_with("(durable)")
}

fn body(names: &mut Names, record: &Record, pcs: &[u64]) -> String {
    let version = names.frames.version();
    let gap = if record.elided > 0 { INNER.min(pcs.len()) } else { pcs.len() };
    let mut text = String::new();
    for frame in shown(names.frames.of_stack(&pcs[..gap]), version) {
        line(&mut text, &frame);
    }
    if record.elided > 0 {
        _ = writeln!(text, "...{} frames elided...", record.elided);
        for frame in shown(names.frames.of_stack(&pcs[gap..]), version) {
            line(&mut text, &frame);
        }
    }
    if matches!(record.condition, Condition::Cut | Condition::Unreadable) {
        _ = writeln!(text, "...additional frames unavailable...");
    }
    text
}

fn line(text: &mut String, frame: &Frame) {
    _ = write!(text, "{}(...)\n\t{}:{}", shown_name(frame), frame.file, frame.line);
    if !frame.inlined && frame.resume > frame.entry {
        _ = write!(text, " +{:#x}", frame.resume - frame.entry);
    }
    text.push('\n');
}

fn creator(out: &mut impl Write, names: &mut Names, goroutine: &Goroutine) -> io::Result<()> {
    let version = names.frames.version();
    if goroutine.id == 1 {
        return Ok(());
    }
    let Some(frame) = names.frames.creator(goroutine.gopc).filter(|frame| is_shown(frame, false, version))
    else {
        return Ok(());
    };
    write!(out, "created by {}", shown_name(&frame))?;
    if goroutine.parent != 0 {
        write!(out, " in goroutine {}", goroutine.parent)?;
    }
    writeln!(out, "\n\t{}:{} +{:#x}", frame.file, frame.line, frame.resume.wrapping_sub(frame.entry))
}
