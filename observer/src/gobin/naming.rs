//! Names for people: which `go` statement, and which function it starts.

use super::GoBinary;
use super::code::Code;
use super::error::Result;
use super::inline::{self, Inlined};
use super::pclntab::Function;
use super::source::{Budget, Source};

/// The most of a name that is kept; compilers make much longer ones for generics and closures.
const MAX_NAME: usize = 256;

/// What naming one callsite may read: some binary searches, and the tables and code of a small function.
const MAX_READ: u64 = 4 << 20;
/// Direct calls of a wrapper that are looked up: it calls what it wraps, and the runtime.
const MAX_CALLS: usize = 16;

/// One `go` statement in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallsiteName {
    /// Function that contains it, as the runtime prints it behind `created by`; empty for the main goroutine.
    pub created_by: String,
    /// Function that the goroutine runs; of a compiler-made wrapper, the function it wraps.
    pub entry: String,
    /// Source file of the statement.
    pub file: String,
    /// Its line; 0 = unknown.
    pub line: u32,
}

/// Whether goroutines with a given entry belong to the runtime itself (`runtime.isSystemGoroutine`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryClass {
    /// A user goroutine.
    User,
    /// A system goroutine.
    System,
    /// Runs finalizers or cleanups: a user goroutine while it is in user code, that is, while it isn't
    /// waiting for work.
    Callbacks,
}

impl GoBinary {
    /// Names the `go` statement behind `gopc` that starts the function at `entry` (link-time addresses).
    ///
    /// # Errors
    /// When the function table is malformed.
    pub fn callsite(&self, source: &dyn Source, gopc: u64, entry: u64) -> Result<CallsiteName> {
        let source: &dyn Source = &Budget::new(source, MAX_READ);
        let entry = self.entry_name(source, entry)?;
        if entry == "runtime.main" {
            // The start-up code makes the main goroutine; what it leaves as gopc is no `go` statement.
            return Ok(CallsiteName { created_by: String::new(), entry, file: String::new(), line: 0 });
        }
        // gopc is a return address: the statement's call ends right before it.
        let creator = self.table.lookup(source, self.module.text, gopc.saturating_sub(1))?;
        let (created_by, place) = match &creator {
            Some(function) => (
                display(&self.table.name(source, function)?),
                self.table.line(source, function, gopc.saturating_sub(1))?,
            ),
            None => (String::new(), None),
        };
        let (file, line) = place.unwrap_or_default();
        Ok(CallsiteName { created_by, entry, file: clip(file), line })
    }

    /// # Errors
    /// When the function table is malformed.
    pub fn entry_class(&self, source: &dyn Source, entry: u64) -> Result<EntryClass> {
        let Some(function) = self.table.lookup(source, self.module.text, entry)? else {
            return Ok(EntryClass::User);
        };
        let name = self.table.name(source, &function)?;
        Ok(match name.as_str() {
            "runtime.main" | "runtime.corostart" | "runtime.handleAsyncEvent" => EntryClass::User,
            "runtime.runfinq" | "runtime.runFinalizers" | "runtime.runCleanups" => EntryClass::Callbacks,
            name if name.starts_with("runtime.") => EntryClass::System,
            _ => EntryClass::User,
        })
    }

    fn entry_name(&self, source: &dyn Source, entry: u64) -> Result<String> {
        let Some(function) = self.table.lookup(source, self.module.text, entry)? else {
            return Ok(String::new());
        };
        if function.id == self.wrapper_id()
            // Its own name is better than none.
            && let Ok(Some(wrapped)) = self.wrapped(source, &function)
        {
            return Ok(display(&wrapped));
        }
        Ok(display(&self.table.name(source, &function)?))
    }

    /// What a wrapper such as `main.main.gowrap1` wraps: the one function that it calls, or that was inlined
    /// into it. `None` when that isn't clear.
    fn wrapped(&self, source: &dyn Source, wrapper: &Function) -> Result<Option<String>> {
        let mut inlined = match self.module.gofunc {
            Some(gofunc) => inline::direct(source, &self.image, &self.table, wrapper, gofunc)?,
            None => Inlined::default(),
        };
        let mut names = std::mem::take(&mut inlined.names);
        let code = Code::read(source, &self.image, wrapper)?;
        // What an inlined function calls is not called by the wrapper.
        let own = code.direct_calls().filter(|(at, _)| !inlined.covers(*at)).take(MAX_CALLS);
        for (_, target) in own {
            if let Some(callee) = self.table.lookup(source, self.module.text, target)? {
                let name = self.table.name(source, &callee)?;
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names.retain(|name| !name.starts_with("runtime."));
        Ok(if names.len() == 1 { names.pop() } else { None })
    }
}

/// A function's name as the runtime prints it: type arguments become `[...]`.
fn display(name: &str) -> String {
    let short = match (name.find('['), name.rfind(']')) {
        (Some(open), Some(close)) if open < close => format!("{}[...]{}", &name[..open], &name[close + 1..]),
        _ => name.to_owned(),
    };
    clip(short)
}

fn clip(mut text: String) -> String {
    if text.len() > MAX_NAME {
        let cut = (0..=MAX_NAME).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0);
        text.truncate(cut);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{clip, display};

    /// Generic functions are shown as the runtime shows them.
    #[test]
    fn type_arguments_are_hidden() {
        assert_eq!(display("main.Map[go.shape.int,go.shape.[]string].func1"), "main.Map[...].func1");
        assert_eq!(display("main.(*Cache[...]).run"), "main.(*Cache[...]).run");
        assert_eq!(display("main.f"), "main.f");
    }

    /// A name is cut at a character, not inside one.
    #[test]
    fn long_names_are_cut() {
        assert_eq!(clip("ü".repeat(200)).len(), 256);
        assert_eq!(clip(format!("a{}", "ü".repeat(200))).len(), 255);
    }
}
