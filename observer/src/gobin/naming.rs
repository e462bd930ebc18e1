//! Names for people: which `go` statement, and which function it starts.

use super::GoBinary;
use super::code::Code;
use super::error::Result;
use super::inline::Tree;
use super::kind::Kind;
use super::pclntab::Function;
use super::source::{Budget, Source};
use super::version::GoVersion;

/// The most of a name that is kept; compilers make much longer ones for generics and closures.
const MAX_NAME: usize = 256;

/// What naming one callsite may read: some binary searches, and the tables and code of a small function.
pub(super) const MAX_READ: u64 = 4 << 20;
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
                clip(display(&self.table.name(source, function)?, self.version), MAX_NAME),
                self.table.line(source, function, gopc.saturating_sub(1))?,
            ),
            None => (String::new(), None),
        };
        let (file, line) = place.unwrap_or_default();
        Ok(CallsiteName { created_by, entry, file: clip(file, MAX_NAME), line })
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

    /// The function that a goroutine runs; of a wrapper what it wraps. Empty when `entry` is in no function.
    ///
    /// # Errors
    /// When the function table is malformed.
    pub fn entry_name(&self, source: &dyn Source, entry: u64) -> Result<String> {
        let Some(function) = self.table.lookup(source, self.module.text, entry)? else {
            return Ok(String::new());
        };
        if Kind::of(self.version, function.id) == Kind::Wrapper
            // Its own name is better than none.
            && let Ok(Some(wrapped)) = self.wrapped(source, &function)
        {
            return Ok(clip(display(&wrapped, self.version), MAX_NAME));
        }
        Ok(clip(display(&self.table.name(source, &function)?, self.version), MAX_NAME))
    }

    /// What a wrapper such as `main.main.gowrap1` wraps: the one function that it calls, or that was inlined
    /// into it. `None` when that isn't clear.
    fn wrapped(&self, source: &dyn Source, wrapper: &Function) -> Result<Option<String>> {
        let tree = match self.module.gofunc {
            Some(gofunc) => Tree::read(source, &self.image, &self.table, wrapper, gofunc)?,
            None => None,
        };
        let mut names = tree.as_ref().map_or(Ok(Vec::new()), |tree| tree.direct(&self.table))?;
        let code = Code::read(source, &self.image, wrapper)?;
        // What an inlined function calls is not called by the wrapper.
        let inlined = |at| tree.as_ref().is_some_and(|tree| tree.covers(at));
        let own = code.direct_calls().filter(|(at, _)| !inlined(*at)).take(MAX_CALLS);
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

/// A function's name as the runtime prints it: type arguments become `[...]`
/// (`runtime.funcNamePiecesForPrint`).
pub(super) fn display(name: &str, version: GoVersion) -> String {
    let (Some(open), Some(close)) = (name.find('['), name.rfind(']')) else { return name.to_owned() };
    if close <= open {
        return name.to_owned();
    }
    let (before, inside, after) = (&name[..open], &name[open + 1..close], &name[close + 1..]);
    if version.minor < 27 {
        return format!("{before}[...]{after}");
    }
    // Go 1.27 has generic methods, so that a name can have two lists of type arguments.
    match between_lists(inside) {
        Lists::One => format!("{before}[...]{after}"),
        Lists::Two(between) => format!("{before}[...]{between}[...]{after}"),
        Lists::Unbalanced => name.to_owned(),
    }
}

enum Lists<'a> {
    One,
    Two(&'a str),
    Unbalanced,
}

/// Looks between the first `[` and the last `]` of a name for the end of one list and the begin of another.
fn between_lists(inside: &str) -> Lists<'_> {
    if !inside.contains('[') {
        return Lists::One;
    }
    let (mut depth, mut end) = (1, None);
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            b'[' if depth == 0 => {
                return end.map_or(Lists::Unbalanced, |end: usize| Lists::Two(&inside[end + 1..at]));
            }
            b'[' => depth += 1,
            b']' => {
                depth -= 1;
                if depth < 0 {
                    return Lists::Unbalanced;
                }
                if depth == 0 {
                    end = Some(at);
                }
            }
            _ => {}
        }
    }
    if depth == 1 && end.is_none() { Lists::One } else { Lists::Unbalanced }
}

/// The first `max` bytes of a text, or fewer, so that no character is split.
pub(super) fn clip(mut text: String, max: usize) -> String {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{GoVersion, clip, display};

    /// Generic functions are shown as the runtime shows them.
    #[test]
    fn type_arguments_are_hidden() {
        let shown = |name: &str, minor| display(name, GoVersion { minor, patch: 0 });
        for minor in [19, 27] {
            assert_eq!(shown("main.Map[go.shape.int,go.shape.[]string].func1", minor), "main.Map[...].func1");
            assert_eq!(shown("main.(*Cache[...]).run", minor), "main.(*Cache[...]).run");
            assert_eq!(shown("main.f", minor), "main.f");
        }
        assert_eq!(shown("main.T[[4]int].M[go.shape.int].func1", 27), "main.T[...].M[...].func1");
        assert_eq!(shown("main.T[[4]int].M[go.shape.int].func1", 26), "main.T[...].func1");
        for unbalanced in ["main.a]b[", "main.a[b]]c[d]", "main.[[a]"] {
            assert_eq!(shown(unbalanced, 27), unbalanced);
        }
    }

    /// A name is cut at a character, not inside one.
    #[test]
    fn long_names_are_cut() {
        assert_eq!(clip("ü".repeat(200), 256).len(), 256);
        assert_eq!(clip(format!("a{}", "ü".repeat(200)), 256).len(), 255);
    }
}
