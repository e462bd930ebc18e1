//! What an executable tells of itself. Bytes in, values out: this stage does no IO of its own.
//!
//! Recognised once per file, kept as long as a process runs it: [`GoBinary`] holds places and tables of
//! contents, never copies of the tables; names are looked up in the file when they are needed.

pub mod buildinfo;
pub mod code;
pub mod elf;
pub mod error;
pub mod frames;
pub mod globals;
pub mod inline;
pub mod kind;
pub mod layout;
pub mod moduledata;
pub mod naming;
pub mod pclntab;
pub mod places;
pub mod sites;
pub mod source;
pub mod symbols;
pub mod tls;
pub mod version;

use buildinfo::BuildInfo;
use elf::Image;
use error::{Error, Result};
use globals::{Evidence, Globals};
use layout::Layout;
use moduledata::ModuleData;
use pclntab::Pclntab;
use sites::Sites;
use source::{Budget, Source};
use version::GoVersion;

/// Everything that was found in a Go executable. Addresses are link-time addresses.
#[derive(Debug, Clone)]
pub struct GoBinary {
    /// Version and settings of the build.
    pub build: BuildInfo,
    /// Its Go version.
    pub version: GoVersion,
    /// Segments and sections.
    pub image: Image,
    /// The function table.
    pub table: Pclntab,
    /// Where text and data are.
    pub module: ModuleData,
    /// Layouts of the runtime's structures to try in order, until one passes the self-checks.
    pub layouts: Layouts,
    /// The runtime's global variables.
    pub globals: Globals,
    /// Where probes go.
    pub sites: Sites,
    /// Where threads keep the pointer to their current `g`, see [`tls::offset`].
    pub tls_offset: Option<i64>,
}

/// Which layouts fit a Go version.
#[derive(Debug, Clone, Copy)]
pub enum Layouts {
    /// Measured for this minor version.
    Measured(&'static Layout),
    /// None was measured for this version: a neighbour's is tried, and only what can be checked against
    /// the target's memory is believed.
    Tried(&'static Layout, u32),
}

impl Layouts {
    /// The layout to read with.
    #[must_use]
    pub const fn layout(&self) -> &'static Layout {
        match self {
            Self::Measured(layout) | Self::Tried(layout, _) => layout,
        }
    }

    /// Where it comes from, in words.
    #[must_use]
    pub fn describe(&self, version: GoVersion) -> String {
        match self {
            Self::Measured(_) => format!("measured for Go 1.{}", version.minor),
            Self::Tried(_, minor) => {
                format!("not measured for Go 1.{}: Go 1.{minor}'s, with self-checks", version.minor)
            }
        }
    }

    fn choose(version: GoVersion) -> Result<Self> {
        if version < GoVersion::OLDEST {
            return Err(Error::Unsupported(format!("built by {version}; observer reads Go 1.19 and newer")));
        }
        if let Some(layout) = layout::for_minor(version.minor) {
            return Ok(Self::Measured(layout));
        }
        let (minor, layout) = layout::newest_below(version.minor)
            .ok_or_else(|| Error::Unsupported(format!("no structure layout is known for {version}")))?;
        Ok(Self::Tried(layout, minor))
    }
}

impl GoBinary {
    /// Reads an executable.
    ///
    /// # Errors
    /// [`Error::NotGo`] when it is someone else's, otherwise why a Go executable can't be observed.
    pub fn analyse(source: &dyn Source) -> Result<Self> {
        let source: &dyn Source = &Budget::analysis(source);
        let image = Image::read(source)?;
        let build = BuildInfo::read(source, &image)?;
        let version = GoVersion::parse(&build.version)
            .ok_or_else(|| Error::Unsupported(format!("unknown Go version {:?}", build.version)))?;
        let layouts = Layouts::choose(version)?;
        let (table, module) = Pclntab::find(source, &image, |table| {
            ModuleData::find(source, &image, &table, layouts.layout())
        })?;
        let wanted = |name: &[u8]| {
            name.starts_with(b"runtime.")
                && (globals::uses(name)
                    || tls::FUNCTION.as_bytes() == name
                    || sites::FUNCTIONS.iter().any(|site| site.as_bytes() == name))
        };
        let functions = table.functions_by_name(source, module.text, kind::wrapper_id(version), wanted)?;
        let sites = Sites::find(source, &image, &functions)?;
        let tls_offset = tls::offset(source, &image, &functions)?;
        let globals = Globals::find(&Evidence {
            source,
            image: &image,
            module: &module,
            functions: &functions,
            layout: layouts.layout(),
        })?;
        Ok(Self { build, version, image, table, module, layouts, globals, sites, tls_offset })
    }
}
