//! Gzipped protobuf as `go tool pprof` and continuous profilers read it
//! (<https://github.com/google/pprof/blob/main/proto/profile.proto>).

use std::io::{self, Write};
use std::time::UNIX_EPOCH;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;
use rustc_hash::FxHashMap;

use super::groups::{Group, Groups};
use super::{End, Names, Subject};
use crate::gobin::frames::Frame;
use crate::text::printable;

#[derive(Clone, PartialEq, Eq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
    /// `go tool pprof -comments` shows them.
    #[prost(int64, repeated, tag = "13")]
    comment: Vec<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    str: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
#[expect(clippy::struct_excessive_bools, reason = "the format has them")]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    memory_start: u64,
    #[prost(uint64, tag = "3")]
    memory_limit: u64,
    #[prost(int64, tag = "5")]
    filename: i64,
    #[prost(int64, tag = "6")]
    build_id: i64,
    #[prost(bool, tag = "7")]
    has_functions: bool,
    #[prost(bool, tag = "8")]
    has_filenames: bool,
    #[prost(bool, tag = "9")]
    has_line_numbers: bool,
    #[prost(bool, tag = "10")]
    has_inline_frames: bool,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping_id: u64,
    #[prost(uint64, tag = "3")]
    address: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

pub(super) fn write(
    out: &mut impl Write,
    subject: &Subject,
    names: &mut Names,
    groups: &Groups,
    end: &End,
) -> io::Result<()> {
    let mut builder = Builder::new(subject);
    for group in groups.sorted() {
        builder.sample(names, groups, group);
    }
    if let Some(missing) = end.missing() {
        let comment = builder.string(&format!("not all goroutines are here: {missing}"));
        builder.profile.comment.push(comment);
    }
    let mut gzip = GzEncoder::new(out, Compression::default());
    gzip.write_all(&builder.profile.encode_to_vec())?;
    gzip.finish()?;
    Ok(())
}

struct Builder {
    profile: Profile,
    strings: FxHashMap<String, i64>,
    functions: FxHashMap<(i64, i64), u64>,
    /// By the code's address and by what is inlined there: hidden wrappers depend on what they call.
    locations: FxHashMap<(u64, Vec<Line>), u64>,
}

impl Builder {
    fn new(subject: &Subject) -> Self {
        let mut builder = Self {
            profile: Profile::default(),
            strings: FxHashMap::default(),
            functions: FxHashMap::default(),
            locations: FxHashMap::default(),
        };
        builder.string("");
        let goroutines = ValueType { kind: builder.string("goroutine"), unit: builder.string("count") };
        let mapping = Mapping {
            id: 1,
            memory_start: subject.text.0,
            memory_limit: subject.text.1,
            filename: builder.string(&subject.exe),
            build_id: builder.string(&subject.build_id),
            has_functions: true,
            has_filenames: true,
            has_line_numbers: true,
            has_inline_frames: true,
        };
        let taken_at = subject.taken_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let profile = &mut builder.profile;
        profile.sample_type.push(goroutines);
        profile.period_type = Some(goroutines);
        profile.period = 1;
        profile.mapping.push(mapping);
        profile.time_nanos = i64::try_from(taken_at.as_nanos()).unwrap_or(0);
        builder
    }

    fn sample(&mut self, names: &mut Names, groups: &Groups, group: &Group) {
        let mut frames = names.frames_of(groups, &group.key);
        // Every stack ends there; Go's own profiles don't say so.
        frames.retain(|frame| &*frame.linked != "runtime.goexit");
        // What was inlined stands before the function that holds it, in the same location.
        let location_id = frames
            .chunk_by(|frame, outer| frame.inlined && frame.entry == outer.entry)
            .map(|frames| self.location(frames))
            .collect();
        let mut label = vec![self.label("state", group.key.status.name())];
        if group.key.wait_reason != 0 {
            label.push(self.label("wait_reason", &names.reasons.name(group.key.wait_reason)));
        }
        if let Some(missing) = group.key.condition.missing() {
            label.push(self.label("stack_missing", missing));
        }
        if let Some(labels) = groups.labels(&group.key) {
            let pairs = labels.pairs.iter();
            label.extend(pairs.map(|(key, value)| self.label(&printable(key), &printable(value))));
            if labels.cut {
                label.push(self.label("labels_missing", "cut"));
            }
        }
        let value = vec![i64::try_from(group.count).unwrap_or(i64::MAX)];
        self.profile.sample.push(Sample { location_id, value, label });
    }

    fn location(&mut self, frames: &[Frame]) -> u64 {
        let line: Vec<Line> = frames
            .iter()
            .map(|frame| Line { function_id: self.function(frame), line: i64::from(frame.line) })
            .collect();
        // An address inside the call, as everywhere in this format.
        let address = frames.first().map_or(0, |frame| frame.pc.wrapping_sub(1));
        let next = self.locations.len() as u64 + 1;
        let id = *self.locations.entry((address, line.clone())).or_insert(next);
        if id == next {
            self.profile.location.push(Location { id, mapping_id: 1, address, line });
        }
        id
    }

    fn function(&mut self, frame: &Frame) -> u64 {
        // Go's own profiles have the full names; readers shorten them.
        let name = self.string(&frame.linked);
        let filename = self.string(&frame.file);
        let next = self.functions.len() as u64 + 1;
        let id = *self.functions.entry((name, filename)).or_insert(next);
        if id == next {
            self.profile.function.push(Function { id, name, system_name: name, filename });
        }
        id
    }

    fn label(&mut self, key: &str, value: &str) -> Label {
        Label { key: self.string(key), str: self.string(value) }
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(number) = self.strings.get(text) {
            return *number;
        }
        let number = self.profile.string_table.len() as i64;
        self.profile.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), number);
        number
    }
}
