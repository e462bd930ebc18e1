//! Where a thread keeps the pointer to its current `g`: at a fixed distance from the thread pointer.
//!
//! The distance stands in the code of `runtime.mcall`, which is assembly in every Go version: in its first
//! access to thread-local storage, or, in position-independent code, in the constant that is loaded for it.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use rustc_hash::FxHashMap;

use super::code::Code;
use super::elf::Image;
use super::error::Result;
use super::pclntab::Function;
use super::source::Source;

/// The function that is looked into.
pub const FUNCTION: &str = "runtime.mcall";

/// The distance in bytes, usually −8; `None` where the code has another form, as in shared libraries, whose
/// distance is only known when they are loaded.
///
/// # Errors
/// When code can't be read from the file.
pub fn offset(
    source: &dyn Source,
    image: &Image,
    functions: &FxHashMap<String, Function>,
) -> Result<Option<i64>> {
    let Some(function) = functions.get(FUNCTION) else { return Ok(None) };
    let code = Code::read(source, image, function)?;
    let mut constants: FxHashMap<Register, i64> = FxHashMap::default();
    for instruction in code.instructions() {
        if instruction.segment_prefix() == Register::FS {
            return Ok(distance(&instruction, &constants));
        }
        if instruction.op0_kind() == OpKind::Register {
            let register = instruction.op0_register().full_register();
            match constant(&instruction) {
                Some(value) => constants.insert(register, value),
                None => constants.remove(&register),
            };
        }
    }
    Ok(None)
}

/// What a `mov` loads, if that stands in it.
fn constant(instruction: &Instruction) -> Option<i64> {
    let immediate = matches!(instruction.op1_kind(), OpKind::Immediate32to64 | OpKind::Immediate64);
    (instruction.mnemonic() == Mnemonic::Mov && immediate).then(|| instruction.immediate(1) as i64)
}

/// What an access adds to the thread pointer.
fn distance(access: &Instruction, constants: &FxHashMap<Register, i64>) -> Option<i64> {
    let displacement = access.memory_displacement64() as i64;
    if access.memory_index() != Register::None {
        return None;
    }
    match access.memory_base() {
        Register::None => Some(displacement),
        base => Some(constants.get(&base)?.wrapping_add(displacement)),
    }
}
