//! One line per stack, outermost function first, with the number of goroutines that have it: what flame graph
//! tools read.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::Names;
use super::groups::Groups;

pub(super) fn write(out: &mut impl Write, names: &mut Names, groups: &Groups) -> io::Result<()> {
    for line in lines(names, groups) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

pub(super) fn lines(names: &mut Names, groups: &Groups) -> Vec<String> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for group in groups.sorted() {
        let frames = names.frames_of(groups, &group.key);
        let path: Vec<String> = frames
            .iter()
            .rev()
            .filter(|frame| &*frame.linked != "runtime.goexit")
            // A function's name ends here at a semicolon.
            .map(|frame| frame.function.replace(';', ","))
            .collect();
        *counts.entry(path.join(";")).or_default() += group.count;
    }
    counts.into_iter().map(|(path, count)| format!("{path} {count}")).collect()
}
