//! `deploy/METRICS.md`, written from the definitions.

use std::fmt::Write;

use super::{Identity, Metric, SECTIONS};

const INTRODUCTION: &str = "\
# Metrics

Written from the definitions in `observer/src/export/metrics/`; a test compares. To write it anew:
`UPDATE_GOLDEN=1 cargo test -p observer --lib export::`.

- **Identity.** Metrics about processes have the labels `namespace`, `pod`, `container`, `unit` and `process`,
  metrics about cgroups the same without `process`; a label without a value is absent. Scrape with
  `honor_labels: true`, or Prometheus renames `namespace`, `pod` and `container`.
- **Equal identity.** Processes (cgroups) with equal labels are one series: their sum, unless the description
  says otherwise. A limit that one ancestor sets for several of them counts once, and where one of them is
  unlimited, all are.
- **Absent** means unlimited for a limit, and unknown for everything else. It never means 0.
- **`pid`**, cgroup path and executable are on `observer_target_info` only; join on the identity labels.
- **Label values** are at most 256 bytes, and control characters in them are replaced by U+FFFD.
";

/// The text of `deploy/METRICS.md`.
#[must_use]
pub fn metrics_reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    for section in &SECTIONS {
        // Writing to a string can't fail.
        _ = write!(
            text,
            "\n## {}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n",
            section.title
        );
        for metric in section.metrics {
            _ = writeln!(
                text,
                "| `{}` | {} | {} | {} |",
                metric.name,
                metric.kind.name(),
                labels(metric),
                metric.help.replace('|', "\\|"),
            );
        }
    }
    text
}

fn labels(metric: &Metric) -> String {
    let identity = match metric.identity {
        Identity::Process => Some("*process*".to_owned()),
        Identity::Cgroup => Some("*cgroup*".to_owned()),
        Identity::Observer => None,
    };
    let own = metric.labels.iter().map(|label| format!("`{label}`"));
    identity.into_iter().chain(own).collect::<Vec<_>>().join(", ")
}
