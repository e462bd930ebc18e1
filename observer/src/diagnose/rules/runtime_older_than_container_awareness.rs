//! A Go runtime that doesn't know CPU limits.

use crate::diagnose::{Case, Rule, Said};
use crate::gobin::version::GoVersion;
use crate::model::view::{Severity, Source};

/// The first minor version of Go 1 whose GOMAXPROCS follows the cgroup's CPU limit.
const AWARE: u32 = 25;

pub(super) const RULE: Rule = Rule {
    name: "runtime-older-than-container-awareness",
    when: "The program was built with a Go older than 1.25, nobody set GOMAXPROCS, and gomaxprocs-above-limit applies.",
    why: "Such a runtime takes GOMAXPROCS from the machine's CPUs, whatever the cgroup's limit is.",
    explains: &[],
    check: |case| check(case).into_iter().collect(),
};

fn check(case: &Case<'_>) -> Option<Said> {
    let gomaxprocs = case.gomaxprocs_above_limit()?;
    let version = case.target.go_version.clone()?;
    let known = GoVersion::parse(&version)?;
    let set = matches!(case.runtime()?.gomaxprocs_source, Some(Source::Environment | Source::Call));
    if known.minor >= AWARE || set || case.target.usable_cpus != Some(gomaxprocs) {
        return None;
    }
    let (limit, fitting) = (case.cpu_limit()?, case.fitting_gomaxprocs()?);
    let summary = format!(
        "{version} took GOMAXPROCS {gomaxprocs} from the machine's CPUs; it doesn't know of the CPU limit of {:.2} cores",
        limit.value
    );
    let advice = format!("Build with Go 1.25 or newer (and say so in go.mod), or set GOMAXPROCS={fitting}.");
    let said = Said::new(Severity::Info, summary, advice)
        .with("go_version", version)
        .with("gomaxprocs", gomaxprocs)
        .with("cpu_limit_cores", limit.value)
        .with("gomaxprocs_fitting", fitting);
    Some(said)
}
