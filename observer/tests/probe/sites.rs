//! Finds probe sites by a fixture's symbols: the simplest way, and not the product's.

use std::fs;
use std::path::Path;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, Register};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use observer::gobin::sites::Site;
use observer_ebpf::abi::Probe;

/// Bytes of a site that are compared: its instruction and some of what follows.
const SITE_BYTES: usize = 8;

pub(crate) struct Symbols {
    /// `(address, size, name)`, sorted.
    functions: Vec<(u64, u64, String)>,
    pub(crate) text_address: u64,
    text_offset: u64,
    pub(crate) text: Vec<u8>,
}

impl Symbols {
    pub(crate) fn read(executable: &Path) -> Self {
        let bytes = fs::read(executable).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let text = file.section_by_name(".text").unwrap();
        let mut functions: Vec<_> = file
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0)
            .map(|symbol| (symbol.address(), symbol.size(), symbol.name().unwrap().to_owned()))
            .collect();
        functions.sort();
        Self {
            functions,
            text_address: text.address(),
            text_offset: text.file_range().unwrap().0,
            text: text.data().unwrap().to_vec(),
        }
    }

    pub(crate) fn function_at(&self, address: u64) -> &str {
        let index = self.functions.partition_point(|(start, ..)| *start <= address) - 1;
        let (start, size, name) = &self.functions[index];
        assert!(address - start <= *size, "{address:#x} is in no function");
        name
    }

    pub(crate) fn sites(&self) -> Vec<Site> {
        let create = self.call("runtime.newproc.func1", "runtime.runqput").unwrap();
        let exit = self.after_stack_check("runtime.gdestroy");
        let exit = exit.or_else(|| self.after_stack_check("runtime.goexit0")).unwrap();
        let mut sites = vec![self.site(Probe::Create, create), self.site(Probe::Exit, exit)];
        if let Some(coroutine) = self.call("runtime.newcoro.func1", "runtime.newproc1") {
            sites.push(self.site(Probe::CreateCoroutine, coroutine));
        }
        let waits = [
            (Probe::Run, "runtime.execute"),
            (Probe::Ready, "runtime.ready"),
            (Probe::Park, "runtime.park_m"),
        ];
        sites.extend(
            waits.map(|(probe, function)| self.site(probe, self.after_stack_check(function).unwrap())),
        );
        sites
    }

    pub(crate) fn site(&self, probe: Probe, address: u64) -> Site {
        let start = (address - self.text_address) as usize;
        Site {
            probe,
            address,
            file_offset: start as u64 + self.text_offset,
            bytes: self.text[start..start + SITE_BYTES].to_vec(),
            function: "",
            instruction: "",
        }
    }

    fn call(&self, function: &str, callee: &str) -> Option<u64> {
        let target = self.address(callee)?;
        let call =
            |i: &Instruction| i.flow_control() == FlowControl::Call && i.near_branch_target() == target;
        self.instructions(function)?.into_iter().find(call).map(|i| i.ip())
    }

    /// The `push %rbp` behind the stack check, or the check's jump in a Go that has none.
    fn after_stack_check(&self, function: &str) -> Option<u64> {
        let code = self.instructions(function)?;
        let jump = code.iter().position(|i| i.flow_control() == FlowControl::ConditionalBranch)?;
        let push =
            code[jump + 1].mnemonic() == Mnemonic::Push && code[jump + 1].op0_register() == Register::RBP;
        Some(code[if push { jump + 1 } else { jump }].ip())
    }

    fn instructions(&self, function: &str) -> Option<Vec<Instruction>> {
        let (address, size, _) = self.functions.iter().find(|(.., name)| name == function)?;
        let start = (address - self.text_address) as usize;
        let code = &self.text[start..start + *size as usize];
        Some(Decoder::with_ip(64, code, *address, DecoderOptions::NONE).into_iter().collect())
    }

    fn address(&self, function: &str) -> Option<u64> {
        Some(self.functions.iter().find(|(.., name)| name == function)?.0)
    }
}
