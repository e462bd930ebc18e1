//! Reads the text of tracebacks.

use std::collections::BTreeMap;

/// Functions without arguments, each with its file, line and offset.
type Frames = Vec<(String, String)>;

/// One goroutine in a traceback.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Goroutine {
    /// What stands behind the id, without the minutes: state and labels.
    pub(crate) state: String,
    /// Its stack, or the innermost functions of a deep one.
    pub(crate) inner: Frames,
    /// Functions that are left out, and those further out.
    pub(crate) outer: Option<(Option<usize>, Frames)>,
    /// Function, goroutine, then file, line and offset.
    pub(crate) creator: Option<(String, String)>,
}

/// All goroutines of a traceback by id.
pub(crate) fn parse(text: &str) -> BTreeMap<u64, Goroutine> {
    text.trim_end().split("\n\n").map(goroutine).collect()
}

fn goroutine(block: &str) -> (u64, Goroutine) {
    let mut lines = block.lines();
    let header = lines.next().unwrap().strip_prefix("goroutine ").unwrap_or_else(|| panic!("{block}"));
    let (id, state) = header.split_once(" [").unwrap();
    let (inside, behind) = state.split_once(']').unwrap();
    let inside: Vec<&str> = inside.split(", ").filter(|part| !part.ends_with(" minutes")).collect();
    let state = format!("{}]{behind}", inside.join(", "));
    let mut goroutine = Goroutine { state, inner: Vec::new(), outer: None, creator: None };
    while let Some(line) = lines.next() {
        if let Some(elided) = line.strip_prefix("...") {
            let number = elided.split_once(' ').unwrap().0.parse().ok();
            goroutine.outer = Some((number, Vec::new()));
            continue;
        }
        if line.starts_with('\t') {
            continue;
        }
        let place = lines.next().unwrap_or_else(|| panic!("{block}")).trim().to_owned();
        if let Some(creator) = line.strip_prefix("created by ") {
            goroutine.creator = Some((creator.to_owned(), place));
            continue;
        }
        let function = line.rsplit_once('(').unwrap().0.to_owned();
        let frames = goroutine.outer.as_mut().map_or(&mut goroutine.inner, |(_, outer)| outer);
        frames.push((function, place));
    }
    (id.parse().unwrap(), goroutine)
}

impl Goroutine {
    /// Compares two tracebacks of one goroutine; each may leave out functions of a deep stack.
    pub(crate) fn assert_agrees(&self, own: &Self, what: &str) {
        assert_eq!(self.state, own.state, "{what}");
        assert_eq!(self.creator, own.creator, "{what}");
        match (&self.outer, &own.outer) {
            (None, None) => assert_eq!(self.inner, own.inner, "{what}"),
            _ => {
                let inner = self.inner.len().min(own.inner.len());
                assert_eq!(self.inner[..inner], own.inner[..inner], "{what}");
                if let (Some(ours), Some(owns)) = (self.depth(), own.depth()) {
                    assert_eq!(ours, owns, "{what}");
                    let outermost = self.outermost().iter().rev().zip(own.outermost().iter().rev());
                    outermost.for_each(|(ours, owns)| assert_eq!(ours, owns, "{what}"));
                }
            }
        }
    }

    /// Go before 1.21 shows the innermost hundred functions, less those that it hides, and doesn't say so.
    pub(crate) fn mark_cut(&mut self) {
        if self.outer.is_none() && self.inner.len() > 90 {
            self.outer = Some((None, Vec::new()));
        }
    }

    /// Functions on the stack, those left out included, if it says how many these are.
    pub(crate) fn depth(&self) -> Option<usize> {
        match &self.outer {
            None => Some(self.inner.len()),
            Some((elided, outer)) => Some(self.inner.len() + (*elided)? + outer.len()),
        }
    }

    fn outermost(&self) -> &[(String, String)] {
        self.outer.as_ref().map_or(&self.inner, |(_, outer)| outer)
    }
}
