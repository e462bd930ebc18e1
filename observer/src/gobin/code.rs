//! What a function's instructions say: the data it refers to and the functions it calls.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind};

use super::elf::Image;
use super::error::{Error, Result};
use super::pclntab::Function;
use super::source::{Source, Window};

/// The functions that we look into are a few hundred bytes long; decoding stops here.
const MAX_CODE: usize = 16 << 10;

/// The bytes of one function.
pub struct Code {
    bytes: Vec<u8>,
    address: u64,
}

impl Code {
    /// Reads a function's code.
    ///
    /// # Errors
    /// When it isn't in the file.
    pub fn read(source: &dyn Source, image: &Image, function: &Function) -> Result<Self> {
        let offset = image
            .offset(function.entry)
            .ok_or(Error::Malformed { what: "function address", at: function.entry })?;
        let size = (function.end - function.entry).min(MAX_CODE as u64) as usize;
        let bytes = Window::scatter(source).get(offset, size)?.to_vec();
        Ok(Self { bytes, address: function.entry })
    }

    /// Its instructions in order, up to the first byte that is none.
    pub fn instructions(&self) -> impl Iterator<Item = Instruction> {
        let mut decoder = Decoder::with_ip(64, &self.bytes, self.address, DecoderOptions::NONE);
        std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()))
            .take_while(|instruction| !instruction.is_invalid())
    }

    /// Its bytes from one of its instructions on, at most `len`.
    #[must_use]
    pub fn bytes_from(&self, instruction: &Instruction, len: usize) -> &[u8] {
        let start = (instruction.ip() - self.address) as usize;
        let rest = self.bytes.get(start..).unwrap_or_default();
        &rest[..rest.len().min(len)]
    }

    /// Distinct addresses that it refers to and `wanted` accepts, in the order of the instructions.
    #[must_use]
    pub fn references(&self, wanted: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut found = Vec::new();
        for instruction in self.instructions().filter(Instruction::is_ip_rel_memory_operand) {
            let address = instruction.ip_rel_memory_address();
            if wanted(address) && !found.contains(&address) {
                found.push(address);
            }
        }
        found
    }

    /// Its direct calls in order: where each is, and what it calls.
    pub fn direct_calls(&self) -> impl Iterator<Item = (u64, u64)> {
        self.instructions().filter(is_direct_call).map(|call| (call.ip(), call.near_branch_target()))
    }

    /// The first direct call of `callee`.
    #[must_use]
    pub fn call_of(&self, callee: u64) -> Option<Instruction> {
        self.instructions().filter(is_direct_call).find(|call| call.near_branch_target() == callee)
    }
}

fn is_direct_call(instruction: &Instruction) -> bool {
    instruction.flow_control() == FlowControl::Call && instruction.op0_kind() == OpKind::NearBranch64
}
