//! Probe sites: the one instruction of a runtime function on which a probe is put.
//!
//! A site must be an instruction that the kernel emulates (no single step), must run once per event
//! (on g0, or behind the stack check), and must have the goroutine in a register that the probe knows.

use iced_x86::{Instruction, Mnemonic, Register};
use observer_ebpf::abi::{Group, Probe};
use rustc_hash::FxHashMap;

use super::code::Code;
use super::elf::Image;
use super::error::Result;
use super::pclntab::Function;
use super::source::Source;

/// Functions that sites are looked for in, or that calls at sites lead to.
pub const FUNCTIONS: [&str; 9] = [
    "runtime.newproc.func1",
    "runtime.runqput",
    "runtime.newcoro.func1",
    "runtime.newproc1",
    "runtime.gdestroy",
    "runtime.goexit0",
    "runtime.execute",
    "runtime.ready",
    "runtime.park_m",
];

/// A `push %rbp` alone is one byte, which stands everywhere: so many bytes say more.
const SITE_BYTES: usize = 8;

/// One verified instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The probe that belongs there.
    pub probe: Probe,
    /// Function that contains it.
    pub function: &'static str,
    /// Link-time address.
    pub address: u64,
    /// Offset in the file.
    pub file_offset: u64,
    /// The instruction's bytes and some behind it, which must stand in the file and in memory when the probe
    /// is attached.
    pub bytes: Vec<u8>,
    /// The instruction in words.
    pub instruction: &'static str,
}

/// The sites of one executable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sites {
    /// What was found.
    pub found: Vec<Site>,
    /// Sites that should be there and weren't found.
    pub missing: Vec<Missing>,
}

/// A site that wasn't found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The group of probes that can't be used without.
    pub group: Group,
    /// Why, in words.
    pub reason: String,
}

impl Sites {
    /// Looks for all sites.
    ///
    /// # Errors
    /// When code can't be read from the file.
    pub fn find(source: &dyn Source, image: &Image, functions: &FxHashMap<String, Function>) -> Result<Self> {
        let finder = Finder { source, image, functions };
        let mut sites = Self::default();
        sites.take(Probe::Create, finder.call(Probe::Create, "runtime.newproc.func1", "runtime.runqput")?);
        // Programs without coroutines don't link newcoro: no site is missing then.
        if functions.contains_key("runtime.newcoro.func1") {
            let probe = Probe::CreateCoroutine;
            sites.take(probe, finder.call(probe, "runtime.newcoro.func1", "runtime.newproc1")?);
        }
        // Go 1.22 split gdestroy off goexit0; coroutines end in gdestroy only.
        let end =
            ["runtime.gdestroy", "runtime.goexit0"].into_iter().find(|name| functions.contains_key(*name));
        let end = end.unwrap_or("runtime.goexit0");
        sites.take(Probe::Exit, finder.behind_stack_check(Probe::Exit, end)?);
        // In this order they are attached: nothing parks unseen by what ends a wait.
        for (probe, function) in [
            (Probe::Run, "runtime.execute"),
            (Probe::Ready, "runtime.ready"),
            (Probe::Park, "runtime.park_m"),
        ] {
            sites.take(probe, finder.behind_stack_check(probe, function)?);
        }
        Ok(sites)
    }

    /// Why a group of probes can't be used, if so: one without the others misleads.
    #[must_use]
    pub fn lacks(&self, group: Group) -> Option<String> {
        let reasons: Vec<&str> = self
            .missing
            .iter()
            .filter(|missing| missing.group == group)
            .map(|missing| missing.reason.as_str())
            .collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    fn take(&mut self, probe: Probe, site: std::result::Result<Site, String>) {
        match site {
            Ok(site) => self.found.push(site),
            Err(reason) => self.missing.push(Missing { group: probe.group(), reason }),
        }
    }
}

struct Finder<'a> {
    source: &'a dyn Source,
    image: &'a Image,
    functions: &'a FxHashMap<String, Function>,
}

type Found = Result<std::result::Result<Site, String>>;

impl Finder<'_> {
    /// The direct call of `callee` in `name`.
    fn call(&self, probe: Probe, name: &'static str, callee: &'static str) -> Found {
        let (Some(function), Some(target)) = (self.functions.get(name), self.functions.get(callee)) else {
            return Ok(Err(format!("no function {name} or {callee}")));
        };
        let code = Code::read(self.source, self.image, function)?;
        let site = code.call_of(target.entry).filter(|call| code.bytes_from(call, 1).first() == Some(&0xe8));
        Ok(site
            .and_then(|call| self.site(probe, name, &code, &call, "call rel32"))
            .ok_or_else(|| format!("no direct call of {callee} in {name}")))
    }

    /// `push %rbp` right behind the stack check's `jbe` (Go 1.21 and newer), else that `jbe`, which is as
    /// good in a function that only runs on g0, whose stack never grows.
    fn behind_stack_check(&self, probe: Probe, name: &'static str) -> Found {
        let Some(function) = self.functions.get(name) else { return Ok(Err(format!("no function {name}"))) };
        let code = Code::read(self.source, self.image, function)?;
        let head: Vec<Instruction> = code.instructions().take(5).collect();
        let check = head.iter().position(|instruction| instruction.mnemonic() == Mnemonic::Jbe);
        let site = check.and_then(|index| match head.get(index + 1) {
            Some(push) if push.mnemonic() == Mnemonic::Push && push.op0_register() == Register::RBP => {
                self.site(probe, name, &code, push, "push %rbp")
            }
            _ => self.site(probe, name, &code, &head[index], "jbe"),
        });
        Ok(site.ok_or_else(|| format!("no stack check at the start of {name}")))
    }

    fn site(
        &self,
        probe: Probe,
        function: &'static str,
        code: &Code,
        instruction: &Instruction,
        words: &'static str,
    ) -> Option<Site> {
        let address = instruction.ip();
        Some(Site {
            probe,
            function,
            address,
            file_offset: self.image.offset(address)?,
            bytes: code.bytes_from(instruction, SITE_BYTES).to_vec(),
            instruction: words,
        })
    }
}
