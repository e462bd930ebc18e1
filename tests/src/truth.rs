//! What a target's own runtime says, and the comparison with what observer says.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// A fixture's answer to `truth`: see `fixtures/internal/protocol`.
#[derive(Debug, Clone, Deserialize)]
pub struct Truth {
    /// `runtime.NumGoroutine()`.
    pub num_goroutine: u64,
    /// Goroutines in the runtime's dump.
    pub stacks: u64,
    /// The dump, counted by `go` statement.
    pub callsites: Vec<TrueCallsite>,
}

/// One `go` statement in the target's view.
#[derive(Debug, Clone, Deserialize)]
pub struct TrueCallsite {
    /// Function with the `go` statement; empty for goroutines that the runtime started.
    pub created_by: String,
    /// Outermost function of the stack.
    pub entry: String,
    /// Source file of the `go` statement.
    pub file: String,
    /// Its line.
    pub line: u64,
    /// Goroutines.
    pub count: u64,
    /// Goroutines by what the dump has in brackets.
    pub states: BTreeMap<String, u64>,
}

/// Live goroutines by callsite, in an order and a form that can be compared.
pub type Live = BTreeMap<Key, u64>;

/// What tells callsites apart for a person: function, entry, file, line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Function with the `go` statement.
    pub created_by: String,
    /// Function the goroutine runs.
    pub entry: String,
    /// Source file and line of the `go` statement.
    pub at: String,
}

impl Key {
    fn new(created_by: &str, entry: &str, file: &str, line: u64) -> Self {
        if created_by.is_empty() || created_by.starts_with("runtime.") {
            // The dump doesn't say how the runtime started main and its own helpers.
            return Self { created_by: "runtime".into(), entry: String::new(), at: String::new() };
        }
        let created_by = without_type_arguments(created_by);
        let entry = match created_by.as_str() {
            // The runtime hides its own outermost frame of a coroutine.
            "iter.Pull[...]" => "runtime.corostart",
            // `fixtures/gowrap`: what is called there shows in a stack only.
            name if name.starts_with("main.startIndirect") => "",
            _ => entry,
        };
        Self { created_by, entry: without_type_arguments(entry), at: format!("{file}:{line}") }
    }
}

/// Writes `f[go.shape.int]` as the runtime prints it: `f[...]`.
fn without_type_arguments(name: &str) -> String {
    match (name.find('['), name.rfind(']')) {
        (Some(open), Some(close)) if open < close => format!("{}[...]{}", &name[..open], &name[close + 1..]),
        _ => name.to_owned(),
    }
}

impl Truth {
    /// Live goroutines by callsite.
    #[must_use]
    pub fn live(&self) -> Live {
        let mut live = Live::new();
        for site in &self.callsites {
            let key = Key::new(&site.created_by, &site.entry, &site.file, site.line);
            *live.entry(key).or_default() += site.count;
        }
        live
    }

    /// Goroutines by state or wait reason.
    #[must_use]
    pub fn states(&self) -> BTreeMap<String, u64> {
        let mut states = BTreeMap::new();
        for (state, count) in self.callsites.iter().flat_map(|site| &site.states) {
            *states.entry(state.clone()).or_default() += count;
        }
        states
    }
}

/// Live goroutines by callsite from one line of `observer attach --output json`; callsites without live
/// goroutines are left out.
///
/// # Errors
/// When the line breaks the contract.
pub fn observed(line: &Value) -> Result<Live> {
    let mut live = Live::new();
    for site in line["callsites"].as_array().with_context(|| format!("no callsites in {line}"))? {
        let text = |name: &str| site[name].as_str().with_context(|| format!("no {name} in {site}"));
        let number = |name: &str| site[name].as_u64().with_context(|| format!("no {name} in {site}"));
        if number("live")? > 0 {
            let key = Key::new(text("created_by")?, text("entry")?, text("file")?, number("line")?);
            *live.entry(key).or_default() += number("live")?;
        }
    }
    Ok(live)
}

/// Compares one line of `observer attach` with the target's own view, callsite by callsite.
///
/// # Errors
/// Lists the callsites in which they differ.
pub fn compare(truth: &Truth, line: &Value) -> Result<()> {
    let (expected, seen) = (truth.live(), observed(line)?);
    let mut differences = Vec::new();
    for key in expected.keys().chain(seen.keys().filter(|key| !expected.contains_key(key))) {
        let (want, got) = (expected.get(key).unwrap_or(&0), seen.get(key).unwrap_or(&0));
        if want != got {
            differences.push(format!("  {key:?}: target {want}, observer {got}"));
        }
    }
    ensure!(differences.is_empty(), "callsites differ:\n{}", differences.join("\n"));
    let total = line["goroutines"].as_u64().context("no goroutines")?;
    ensure!(total == truth.num_goroutine, "observer counts {total}, NumGoroutine {}", truth.num_goroutine);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn truth(count: u64) -> Truth {
        serde_json::from_value(json!({
            "num_goroutine": count + 1, "stacks": count + 1,
            "callsites": [
                {"created_by": "", "entry": "main.main", "file": "", "line": 0, "count": 1, "states": {}},
                {"created_by": "main.f", "entry": "main.g[...]", "file": "/m.go", "line": 7, "count": count,
                 "states": {"select": count}},
            ],
        }))
        .unwrap()
    }

    fn line(live: u64) -> Value {
        json!({"goroutines": live + 1, "callsites": [
            {"created_by": "runtime.rt0_go", "entry": "runtime.main", "file": "a", "line": 1, "live": 1},
            {"created_by": "main.f", "entry": "main.g[go.shape.int]", "file": "/m.go", "line": 7, "live": live},
            {"created_by": "main.gone", "entry": "main.h", "file": "/m.go", "line": 9, "live": 0},
        ]})
    }

    /// Equal counts pass whatever the spelling of type arguments; one goroutine more or less is a difference.
    #[test]
    fn comparison_sees_a_single_goroutine() {
        compare(&truth(5), &line(5)).unwrap();
        assert!(compare(&truth(5), &line(4)).unwrap_err().to_string().contains("target 5, observer 4"));
        assert!(compare(&truth(5), &line(6)).is_err());
    }

    /// A total that isn't NumGoroutine is reported even when every callsite agrees.
    #[test]
    fn comparison_sees_a_wrong_total() {
        let mut wrong = line(5);
        wrong["goroutines"] = json!(99);
        assert!(compare(&truth(5), &wrong).unwrap_err().to_string().contains("99"));
    }
}
