//! The profile of one process: all its goroutines with their stacks, in the formats that people and tools
//! read. Goroutines come in chunks and leave as they come, or are counted in groups; they aren't collected.

mod debug1;
mod debug2;
mod filter;
mod folded;
mod groups;
mod json;
mod pprof;
mod quote;
mod stack;
mod summary;
mod svg;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::SystemTime;

pub use filter::Filter;
pub use summary::GroupBy;

use crate::gobin::frames::Frames;
use crate::snapshot::stacks::{Chunk, Totals};
use crate::snapshot::wait_reasons::WaitReasons;
use groups::Groups;

/// Whose profile it is. Texts are fit to show.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Process id.
    pub pid: u32,
    /// Base name of its executable.
    pub process: String,
    /// Path of its executable.
    pub exe: String,
    /// Its Go version, as the executable says.
    pub go_version: String,
    /// GNU build id of the executable in hexadecimal; empty when it has none.
    pub build_id: String,
    /// When it was looked at.
    pub taken_at: SystemTime,
    /// Where its Go code is.
    pub text: (u64, u64),
    /// Whether its runtime writes labels into tracebacks (`GODEBUG=tracebacklabels`).
    pub labels_in_tracebacks: bool,
}

/// How a profile is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: groups of equal goroutines.
    Summary(GroupBy),
    /// As Go's `debug=1`.
    Debug1,
    /// As Go's `debug=2`.
    Debug2,
    /// Gzipped protobuf for `go tool pprof`.
    Pprof,
    /// One line per stack for flame graphs.
    Folded,
    /// A flame graph.
    Svg,
    /// For programs.
    Json,
}

/// How a profile ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct End {
    /// What wasn't seen.
    pub totals: Totals,
    /// Why it ended early, in one sentence; what came before is true all the same.
    pub interrupted: Option<String>,
}

impl End {
    /// What the profile doesn't have, in one sentence; nothing when it has all.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        let Totals { torn, unreadable, skipped, .. } = self.totals;
        match &self.interrupted {
            Some(reason) => Some(format!("it ended early: {reason}")),
            None if self.totals.is_whole() => None,
            None => Some(format!(
                "{unreadable} goroutine descriptors could not be read, {torn} contradicted themselves and \
                 {skipped} were not looked at"
            )),
        }
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Goroutines that were wanted.
    pub goroutines: u64,
    /// Those whose stack isn't there, or not all of it, because they ran or moved.
    pub without_stack: u64,
    /// Those that have labels which aren't there, or not all of them.
    pub without_labels: u64,
}

/// Looks up what a goroutine's numbers mean.
struct Names {
    frames: Frames,
    reasons: Arc<WaitReasons>,
}

/// Writes a profile.
pub struct Rendering<W> {
    subject: Subject,
    names: Names,
    filter: Filter,
    body: Body,
    out: W,
    written: Written,
}

enum Body {
    Debug2(debug2::Bodies),
    Json(json::Stream),
    Grouped(Box<Groups>, Format),
}

impl<W: Write> Rendering<W> {
    /// Begins to write a profile to `out`.
    pub fn new(
        subject: Subject,
        frames: Frames,
        reasons: Arc<WaitReasons>,
        filter: Filter,
        format: Format,
        out: W,
    ) -> Self {
        let body = match format {
            Format::Debug2 => Body::Debug2(debug2::Bodies::default()),
            Format::Json => Body::Json(json::Stream::default()),
            Format::Debug1 | Format::Pprof => Body::Grouped(Box::new(Groups::by_labels()), format),
            _ => Body::Grouped(Box::default(), format),
        };
        Self { subject, names: Names { frames, reasons }, filter, body, out, written: Written::default() }
    }

    /// Adds goroutines.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn add(&mut self, chunk: &Chunk) -> io::Result<()> {
        for record in &chunk.records {
            let pcs = chunk.stack(record);
            if !self.filter.takes(record, pcs, &mut self.names) {
                continue;
            }
            self.written.goroutines += 1;
            self.written.without_stack += u64::from(record.condition.missing().is_some());
            let labels = record.marks.labels.as_ref();
            self.written.without_labels += u64::from(labels.is_some_and(|labels| labels.cut));
            match &mut self.body {
                Body::Debug2(bodies) => {
                    bodies.write(&mut self.out, &self.subject, &mut self.names, record, pcs)?;
                }
                Body::Json(stream) => {
                    stream.write(&mut self.out, &self.subject, &mut self.names, record, pcs)?;
                }
                Body::Grouped(groups, _) => groups.add(record, pcs),
            }
        }
        Ok(())
    }

    /// Writes what comes last.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn finish(mut self, end: &End) -> io::Result<Written> {
        let (out, names) = (&mut self.out, &mut self.names);
        match self.body {
            Body::Debug2(_) => incomplete(out, "\n", end)?,
            Body::Json(stream) => stream.finish(out, &self.subject, end)?,
            Body::Grouped(groups, format) => match format {
                Format::Summary(by) => summary::write(out, &self.subject, names, &groups, by, end)?,
                Format::Debug1 => {
                    debug1::write(out, names, &groups)?;
                    incomplete(out, "", end)?;
                }
                Format::Pprof => pprof::write(out, &self.subject, names, &groups, end)?,
                Format::Folded => folded::write(out, names, &groups)?,
                _ => svg::write(out, &self.subject, names, &groups)?,
            },
        }
        self.out.flush()?;
        Ok(self.written)
    }
}

/// Says at the end of a text what it doesn't have, in a line that readers of it take for a comment.
fn incomplete(out: &mut impl Write, before: &str, end: &End) -> io::Result<()> {
    match end.missing() {
        Some(missing) => writeln!(out, "{before}# not all goroutines are here: {missing}"),
        None => Ok(()),
    }
}
