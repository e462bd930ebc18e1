//! Goroutines counted in groups of equal ones: what they cost doesn't grow with their number.

use std::hash::{BuildHasher, RandomState};

use rustc_hash::FxHashMap;

use super::Names;
use crate::gobin::frames::Frame;
use crate::snapshot::census::Status;
use crate::snapshot::stacks::{Condition, Record};

/// Program counters of different stacks that are kept: 8 MiB.
const MAX_PCS: usize = 1 << 20;
/// Groups that are kept, about 100 bytes each.
const MAX_GROUPS: usize = 1 << 17;

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
    /// Goroutines that are in no group, because there were too many different ones.
    pub(super) ungrouped: u64,
}

impl Groups {
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
