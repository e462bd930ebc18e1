//! What probes may cost, as `serve`, `attach` and `doctor` are told.

use clap::Args;

use crate::probe::governor::{Budget, Budgets};

#[derive(Args)]
pub(super) struct Allowed {
    /// What probes may cost each process, as a share of one CPU: 1%, unlimited or off
    #[arg(long, value_name = "SHARE", env = "OBSERVER_OVERHEAD_BUDGET", default_value = "1%")]
    overhead_budget: Budget,
    /// What probes may cost all processes together: 5% of one CPU, or unlimited if --overhead-budget is
    #[arg(long, value_name = "SHARE", env = "OBSERVER_NODE_OVERHEAD_BUDGET")]
    node_overhead_budget: Option<Budget>,
}

impl Allowed {
    pub(super) fn budgets(&self) -> Budgets {
        let node = match self.overhead_budget {
            Budget::Unlimited => Budget::Unlimited,
            _ => Budgets::default().node,
        };
        Budgets { target: self.overhead_budget, node: self.node_overhead_budget.unwrap_or(node) }
    }
}
