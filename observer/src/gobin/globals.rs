//! Addresses of the runtime's global variables.
//!
//! Stripped executables don't name data, but code refers to it: for each global there are two functions
//! whose k-th distinct reference to Go's writable data is that global, in every Go version from 1.19 on.
//! The symbol table, where there is one, is one more witness. Witnesses that disagree are a refusal:
//! a wrong address would show numbers that look right.

use rustc_hash::FxHashMap;

use super::code::Code;
use super::elf::Image;
use super::error::Result;
use super::layout::Layout;
use super::moduledata::ModuleData;
use super::pclntab::Function;
use super::source::Source;
use super::symbols;

/// Link-time addresses; `None` with a reason in [`Globals::missing`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Globals {
    /// `runtime.allglen`, a `uintptr`.
    pub allglen: Option<u64>,
    /// `runtime.allgptr`, a `**g`.
    pub allgptr: Option<u64>,
    /// `runtime.allp`, a `[]*p`.
    pub allp: Option<u64>,
    /// `runtime.sched`, a `schedt`.
    pub sched: Option<u64>,
    /// `runtime.gomaxprocs`, an `int32`.
    pub gomaxprocs: Option<u64>,
    /// `runtime.gcController`, a `gcControllerState`.
    pub gc_controller: Option<u64>,
    /// `runtime.memstats.numgc`, a `uint32`.
    pub numgc: Option<u64>,
    /// `runtime.waitReasonStrings`, an array of strings.
    pub wait_reasons: Option<u64>,
    /// Why a global is `None`.
    pub missing: Vec<String>,
}

/// Which reference of which function is the global, and what must be subtracted from it.
struct Rule {
    function: &'static str,
    index: usize,
    field: fn(&Layout) -> u64,
}

struct Definition {
    symbol: &'static str,
    /// It has pointers and is never written: a position-independent executable may keep it outside Go's
    /// data, with what is read-only after relocation.
    relro: bool,
    rules: [Rule; 2],
    slot: fn(&mut Globals) -> &mut Option<u64>,
}

const fn rule(function: &'static str, index: usize) -> Rule {
    Rule { function, index, field: |_| 0 }
}

/// Found by searching all runtime functions that Go 1.19 to 1.27 have in common for references whose index
/// never changes, and checked against the symbols of unstripped builds by the tests.
const DEFINITIONS: [Definition; 8] = [
    Definition {
        symbol: "runtime.allglen",
        relro: false,
        rules: [rule("runtime.forEachGRace", 0), rule("runtime.allgadd", 6)],
        slot: |globals| &mut globals.allglen,
    },
    Definition {
        symbol: "runtime.allgptr",
        relro: false,
        rules: [rule("runtime.forEachGRace", 1), rule("runtime.allgadd", 5)],
        slot: |globals| &mut globals.allgptr,
    },
    Definition {
        symbol: "runtime.allp",
        relro: false,
        rules: [rule("runtime.preemptall", 0), rule("runtime.gcMarkTinyAllocs", 0)],
        slot: |globals| &mut globals.allp,
    },
    Definition {
        symbol: "runtime.sched",
        relro: false,
        rules: [
            Rule { function: "runtime.GOMAXPROCS", index: 0, field: |layout| u64::from(layout.sched.lock) },
            Rule { function: "runtime.wakeNetPoller", index: 0, field: |_| 8 },
        ],
        slot: |globals| &mut globals.sched,
    },
    Definition {
        symbol: "runtime.gomaxprocs",
        relro: false,
        rules: [rule("runtime.GOMAXPROCS", 1), rule("runtime.(*scavengerState).init.func4", 0)],
        slot: |globals| &mut globals.gomaxprocs,
    },
    Definition {
        symbol: "runtime.gcController",
        relro: false,
        rules: [rule("runtime.gcControllerCommit", 1), rule("runtime.gcinit", 1)],
        slot: |globals| &mut globals.gc_controller,
    },
    Definition {
        // A member, which no symbol names: the two functions are the only witnesses.
        symbol: "runtime.memstats.numgc",
        relro: false,
        rules: [
            rule("runtime.(*gcCPULimiterState).accumulate", 0),
            rule("runtime.(*gcCPULimiterState).resetCapacity", 0),
        ],
        slot: |globals| &mut globals.numgc,
    },
    Definition {
        symbol: "runtime.waitReasonStrings",
        relro: true,
        rules: [rule("runtime.waitReason.String", 0), rule("runtime.schedtrace.func1", 0)],
        slot: |globals| &mut globals.wait_reasons,
    },
];

/// Whether the rules look into a function.
#[must_use]
pub fn uses(function: &[u8]) -> bool {
    DEFINITIONS
        .iter()
        .flat_map(|definition| &definition.rules)
        .any(|rule| rule.function.as_bytes() == function)
}

/// What the rules look at.
pub struct Evidence<'a> {
    /// The executable.
    pub source: &'a dyn Source,
    /// Its frame.
    pub image: &'a Image,
    /// Where its data is.
    pub module: &'a ModuleData,
    /// Runtime functions by name.
    pub functions: &'a FxHashMap<String, Function>,
    /// The Go version's layouts.
    pub layout: &'a Layout,
}

impl Globals {
    /// Every global by its name in the runtime.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, Option<u64>)> {
        let mut copy = self.clone();
        DEFINITIONS.iter().map(move |definition| (definition.symbol, *(definition.slot)(&mut copy)))
    }

    /// Finds all globals.
    ///
    /// # Errors
    /// When code or symbols can't be read from the file.
    pub fn find(evidence: &Evidence<'_>) -> Result<Self> {
        let names = DEFINITIONS.each_ref().map(|definition| definition.symbol);
        let symbols = symbols::find(evidence.source, evidence.image, &names)?;
        let mut references = FxHashMap::default();
        let mut globals = Self::default();
        for definition in &DEFINITIONS {
            let mut witnesses: Vec<(&str, u64)> = Vec::new();
            witnesses.extend(symbols.get(definition.symbol).map(|address| ("its symbol", *address)));
            for rule in &definition.rules {
                let found = evidence.references(&mut references, rule.function)?;
                let mut data = found.iter().filter(|at| definition.relro || evidence.module.has_data(**at));
                let address =
                    data.nth(rule.index).and_then(|at| at.checked_sub((rule.field)(evidence.layout)));
                witnesses.extend(address.map(|address| (rule.function, address)));
            }
            match agreed(definition.symbol, &witnesses) {
                Ok(address) => *(definition.slot)(&mut globals) = Some(address),
                Err(reason) => globals.missing.push(reason),
            }
        }
        Ok(globals)
    }
}

impl Evidence<'_> {
    /// Distinct addresses in writable segments that a function refers to.
    fn references<'c>(
        &self,
        cache: &'c mut FxHashMap<&'static str, Vec<u64>>,
        name: &'static str,
    ) -> Result<&'c [u64]> {
        if !cache.contains_key(name) {
            let found = match self.functions.get(name) {
                Some(function) => {
                    Code::read(self.source, self.image, function)?.references(|at| self.image.is_writable(at))
                }
                None => Vec::new(),
            };
            cache.insert(name, found);
        }
        Ok(cache.get(name).map_or(&[], Vec::as_slice))
    }
}

/// The address that at least two witnesses name and none disputes.
fn agreed(symbol: &str, witnesses: &[(&str, u64)]) -> std::result::Result<u64, String> {
    match witnesses {
        [] | [_] => Err(format!("{symbol}: found by fewer than two independent rules")),
        [(first, address), rest @ ..] => match rest.iter().find(|(_, other)| other != address) {
            None => Ok(*address),
            Some((second, other)) => {
                Err(format!("{symbol}: {first} says {address:#x}, {second} says {other:#x}"))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::agreed;

    /// One witness is not enough, and a dispute is a refusal that names both sides.
    #[test]
    fn witnesses_must_agree() {
        assert!(agreed("runtime.x", &[]).is_err());
        assert!(agreed("runtime.x", &[("a", 1)]).is_err());
        assert_eq!(agreed("runtime.x", &[("a", 1), ("b", 1)]), Ok(1));
        let dispute = agreed("runtime.x", &[("a", 1), ("b", 1), ("c", 2)]).unwrap_err();
        assert!(dispute.contains("a says 0x1") && dispute.contains("c says 0x2"), "{dispute}");
    }
}
