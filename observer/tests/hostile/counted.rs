//! A source that counts what is read of it.

use std::cell::Cell;
use std::io;

use observer::gobin::GoBinary;
use observer::gobin::error::Error;
use observer::gobin::source::{Budget, Source};

use crate::random::Random;

/// What naming one callsite, and classifying one entry, may read.
const NAMING: u64 = 4 << 20;

pub(crate) struct Counted<'a> {
    source: &'a dyn Source,
    bytes: Cell<u64>,
    reads: Cell<u64>,
}

impl<'a> Counted<'a> {
    pub(crate) fn new(source: &'a dyn Source) -> Self {
        Self { source, bytes: Cell::new(0), reads: Cell::new(0) }
    }

    pub(crate) fn assert_bounded(&self, limit: u64, what: &str) {
        assert!(self.bytes.get() <= limit, "{what}: {} bytes were read", self.bytes.get());
        assert!(self.reads.get() <= limit / 4096 + 1, "{what}: {} reads", self.reads.get());
        self.bytes.set(0);
        self.reads.set(0);
    }
}

impl Source for Counted<'_> {
    fn size(&self) -> u64 {
        self.source.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.bytes.set(self.bytes.get() + buf.len() as u64);
        self.reads.set(self.reads.get() + 1);
        self.source.read_at(offset, buf)
    }
}

/// Analyses `source`, asks for names if that succeeds, and checks that all of it was bounded and that an
/// error is fit to show.
pub(crate) fn examine(source: &dyn Source, random: &mut Random, what: &str) -> Result<GoBinary, Error> {
    let counted = Counted::new(source);
    let result = GoBinary::analyse(&counted);
    counted.assert_bounded(Budget::for_size(source.size()), what);
    match &result {
        Ok(binary) => {
            for _ in 0..8 {
                let (gopc, entry) = (address(binary, random), address(binary, random));
                // Either answer is right for an address that means nothing.
                let _ = binary.callsite(&counted, gopc, entry);
                counted.assert_bounded(NAMING, what);
                let _ = binary.entry_class(&counted, entry);
                counted.assert_bounded(NAMING, what);
            }
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && text.len() < 1024, "{what}: {text}");
        }
    }
    result
}

fn address(binary: &GoBinary, random: &mut Random) -> u64 {
    let module = &binary.module;
    match random.below(4) {
        0 => random.extreme(),
        1 => module.text_end.wrapping_sub(random.below(4)),
        _ => module.text.wrapping_add(random.below(module.text_end - module.text)),
    }
}
