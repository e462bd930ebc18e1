//! A flame graph.

use std::io::{self, Write};

use inferno::flamegraph::{self, Options};

use super::groups::Groups;
use super::{Names, Subject, folded};

pub(super) fn write(
    out: &mut impl Write,
    subject: &Subject,
    names: &mut Names,
    groups: &Groups,
) -> io::Result<()> {
    let lines = folded::lines(names, groups);
    if lines.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no goroutine to draw"));
    }
    let mut options = Options::default();
    options.title = format!("Goroutines of {} (pid {})", subject.process, subject.pid);
    "goroutines".clone_into(&mut options.count_name);
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), out)
        .map_err(|error| io::Error::other(error.to_string()))
}
