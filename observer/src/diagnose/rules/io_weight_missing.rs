//! A cgroup that waits for block devices and has no claim to them.

use super::io_pressure::waiting;
use crate::diagnose::{Case, Rule, Said};
use crate::model::view::{Io, Severity};

pub(super) const RULE: Rule = Rule {
    name: "io-weight-missing",
    when: "io-pressure applies, and the cgroup has no I/O weight or the default one.",
    why: "Then every cgroup has the same claim to the device, however much the others do.",
    explains: &[],
    check: |case| check(case).into_iter().collect(),
};

fn check(case: &Case<'_>) -> Option<Said> {
    waiting(case)?;
    let io = case.cgroup?.io.as_ref();
    let summary = match io {
        None => "the io controller is not there, so no cgroup has a weight at block devices".to_owned(),
        Some(Io { weight: None, .. }) => "the cgroup has no weight at block devices".to_owned(),
        Some(io) if io.weight == io.default_weight => {
            format!("the cgroup has the default weight at block devices, {}", io.weight.unwrap_or_default())
        }
        Some(_) => return None,
    };
    let advice = "Enable the io controller and set io.weight (systemd: IOWeight=) above that of the neighbours; a weight \
                  needs a scheduler that honours it (bfq, or io.cost)."
        .to_owned();
    Some(Said::new(Severity::Info, summary, advice).maybe("io_weight", io.and_then(|io| io.weight)))
}
