//! Which goroutines are wanted.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::Names;
use crate::snapshot::census::Status;
use crate::snapshot::stacks::Record;

/// Program counters whose functions' names are remembered as matching or not.
const MAX_KNOWN: usize = 1 << 16;

/// All conditions must hold; an absent one always does.
#[derive(Debug, Default)]
pub struct Filter {
    /// In this state.
    state: Option<Status>,
    /// With a wait reason that contains this.
    wait_reason: Option<String>,
    /// That may have waited this long, seconds: as far as it is known they have not waited less.
    min_age: Option<f64>,
    /// With a function on the stack, or one that created or started them, whose name contains this.
    function: Option<String>,
    /// With each of these labels.
    labels: Vec<(String, String)>,
    /// The runtime's own goroutines too.
    system: bool,
    /// Whether `function` is found at a program counter.
    known: FxHashMap<u64, bool>,
}

impl Filter {
    /// `min_age` bounds what is known of a wait: as far as the runtime tells it may be that long.
    #[must_use]
    pub fn new(
        state: Option<Status>,
        wait_reason: Option<String>,
        min_age: Option<Duration>,
        function: Option<String>,
        system: bool,
    ) -> Self {
        let min_age = min_age.map(|age| age.as_secs_f64());
        Self {
            state,
            wait_reason,
            min_age,
            function,
            labels: Vec::new(),
            system,
            known: FxHashMap::default(),
        }
    }

    /// Only goroutines that have all these labels, too.
    #[must_use]
    pub fn with_labels(self, labels: Vec<(String, String)>) -> Self {
        Self { labels, ..self }
    }

    pub(super) fn takes(&mut self, record: &Record, pcs: &[u64], names: &mut Names) -> bool {
        let goroutine = &record.goroutine;
        (self.system || !record.system)
            && self.state.is_none_or(|state| state == goroutine.status)
            && self.wait_reason.as_ref().is_none_or(|wanted| {
                goroutine.waits() && names.reasons.name(goroutine.wait_reason).contains(wanted.as_str())
            })
            && self.min_age.is_none_or(|wanted| record.waited_at_most.is_some_and(|age| age >= wanted))
            && self.labels.iter().all(|(key, value)| {
                let labels = record.marks.labels.as_ref();
                labels.and_then(|labels| labels.pairs.get(key.as_str())).is_some_and(|have| **have == **value)
            })
            && self.has_function(record, pcs, names)
    }

    fn has_function(&mut self, record: &Record, pcs: &[u64], names: &mut Names) -> bool {
        let Some(wanted) = &self.function else { return true };
        let known = &mut self.known;
        let mut is_in = |pc: u64, names: &mut Names| {
            if let Some(found) = known.get(&pc) {
                return *found;
            }
            let found =
                names.frames.of_stack(&[pc]).iter().any(|frame| frame.function.contains(wanted.as_str()));
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            known.insert(pc, found);
            found
        };
        pcs.iter().any(|pc| is_in(*pc, names))
            || is_in(record.goroutine.gopc, names)
            || is_in(record.goroutine.entry, names)
    }
}
