//! What a goroutine carries beside its stack.

use std::sync::Arc;

use super::fields::Standing;
use super::labels::{Labels, Reading};
use super::memory::{Fault, Memory};
use crate::gobin::GoBinary;
use crate::gobin::Layouts;

/// What a goroutine carries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// The garbage collector looked at its stack.
    pub scanned: bool,
    /// What the program labelled it with.
    pub labels: Option<Arc<Labels>>,
    /// Number of its `testing/synctest` bubble (Go 1.25 and newer).
    pub bubble: Option<u64>,
}

/// Reads marks. They are the goroutine's only if its descriptor says the same before and after.
pub(super) struct Marker<'a> {
    memory: &'a dyn Memory,
    minor: u32,
    /// Offset of a bubble's number.
    number: Option<u64>,
    /// Of a version whose layout was not measured nothing is followed that can't be checked.
    measured: bool,
    labels: Reading<'a>,
}

impl<'a> Marker<'a> {
    pub(super) fn new(memory: &'a dyn Memory, binary: &GoBinary) -> Self {
        let minor = binary.version.minor;
        Self {
            memory,
            minor,
            number: binary.layouts.layout().bubble.id.map(u64::from),
            measured: matches!(binary.layouts, Layouts::Measured(_)),
            labels: Reading::new(memory, minor),
        }
    }

    /// Forgets what may have been freed since.
    pub(super) fn forget(&mut self) {
        self.labels = Reading::new(self.memory, self.minor);
    }

    /// The marks of a goroutine.
    ///
    /// # Errors
    /// When the process is gone, or closed to us.
    pub(super) fn of(&mut self, standing: &Standing) -> Result<Marks, Fault> {
        let scanned = standing.scanned;
        if !self.measured {
            return Ok(Marks { scanned, ..Marks::default() });
        }
        Ok(Marks { scanned, labels: self.labels.at(standing.labels)?, bubble: self.bubble(standing.bubble)? })
    }

    fn bubble(&self, address: u64) -> Result<Option<u64>, Fault> {
        let Some(number) = self.number.filter(|_| address != 0) else { return Ok(None) };
        match self.memory.u64(address.wrapping_add(number)) {
            Ok(number) => Ok(Some(number)),
            Err(Fault::Unmapped(_)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }
}
