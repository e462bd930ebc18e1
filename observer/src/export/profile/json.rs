//! `observer dump --format json`: one object, written as the goroutines come. A key without value is absent.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::{End, Names, Subject};
use crate::gobin::frames::Frame;
use crate::snapshot::stacks::Record;
use crate::text::printable;

/// Whether the goroutine to come is the first.
#[derive(Default)]
pub(super) struct Stream {
    any: bool,
}

#[derive(Serialize)]
struct Head<'a> {
    pid: u32,
    process: &'a str,
    go_version: &'a str,
    /// Seconds since the epoch.
    taken_at: f64,
}

#[derive(Serialize)]
struct Goroutine<'a> {
    id: u64,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_seconds_max: Option<f64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    system: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    locked_to_thread: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    bubble: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
    /// Labels are missing, or parts of them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    labels_cut: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<Creator<'a>>,
    entry: &'a str,
    stack: Vec<Place<'a>>,
    /// Functions left out of the middle of the stack.
    #[serde(skip_serializing_if = "Option::is_none")]
    elided: Option<u64>,
    /// Why the stack, or its outer part, isn't there.
    #[serde(skip_serializing_if = "Option::is_none")]
    partial: Option<&'static str>,
}

#[derive(Serialize)]
struct Creator<'a> {
    #[serde(flatten)]
    place: Place<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    goroutine: Option<u64>,
}

#[derive(Serialize)]
struct Place<'a> {
    function: &'a str,
    file: &'a str,
    line: u32,
    pc: u64,
}

impl<'a> From<&'a Frame> for Place<'a> {
    fn from(frame: &'a Frame) -> Self {
        Self { function: &frame.function, file: &frame.file, line: frame.line, pc: frame.pc }
    }
}

#[derive(Serialize)]
struct Tail<'a> {
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl Stream {
    /// Writes one goroutine.
    pub(super) fn write(
        &mut self,
        out: &mut impl Write,
        subject: &Subject,
        names: &mut Names,
        record: &Record,
        pcs: &[u64],
    ) -> io::Result<()> {
        self.separate(out, subject)?;
        let (goroutine, frames) = (&record.goroutine, names.frames.of_stack(pcs));
        let creator = (goroutine.id != 1).then(|| names.frames.creator(goroutine.gopc)).flatten();
        let created_by = creator.as_ref().map(|frame| Creator {
            place: frame.into(),
            goroutine: (goroutine.parent != 0).then_some(goroutine.parent),
        });
        let reason = goroutine.waits().then(|| names.reasons.name(goroutine.wait_reason));
        let entry = names.frames.entry(goroutine.entry);
        let labels = record.marks.labels.as_ref();
        let row = Goroutine {
            id: goroutine.id,
            status: goroutine.status.name(),
            wait_reason: reason.as_deref(),
            wait_seconds_max: record.waited_at_most,
            system: record.system,
            locked_to_thread: record.locked,
            bubble: record.marks.bubble,
            labels: labels.map(|labels| {
                labels.pairs.iter().map(|(key, value)| (printable(key), printable(value))).collect()
            }),
            labels_cut: labels.is_some_and(|labels| labels.cut),
            created_by,
            entry: &entry,
            stack: frames.iter().map(Place::from).collect(),
            elided: (record.elided > 0).then_some(record.elided),
            partial: record.condition.missing(),
        };
        Ok(serde_json::to_writer(out, &row)?)
    }

    /// Writes what comes behind the goroutines.
    pub(super) fn finish(mut self, out: &mut impl Write, subject: &Subject, end: &End) -> io::Result<()> {
        if !self.any {
            self.begin(out, subject)?;
        }
        let tail = Tail { complete: end.missing().is_none(), reason: end.interrupted.as_deref() };
        let tail = serde_json::to_string(&tail)?;
        writeln!(out, "\n],{}", tail.trim_start_matches('{'))
    }

    fn separate(&mut self, out: &mut impl Write, subject: &Subject) -> io::Result<()> {
        if self.any { out.write_all(b",\n") } else { self.begin(out, subject) }
    }

    fn begin(&mut self, out: &mut impl Write, subject: &Subject) -> io::Result<()> {
        self.any = true;
        let taken_at = subject.taken_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let head =
            Head { pid: subject.pid, process: &subject.process, go_version: &subject.go_version, taken_at };
        let head = serde_json::to_string(&head)?;
        writeln!(out, "{},\"goroutines\":[", head.trim_end_matches('}'))
    }
}
