//! Struct members, as DWARF describes them.

use std::borrow::Cow;
use std::collections::HashMap;

use anyhow::{Context, Result};
use gimli::{AttributeValue, DebuggingInformationEntry, Dwarf, EndianSlice, LittleEndian, Unit};
use object::{Object, ObjectSection};

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// The types of one program, by their offset in `.debug_info`.
pub(super) struct Types {
    by_offset: HashMap<usize, Type>,
    structs: HashMap<String, usize>,
}

struct Type {
    bytes: u64,
    kind: Kind,
}

enum Kind {
    Struct(Vec<Member>),
    /// Another name of the type at this offset.
    Alias(usize),
    Other,
}

struct Member {
    name: String,
    offset: u64,
    of: usize,
}

/// Where a member is, and how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

impl Type {
    fn member(&self, name: &str) -> Option<&Member> {
        let Kind::Struct(members) = &self.kind else { return None };
        members.iter().find(|member| member.name == name)
    }
}

impl Types {
    /// Reads the types of an ELF file.
    pub(super) fn read(file: &[u8]) -> Result<Self> {
        let object = object::File::parse(file)?;
        let section = |id: gimli::SectionId| -> Result<Cow<'_, [u8]>> {
            let found = object.section_by_name(id.name());
            Ok(found.map(|section| section.uncompressed_data()).transpose()?.unwrap_or_default())
        };
        let sections = gimli::DwarfSections::load(section)?;
        let dwarf = sections.borrow(|section| Slice::new(section, LittleEndian));
        let mut types = Self { by_offset: HashMap::new(), structs: HashMap::new() };
        let mut units = dwarf.units();
        while let Some(header) = units.next()? {
            types.add(&dwarf, &dwarf.unit(header)?)?;
        }
        Ok(types)
    }

    /// Whether there is a struct of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.structs.contains_key(name)
    }

    /// Size of a struct in bytes.
    pub(super) fn size(&self, name: &str) -> Result<u64> {
        Ok(self.named(name)?.bytes)
    }

    /// The member of a struct at a path like `sched.sp`; nothing if there is none of that name.
    ///
    /// The runtime's atomic types are seen through: the place is that of the value they guard.
    pub(super) fn member(&self, name: &str, path: &str) -> Result<Option<Place>> {
        let mut at = self.named(name)?;
        let mut offset = 0;
        for step in path.split('.') {
            let Some(member) = at.member(step) else { return Ok(None) };
            offset += member.offset;
            at = self.at(member.of).with_context(|| format!("{name}.{path} has no type"))?;
        }
        while let Some(value) = at.member("value") {
            offset += value.offset;
            at = self.at(value.of).with_context(|| format!("{name}.{path} has no type"))?;
        }
        Ok(Some(Place { offset, bytes: at.bytes }))
    }

    fn named(&self, name: &str) -> Result<&Type> {
        let found = self.structs.get(name).and_then(|offset| self.at(*offset));
        found.with_context(|| format!("DWARF describes no struct {name}"))
    }

    /// The type at an offset, seen through its aliases.
    fn at(&self, offset: usize) -> Option<&Type> {
        let found = self.by_offset.get(&offset)?;
        match found.kind {
            Kind::Alias(of) if of != offset => self.at(of),
            _ => Some(found),
        }
    }

    fn add(&mut self, dwarf: &Dwarf<Slice<'_>>, unit: &Unit<Slice<'_>>) -> Result<()> {
        let mut entries = unit.entries();
        // Offset of the struct whose members follow, and how deep in the tree it is.
        let mut open: Option<(usize, isize)> = None;
        while let Some(entry) = entries.next_dfs()? {
            let offset = global(unit, entry.offset());
            let name = || name(dwarf, unit, entry);
            match entry.tag() {
                gimli::DW_TAG_member => {
                    let Some((parent, depth)) = open else { continue };
                    if entry.depth() == depth + 1 {
                        let member = Member { name: name()?, offset: location(entry), of: of(unit, entry) };
                        self.push(parent, member);
                    }
                }
                gimli::DW_TAG_structure_type => {
                    open = Some((offset, entry.depth()));
                    self.structs.entry(name()?).or_insert(offset);
                    self.insert(offset, entry, Kind::Struct(Vec::new()));
                }
                gimli::DW_TAG_typedef => self.insert(offset, entry, Kind::Alias(of(unit, entry))),
                _ => self.insert(offset, entry, Kind::Other),
            }
        }
        Ok(())
    }

    fn insert(&mut self, offset: usize, entry: &DebuggingInformationEntry<Slice<'_>>, kind: Kind) {
        let bytes = entry.attr(gimli::DW_AT_byte_size).and_then(|size| size.udata_value());
        // Pointers, the only types that Go gives no size, have the machine's.
        self.by_offset.insert(offset, Type { bytes: bytes.unwrap_or(8), kind });
    }

    fn push(&mut self, parent: usize, member: Member) {
        if let Some(Type { kind: Kind::Struct(members), .. }) = self.by_offset.get_mut(&parent) {
            members.push(member);
        }
    }
}

fn name(
    dwarf: &Dwarf<Slice<'_>>,
    unit: &Unit<Slice<'_>>,
    entry: &DebuggingInformationEntry<Slice<'_>>,
) -> Result<String> {
    let Some(value) = entry.attr_value(gimli::DW_AT_name) else { return Ok(String::new()) };
    Ok(dwarf.attr_string(unit, value)?.to_string_lossy().into_owned())
}

fn location(entry: &DebuggingInformationEntry<Slice<'_>>) -> u64 {
    entry.attr(gimli::DW_AT_data_member_location).and_then(|at| at.udata_value()).unwrap_or(0)
}

/// Offset in `.debug_info` of an entry's type; 0, where none is, if it has none.
fn of(unit: &Unit<Slice<'_>>, entry: &DebuggingInformationEntry<Slice<'_>>) -> usize {
    match entry.attr_value(gimli::DW_AT_type) {
        Some(AttributeValue::UnitRef(offset)) => global(unit, offset),
        Some(AttributeValue::DebugInfoRef(offset)) => offset.0,
        _ => 0,
    }
}

fn global(unit: &Unit<Slice<'_>>, offset: gimli::UnitOffset) -> usize {
    offset.to_debug_info_offset(&unit.header).map_or(0, |offset| offset.0)
}
