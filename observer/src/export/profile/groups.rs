//! Goroutines counted in groups of equal ones: what they cost doesn't grow with their number.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Names;
use crate::gobin::frames::Frame;
use crate::snapshot::census::Status;
use crate::snapshot::labels::Labels;
use crate::snapshot::stacks::{Condition, Record};

/// Program counters of different stacks that are kept: 8 MiB.
const MAX_PCS: usize = 1 << 20;
/// Groups that are kept, about 100 bytes each.
const MAX_GROUPS: usize = 1 << 17;

/// Bytes of labels that are kept.
const MAX_LABELS: usize = 8 << 20;

/// What goroutines of one group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Number of the stack; `None` for stacks beyond what is kept.
    pub(super) stack: Option<u32>,
    /// What they do.
    pub(super) status: Status,
    /// Number of the wait reason; 0 when they don't wait.
    pub(super) wait_reason: u8,
    /// Their creation PC.
    pub(super) gopc: u64,
    /// Their entry PC.
    pub(super) entry: u64,
    /// What is known of their stack.
    pub(super) condition: Condition,
    /// Number of their labels; `None` when they have none, or groups don't depend on them.
    labels: Option<u32>,
}

/// Equal goroutines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Group {
    /// What they have in common.
    pub(super) key: Key,
    /// How many they are.
    pub(super) count: u64,
    /// The longest that one may have waited, seconds.
    pub(super) waited_at_most: Option<f64>,
    /// The id of one of them: the lowest.
    pub(super) example: u64,
}

#[derive(Debug, Clone, Copy)]
struct Stack {
    start: usize,
    length: usize,
    elided: u64,
}

/// All groups, and the different stacks.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: Vec<Group>,
    index: FxHashMap<Key, u32>,
    stacks: Vec<Stack>,
    pcs: Vec<u64>,
    /// Hash of a stack → its number. Keyed by chance, so that no target can choose stacks that collide.
    by_hash: FxHashMap<u64, u32>,
    hasher: RandomState,
    /// All different labels, if groups depend on them.
    labels: Option<LabelSets>,
    /// Goroutines that are in no group, because there were too many different ones.
    pub(super) ungrouped: u64,
}

/// Different labels, numbered.
#[derive(Debug, Default)]
struct LabelSets {
    numbers: FxHashMap<Arc<Labels>, u32>,
    sets: Vec<Arc<Labels>>,
    bytes: usize,
}

impl LabelSets {
    fn number(&mut self, labels: &Arc<Labels>) -> u32 {
        if let Some(number) = self.numbers.get(labels) {
            return *number;
        }
        self.bytes +=
            128 + labels.pairs.iter().map(|(key, value)| 64 + key.len() + value.len()).sum::<usize>();
        if self.bytes > MAX_LABELS && !labels.is_unknown() {
            return self.number(&Arc::new(Labels::unknown()));
        }
        let number = self.sets.len() as u32;
        self.sets.push(labels.clone());
        self.numbers.insert(labels.clone(), number);
        number
    }
}

impl Groups {
    /// Goroutines of one group have the same labels too.
    pub(super) fn by_labels() -> Self {
        Self { labels: Some(LabelSets::default()), ..Self::default() }
    }

    /// Counts one goroutine.
    pub(super) fn add(&mut self, record: &Record, pcs: &[u64]) {
        let goroutine = &record.goroutine;
        let key = Key {
            stack: self.stack_number(pcs, record.elided),
            status: goroutine.status,
            wait_reason: if goroutine.waits() { goroutine.wait_reason } else { 0 },
            gopc: goroutine.gopc,
            entry: goroutine.entry,
            condition: record.condition,
            labels: self.labels.as_mut().zip(record.marks.labels.as_ref()).map(|(all, own)| all.number(own)),
        };
        let Some(group) = self.group(key, goroutine.id) else {
            self.ungrouped += 1;
            return;
        };
        group.count += 1;
        group.example = group.example.min(goroutine.id);
        group.waited_at_most = group.waited_at_most.into_iter().chain(record.waited_at_most).reduce(f64::max);
    }

    fn group(&mut self, key: Key, id: u64) -> Option<&mut Group> {
        let number = match self.index.get(&key) {
            Some(number) => *number,
            None if self.groups.len() == MAX_GROUPS => return None,
            None => {
                let number = self.groups.len() as u32;
                self.groups.push(Group { key, count: 0, waited_at_most: None, example: id });
                self.index.insert(key, number);
                number
            }
        };
        self.groups.get_mut(number as usize)
    }

    fn stack_number(&mut self, pcs: &[u64], elided: u64) -> Option<u32> {
        let hash = self.hasher.hash_one((pcs, elided));
        if let Some(number) = self.by_hash.get(&hash).copied() {
            let same = self.pcs(number) == pcs && self.elided(number) == elided;
            return same.then_some(number);
        }
        if self.pcs.len() + pcs.len() > MAX_PCS || self.stacks.len() >= MAX_GROUPS {
            return None;
        }
        let number = self.stacks.len() as u32;
        self.stacks.push(Stack { start: self.pcs.len(), length: pcs.len(), elided });
        self.pcs.extend_from_slice(pcs);
        self.by_hash.insert(hash, number);
        Some(number)
    }

    /// Program counters of a stack.
    pub(super) fn pcs(&self, number: u32) -> &[u64] {
        self.stacks
            .get(number as usize)
            .and_then(|stack| self.pcs.get(stack.start..stack.start + stack.length))
            .unwrap_or_default()
    }

    /// Functions that were left out of a stack.
    pub(super) fn elided(&self, number: u32) -> u64 {
        self.stacks.get(number as usize).map_or(0, |stack| stack.elided)
    }

    /// Labels that all goroutines of a group have.
    pub(super) fn labels(&self, key: &Key) -> Option<&Labels> {
        self.labels.as_ref()?.sets.get(key.labels? as usize).map(|labels| &**labels)
    }

    /// The groups, the largest first.
    pub(super) fn sorted(&self) -> Vec<&Group> {
        let mut groups: Vec<&Group> = self.groups.iter().collect();
        groups.sort_by_key(|group| (std::cmp::Reverse(group.count), group.example));
        groups
    }

    /// All goroutines that were counted.
    pub(super) fn total(&self) -> u64 {
        self.groups.iter().map(|group| group.count).sum::<u64>() + self.ungrouped
    }
}

impl Names {
    /// The frames of a group's stack, the innermost first. When nothing is known of the stack this is the
    /// function that the goroutines run: it is the outermost one, whatever else is there.
    pub(super) fn frames_of(&mut self, groups: &Groups, key: &Key) -> Vec<Frame> {
        let pcs = key.stack.map_or(&[][..], |number| groups.pcs(number));
        let frames = self.frames.of_stack(pcs);
        if frames.is_empty() { self.frames.of_stack(&[key.entry]) } else { frames }
    }

    /// What goroutines of a group do, in the runtime's words.
    pub(super) fn state(&self, key: &Key) -> String {
        match (key.status, key.wait_reason) {
            (Status::Waiting | Status::Leaked, 0) => key.status.name().to_owned(),
            (Status::Waiting, reason) => self.reasons.name(reason).to_string(),
            (Status::Leaked, reason) => format!("{} (leaked)", self.reasons.name(reason)),
            (status, _) => status.name().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Groups, MAX_GROUPS, MAX_PCS};
    use crate::snapshot::census::{Goroutine, Status};
    use crate::snapshot::stacks::{Condition, Record};

    fn record(id: u64, gopc: u64, waited_at_most: Option<f64>) -> Record {
        let goroutine = Goroutine {
            id,
            parent: 0,
            status: Status::Waiting,
            wait_reason: 7,
            tracking: 0,
            gopc,
            entry: 9,
            stack: 2048,
            locked: false,
        };
        Record::new(goroutine, Condition::Whole, waited_at_most)
    }

    /// Goroutines with the same stack, state and creator are one group, with the oldest wait and the lowest id.
    #[test]
    fn equal_goroutines_are_counted_together() {
        let mut groups = Groups::default();
        groups.add(&record(5, 1, Some(2.0)), &[10, 11]);
        groups.add(&record(4, 1, Some(3.0)), &[10, 11]);
        groups.add(&record(6, 1, None), &[10, 11]);
        groups.add(&record(7, 1, None), &[10, 12]);
        groups.add(&record(8, 2, None), &[10, 11]);
        let sorted = groups.sorted();
        let counts: Vec<_> = sorted.iter().map(|group| (group.count, group.example)).collect();
        assert_eq!(counts, [(3, 4), (1, 7), (1, 8)]);
        assert_eq!(sorted[0].waited_at_most, Some(3.0));
        assert_eq!(sorted[0].key.stack, sorted[2].key.stack);
        assert_eq!(groups.pcs(sorted[1].key.stack.unwrap()), [10, 12]);
    }

    /// A target that invents stacks and creators can't make the tables grow; no goroutine is lost from the
    /// total.
    #[test]
    fn groups_are_bounded() {
        let mut groups = Groups::default();
        let many = 2 * MAX_GROUPS as u64;
        for id in 1..=many {
            groups.add(&record(id, id, None), &[id; 16]);
        }
        assert!(groups.pcs.len() <= MAX_PCS);
        assert_eq!(groups.sorted().len(), MAX_GROUPS);
        assert_eq!(groups.ungrouped, many - MAX_GROUPS as u64);
        assert_eq!(groups.total(), many);
        assert!(groups.sorted().iter().any(|group| group.key.stack.is_none()));
    }
}
