//! The Go runtime's settings and gauges, as JSON shows them.

use serde::Serialize;

use crate::model::view::{RuntimeView, Source, TargetView};

/// What the runtime says of itself.
#[derive(Debug, Serialize)]
pub struct Runtime {
    /// GOMAXPROCS in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gomaxprocs: Option<u32>,
    /// Who chose it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gomaxprocs_source: Option<&'static str>,
    /// Whether the runtime takes GOMAXPROCS from the CPU limit when nobody else chooses it.
    pub container_aware: bool,
    /// GOGC in force, percent; −1 = off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gogc_percent: Option<i32>,
    /// Who chose it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gogc_source: Option<&'static str>,
    /// GOMEMLIMIT in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gomemlimit_bytes: Option<u64>,
    /// Who chose it, or that there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gomemlimit_source: Option<&'static str>,
    /// Live heap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heap_live_bytes: Option<u64>,
    /// What the last garbage collection found live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heap_marked_bytes: Option<u64>,
    /// What the last cycle aimed at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heap_goal_bytes: Option<u64>,
    /// Garbage collections since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gc_cycles_total: Option<u64>,
    /// Threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u64>,
    /// Those that wait for something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads_idle: Option<u64>,
    /// Goroutines that are locked to a thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goroutines_locked: Option<u64>,
    /// Stacks of all goroutines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stacks_bytes: Option<u64>,
    /// Goroutines in run queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_queue_goroutines: Option<u64>,
}

/// The settings of a target; `None` without a snapshot.
#[must_use]
pub fn of(target: &TargetView) -> Option<Runtime> {
    let goroutines = target.goroutines.as_ref();
    target.runtime.as_ref().map(|runtime| Runtime {
        goroutines_locked: goroutines.map(|goroutines| goroutines.locked),
        stacks_bytes: goroutines.map(|goroutines| goroutines.stacks_bytes),
        ..Runtime::from(runtime)
    })
}

impl From<&RuntimeView> for Runtime {
    fn from(runtime: &RuntimeView) -> Self {
        let name = |source: Option<Source>| source.map(Source::name);
        Self {
            gomaxprocs: runtime.gomaxprocs,
            gomaxprocs_source: name(runtime.gomaxprocs_source),
            container_aware: runtime.container_aware,
            gogc_percent: runtime.gogc_percent,
            gogc_source: name(runtime.gogc_source),
            gomemlimit_bytes: runtime.gomemlimit_bytes,
            gomemlimit_source: name(runtime.gomemlimit_source),
            heap_live_bytes: runtime.heap_live_bytes,
            heap_marked_bytes: runtime.heap_marked_bytes,
            heap_goal_bytes: runtime.heap_goal_bytes,
            gc_cycles_total: runtime.gc_cycles,
            threads: runtime.threads,
            threads_idle: runtime.threads_idle,
            goroutines_locked: None,
            stacks_bytes: None,
            run_queue_goroutines: runtime.run_queue_goroutines,
        }
    }
}
