//! The ELF frame of an executable: segments, sections, and the relocations of a PIE.

use object::elf;
use object::endian::LittleEndian as LE;
use object::pod;

use super::error::{Error, Result};
use super::source::{Source, Window, le32, le64};

/// More program headers than any linker writes.
const MAX_SEGMENTS: u16 = 256;
/// Sections beyond this are ignored: Go executables have about 40.
const MAX_SECTIONS: u16 = 1024;
/// Longest section name that we look at.
const MAX_SECTION_NAME: usize = 64;

/// One `PT_LOAD` segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Link-time address.
    pub address: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub file_size: u64,
    /// Bytes in memory.
    pub memory_size: u64,
    /// `PF_X` is set.
    pub executable: bool,
    /// `PF_W` is set.
    pub writable: bool,
}

/// One section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name, cut to 64 bytes.
    pub name: Vec<u8>,
    /// `sh_type`.
    pub kind: elf::SectionType,
    /// Link-time address.
    pub address: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes (in the file, unless the kind is `SHT_NOBITS`).
    pub size: u64,
    /// `sh_link`: the symbol table's string table.
    pub link: u32,
}

/// The frame of a 64-bit little-endian x86 executable.
#[derive(Debug, Clone)]
pub struct Image {
    /// `ET_DYN`: the kernel chooses the load address.
    pub pie: bool,
    /// Where the kernel starts it (link-time address): with the running process's `AT_ENTRY` this tells the load bias.
    pub entry: u64,
    /// `PT_LOAD` segments in file order.
    pub segments: Vec<Segment>,
    /// Sections; empty when they were removed.
    pub sections: Vec<Section>,
    dynamic: Option<(u64, u64)>,
}

impl Image {
    /// Reads the headers.
    ///
    /// # Errors
    /// [`Error::NotGo`] when it is no ELF executable, [`Error::OtherMachine`] for another class or machine.
    pub fn read(source: &dyn Source) -> Result<Self> {
        let mut window = Window::scatter(source);
        let header = read_header(&mut window)?;
        let (segments, dynamic) = read_segments(&mut window, &header)?;
        if let Some(cut) = segments.iter().find(|segment| segment.offset + segment.file_size > source.size())
        {
            return Err(Error::Truncated { at: cut.offset + cut.file_size });
        }
        let sections = read_sections(&mut window, &header).unwrap_or_default();
        Ok(Self {
            pie: header.e_type.get(LE) == elf::ET_DYN,
            entry: header.e_entry.get(LE),
            segments,
            sections,
            dynamic,
        })
    }

    /// The section called `name`.
    #[must_use]
    pub fn section(&self, name: &[u8]) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The GNU build id in hexadecimal; `None` when the executable has none, as Go's had none before Go 1.24.
    pub fn build_id(&self, source: &dyn Source) -> Option<String> {
        /// Of `Elf64_Nhdr` and the name `GNU`.
        const HEADER: u64 = 16;
        /// A SHA-512 is the longest that linkers make.
        const MAX: u32 = 64;
        let section = self.section(b".note.gnu.build-id")?;
        let mut window = Window::scatter(source);
        let header = window.get(section.offset, HEADER as usize).ok()?;
        let (name, length, kind) = (le32(header), le32(&header[4..]), le32(&header[8..]));
        let is_build_id =
            name == 4 && elf::NoteType(kind) == elf::NT_GNU_BUILD_ID && &header[12..16] == b"GNU\0";
        if !is_build_id || length > MAX {
            return None;
        }
        let id = window.get(section.offset + HEADER, length as usize).ok()?;
        Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// File offset of a link-time address, if the byte is in the file.
    #[must_use]
    pub fn offset(&self, address: u64) -> Option<u64> {
        let segment = self
            .segments
            .iter()
            .find(|segment| address >= segment.address && address - segment.address < segment.file_size)?;
        Some(segment.offset + (address - segment.address))
    }

    /// Link-time address of a file offset, if it is loaded.
    #[must_use]
    pub fn address(&self, offset: u64) -> Option<u64> {
        let segment = self
            .segments
            .iter()
            .find(|segment| offset >= segment.offset && offset - segment.offset < segment.file_size)?;
        Some(segment.address + (offset - segment.offset))
    }

    /// Whether an executable segment holds `[from, to)`.
    #[must_use]
    pub fn is_text(&self, from: u64, to: u64) -> bool {
        self.segments.iter().any(|segment| {
            segment.executable
                && from >= segment.address
                && to <= segment.address + segment.file_size
                && from < to
        })
    }

    /// Whether an address is in a writable segment.
    #[must_use]
    pub fn is_writable(&self, address: u64) -> bool {
        self.segments.iter().any(|segment| {
            segment.writable && address >= segment.address && address - segment.address < segment.memory_size
        })
    }

    /// `len` bytes at each of some link-time addresses, with a PIE's relative relocations applied for a load
    /// bias of 0: (address, bytes). `addresses` ascend; those whose bytes are not in the file are left out.
    /// The relocation table is read once.
    ///
    /// # Errors
    /// When the relocation table is not in the file.
    pub fn relocated(
        &self,
        source: &dyn Source,
        addresses: &[u64],
        len: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>> {
        let mut window = Window::scatter(source);
        let mut read = |address: u64| Some(window.get(self.offset(address)?, len).ok()?.to_vec());
        let mut blocks: Vec<(u64, Vec<u8>)> =
            addresses.iter().filter_map(|address| Some((*address, read(*address)?))).collect();
        self.each_relocation(source, |place, addend| {
            // Blocks that hold all eight bytes from `place` on.
            let first = blocks
                .partition_point(|(address, _)| address.saturating_add(len as u64) < place.saturating_add(8));
            for (address, bytes) in blocks[first..].iter_mut().take_while(|(address, _)| *address <= place) {
                let start = (place - *address) as usize;
                if let Some(word) = bytes.get_mut(start..start + 8) {
                    word.copy_from_slice(&addend.to_le_bytes());
                }
            }
        })?;
        Ok(blocks)
    }

    /// Calls `visit(place, value)` for each relative relocation of a PIE's `DT_RELA` table.
    /// (`DT_RELR` keeps the value in place, where it is read without being relocated.)
    ///
    /// # Errors
    /// When the table is not in the file.
    pub fn each_relocation(&self, source: &dyn Source, mut visit: impl FnMut(u64, u64)) -> Result<()> {
        const ENTRY: u64 = size_of::<elf::Rela64<LE>>() as u64;
        let Some((table, size)) = self.relocation_table(source)? else { return Ok(()) };
        let mut window = Window::stream(source);
        let (mut at, end) = (table, table + size - size % ENTRY);
        while at < end {
            let chunk = window.chunk(at, end)?;
            let whole = chunk.len() - chunk.len() % ENTRY as usize;
            if whole == 0 {
                return Err(Error::Truncated { at });
            }
            for entry in chunk[..whole].chunks_exact(ENTRY as usize) {
                if le64(&entry[8..]) == u64::from(elf::R_X86_64_RELATIVE.0) {
                    visit(le64(entry), le64(&entry[16..]));
                }
            }
            at += whole as u64;
        }
        Ok(())
    }

    /// File offset and size of the table that `PT_DYNAMIC` names.
    fn relocation_table(&self, source: &dyn Source) -> Result<Option<(u64, u64)>> {
        let Some((offset, size)) = self.dynamic else { return Ok(None) };
        let mut window = Window::scatter(source);
        let (mut address, mut bytes) = (None, None);
        for at in (offset..offset.saturating_add(size.min(4096))).step_by(16) {
            let (tag, value) = (window.u64(at)?, window.u64(at + 8)?);
            match tag {
                0 => break,
                tag if tag == elf::DT_RELA.0 as u64 => address = Some(value),
                tag if tag == elf::DT_RELASZ.0 as u64 => bytes = Some(value),
                _ => {}
            }
        }
        let (Some(address), Some(bytes)) = (address, bytes) else { return Ok(None) };
        let start = self.offset(address).ok_or(Error::Malformed { what: "DT_RELA", at: offset })?;
        if bytes > source.size().saturating_sub(start) {
            return Err(Error::Malformed { what: "DT_RELASZ", at: offset });
        }
        Ok(Some((start, bytes)))
    }
}

fn read_header(window: &mut Window<'_>) -> Result<elf::FileHeader64<LE>> {
    let Ok(ident) = window.get(0, 20) else { return Err(Error::NotGo("too short for an ELF file")) };
    if ident[..4] != elf::ELFMAG {
        return Err(Error::NotGo("no ELF file"));
    }
    if ident[4] != elf::ELFCLASS64.0 {
        return Err(Error::OtherMachine("a 32-bit executable"));
    }
    if ident[5] != elf::ELFDATA2LSB.0 || u16::from_le_bytes([ident[18], ident[19]]) != elf::EM_X86_64.0 {
        return Err(Error::OtherMachine("an executable for another processor"));
    }
    let bytes = window.get(0, size_of::<elf::FileHeader64<LE>>())?;
    let (header, _) = pod::from_bytes::<elf::FileHeader64<LE>>(bytes)
        .map_err(|()| Error::Malformed { what: "ELF header", at: 0 })?;
    if !matches!(header.e_type.get(LE), elf::ET_EXEC | elf::ET_DYN) {
        return Err(Error::NotGo("no executable"));
    }
    Ok(*header)
}

type Segments = (Vec<Segment>, Option<(u64, u64)>);

fn read_segments(window: &mut Window<'_>, header: &elf::FileHeader64<LE>) -> Result<Segments> {
    const SIZE: usize = size_of::<elf::ProgramHeader64<LE>>();
    let (table, count) = (header.e_phoff.get(LE), header.e_phnum.get(LE));
    if count > MAX_SEGMENTS || usize::from(header.e_phentsize.get(LE)) != SIZE {
        return Err(Error::Malformed { what: "program header table", at: table });
    }
    let (mut segments, mut dynamic) = (Vec::new(), None);
    for index in 0..u64::from(count) {
        let at = table.saturating_add(index * SIZE as u64);
        let bytes = window.get(at, SIZE)?;
        let (entry, _) = pod::from_bytes::<elf::ProgramHeader64<LE>>(bytes)
            .map_err(|()| Error::Malformed { what: "program header", at })?;
        match entry.p_type.get(LE) {
            elf::PT_LOAD => segments.push(segment(entry, at)?),
            elf::PT_DYNAMIC => dynamic = Some((entry.p_offset.get(LE), entry.p_filesz.get(LE))),
            _ => {}
        }
    }
    Ok((segments, dynamic))
}

fn segment(entry: &elf::ProgramHeader64<LE>, at: u64) -> Result<Segment> {
    let flags = entry.p_flags.get(LE);
    let segment = Segment {
        address: entry.p_vaddr.get(LE),
        offset: entry.p_offset.get(LE),
        file_size: entry.p_filesz.get(LE),
        memory_size: entry.p_memsz.get(LE),
        executable: flags.0 & elf::PF_X.0 != 0,
        writable: flags.0 & elf::PF_W.0 != 0,
    };
    let wraps = segment.address.checked_add(segment.memory_size.max(segment.file_size)).is_none()
        || segment.offset.checked_add(segment.file_size).is_none();
    if wraps { Err(Error::Malformed { what: "segment", at }) } else { Ok(segment) }
}

fn read_sections(window: &mut Window<'_>, header: &elf::FileHeader64<LE>) -> Result<Vec<Section>> {
    const SIZE: usize = size_of::<elf::SectionHeader64<LE>>();
    let (table, count) = (header.e_shoff.get(LE), header.e_shnum.get(LE).min(MAX_SECTIONS));
    if table == 0 || usize::from(header.e_shentsize.get(LE)) != SIZE {
        return Ok(Vec::new());
    }
    let mut headers = Vec::new();
    for index in 0..u64::from(count) {
        let at = table.saturating_add(index * SIZE as u64);
        let (entry, _) = pod::from_bytes::<elf::SectionHeader64<LE>>(window.get(at, SIZE)?)
            .map_err(|()| Error::Malformed { what: "section header", at })?;
        headers.push(*entry);
    }
    let Some(names) = headers.get(usize::from(header.e_shstrndx.get(LE).0)) else { return Ok(Vec::new()) };
    let names = names.sh_offset.get(LE);
    headers.iter().map(|entry| section(window, names, entry)).collect()
}

fn section(window: &mut Window<'_>, names: u64, entry: &elf::SectionHeader64<LE>) -> Result<Section> {
    let name = names.saturating_add(u64::from(entry.sh_name.get(LE)));
    Ok(Section {
        name: window.c_string(name, MAX_SECTION_NAME)?,
        kind: entry.sh_type.get(LE),
        address: entry.sh_addr.get(LE),
        offset: entry.sh_offset.get(LE),
        size: entry.sh_size.get(LE),
        link: entry.sh_link.get(LE),
    })
}
