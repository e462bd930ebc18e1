//! Where members of the kernel's structs are, from its own type information (BTF).
//!
//! <https://docs.kernel.org/bpf/btf.html>. aya parses the same format, but shows no members.

const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
/// `struct btf_type`.
const TYPE: usize = 12;
/// `struct btf_member`.
const MEMBER: usize = 12;
/// Anonymous structs, and types of other names, are followed this deep.
const MAX_DEPTH: u32 = 8;

const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_TYPE_TAG: u32 = 18;

/// All types of a kernel.
pub(super) struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where in `types` each type begins; type 1 is the first.
    starts: Vec<u32>,
}

/// One member, or a whole struct at offset 0.
#[derive(Clone, Copy)]
struct Place {
    /// Bytes from the outermost struct's begin.
    offset: u32,
    type_id: u32,
}

impl<'a> Btf<'a> {
    /// `None` if this is no type information that we know.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() < HEADER || word16(bytes, 0)? != MAGIC {
            return None;
        }
        let begin = word(bytes, 4)? as usize;
        let section = |at: usize| -> Option<&'a [u8]> {
            let start = begin.checked_add(word(bytes, at)? as usize)?;
            bytes.get(start..start.checked_add(word(bytes, at + 4)? as usize)?)
        };
        let (types, strings) = (section(8)?, section(16)?);
        let mut starts = Vec::new();
        let mut at = 0;
        while at < types.len() {
            starts.push(u32::try_from(at).ok()?);
            at += TYPE + tail(word(types, at + 4)?)?;
        }
        Some(Self { types, strings, starts })
    }

    /// Bytes from a struct's begin to a member, which may be a member of a member.
    pub(super) fn offset(&self, name: &str, members: &[&str]) -> Option<u32> {
        let mut place = Place { offset: 0, type_id: self.structure(name)? };
        for member in members {
            place = self.member(place, member, 0)?;
        }
        Some(place.offset)
    }

    /// Bytes in a struct.
    pub(super) fn size(&self, name: &str) -> Option<u32> {
        word(self.types, self.start(self.structure(name)?)? + 8)
    }

    fn structure(&self, name: &str) -> Option<u32> {
        let found = self.starts.iter().position(|start| {
            let at = *start as usize;
            word(self.types, at + 4).map(kind) == Some(KIND_STRUCT)
                && word(self.types, at).is_some_and(|offset| self.is_named(offset, name))
        });
        u32::try_from(found? + 1).ok()
    }

    fn member(&self, outer: Place, name: &str, depth: u32) -> Option<Place> {
        let at = self.start(outer.type_id)?;
        let info = word(self.types, at + 4)?;
        if depth > MAX_DEPTH {
            return None;
        }
        match kind(info) {
            KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_TYPE_TAG => {
                let type_id = word(self.types, at + 8)?;
                self.member(Place { type_id, ..outer }, name, depth + 1)
            }
            KIND_STRUCT | KIND_UNION => (0..count(info)).find_map(|index| {
                let member = at + TYPE + index * MEMBER;
                let named = word(self.types, member)?;
                let bits = word(self.types, member + 8)?;
                // With bit fields among the members, the upper byte is a width.
                let bits = if info >> 31 == 1 { bits & 0xff_ffff } else { bits };
                let place = Place { offset: outer.offset + bits / 8, type_id: word(self.types, member + 4)? };
                if self.is_named(named, name) {
                    return Some(place);
                }
                self.is_named(named, "").then(|| self.member(place, name, depth + 1)).flatten()
            }),
            _ => None,
        }
    }

    fn start(&self, type_id: u32) -> Option<usize> {
        Some(*self.starts.get(type_id.checked_sub(1)? as usize)? as usize)
    }

    fn is_named(&self, offset: u32, name: &str) -> bool {
        let text = self.strings.get(offset as usize..).unwrap_or_default();
        text.starts_with(name.as_bytes()) && text.get(name.len()) == Some(&0)
    }
}

/// Bytes that follow a type's first twelve.
fn tail(info: u32) -> Option<usize> {
    let each = match kind(info) {
        // Integer, variable, declaration tag.
        1 | 14 | 17 => return Some(4),
        // Array.
        3 => return Some(12),
        // Struct, union, section of data, 64-bit enumeration.
        KIND_STRUCT | KIND_UNION | 15 | 19 => 12,
        // Enumeration, prototype of a function.
        6 | 13 => 8,
        // Pointer, forward declaration, other names, function, floating point.
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    };
    Some(count(info) * each)
}

const fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

const fn count(info: u32) -> usize {
    (info & 0xffff) as usize
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn word16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A type's first words: name, kind and number of members, size or type.
    fn put(types: &mut Vec<u8>, words: &[u32]) {
        types.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }

    fn assemble(types: &[u8], strings: &[u8]) -> Vec<u8> {
        let mut bytes = [MAGIC.to_le_bytes(), [1, 0]].concat();
        let (types_len, strings_len) = (types.len() as u32, strings.len() as u32);
        put(&mut bytes, &[HEADER as u32, 0, types_len, types_len, strings_len]);
        [bytes, types.to_vec(), strings.to_vec()].concat()
    }

    /// Members are found in structs of structs, anonymous unions and behind other names; what isn't there and
    /// what is cut short is `None`.
    #[test]
    fn members_are_found() {
        let strings = b"\0outer\0inner\0a\0b\0c\0";
        let (outer, inner, a, b, c) = (1, 7, 13, 15, 17);
        let mut types = Vec::new();
        put(&mut types, &[0, 1 << 24, 4, 32]); // 1: an integer
        put(&mut types, &[inner, KIND_STRUCT << 24 | 2, 16, a, 1, 0, b, 1, 64]); // 2: struct inner
        put(&mut types, &[0, KIND_UNION << 24 | 1, 16, c, 4, 0]); // 3: a union
        put(&mut types, &[0, KIND_CONST << 24, 2]); // 4: const inner
        put(&mut types, &[outer, KIND_STRUCT << 24 | 2, 40, a, 1, 32, 0, 3, 128]); // 5: struct outer
        let bytes = assemble(&types, strings);
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.offset("outer", &["a"]), Some(4));
        assert_eq!(btf.offset("outer", &["c", "b"]), Some(16 + 8));
        assert_eq!((btf.offset("outer", &["b"]), btf.offset("none", &["a"])), (None, None));
        assert_eq!(btf.size("inner"), Some(16));
        for length in 0..bytes.len() {
            let cut = Btf::parse(&bytes[..length]).and_then(|btf| btf.offset("outer", &["a"]));
            assert_eq!(cut, None, "{length}");
        }
    }
}
