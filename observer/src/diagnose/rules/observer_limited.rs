//! What could not be seen.

use crate::diagnose::{Case, Rule, Said};
use crate::model::view::Severity;

pub(super) const RULE: Rule = Rule {
    name: "observer-limited",
    when: "The newest snapshot misses goroutines.",
    why: "Its counts are lower bounds, and a rule that says nothing may have missed something. A process of which nothing \
          could be read has no findings at all: `observer list` says why.",
    check: |case| check(case).into_iter().collect(),
};

fn check(case: &Case<'_>) -> Option<Said> {
    let goroutines = case.target.goroutines.as_ref().filter(|goroutines| !goroutines.complete)?;
    let summary = format!("not all goroutines could be read: {} were", goroutines.user + goroutines.system);
    let advice = "Look again when the machine is less busy; if it stays so, please report it.".to_owned();
    let said = Said::new(Severity::Info, summary, advice)
        .with("goroutines_read", goroutines.user + goroutines.system)
        .with("goroutines_torn", goroutines.torn);
    Some(said)
}
