//! Which members of which runtime structs are measured: the table follows from this list alone.

/// A runtime struct, and the Rust struct that holds its offsets.
pub(super) struct Struct {
    /// Field of `Layout`.
    pub(super) field: &'static str,
    /// Type of that field.
    pub(super) rust: &'static str,
    /// Name in DWARF.
    pub(super) go: &'static str,
    pub(super) fields: &'static [Field],
}

/// A field of a Rust struct.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Members to look for, in this order: the name changed, or the member moved into another.
    pub(super) paths: &'static [&'static str],
    /// Size in bytes that its reader relies on; 0 where only the place counts.
    pub(super) bytes: u64,
}

/// What a field holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `u16`: the struct's size in bytes.
    Size,
    /// `u16`: the offset of the first path that exists; one must.
    Required,
    /// `Option<u16>`: nothing where no path exists, or where it moves between patch releases.
    Optional,
    /// `&[u16]`: the offsets of all paths that exist; one must.
    Each,
}

const fn size() -> Field {
    Field { name: "size", kind: Kind::Size, paths: &[], bytes: 0 }
}

const fn at(name: &'static str, paths: &'static [&'static str], bytes: u64) -> Field {
    Field { name, kind: Kind::Required, paths, bytes }
}

const fn maybe(name: &'static str, paths: &'static [&'static str], bytes: u64) -> Field {
    Field { name, kind: Kind::Optional, paths, bytes }
}

const fn each(name: &'static str, paths: &'static [&'static str], bytes: u64) -> Field {
    Field { name, kind: Kind::Each, paths, bytes }
}

/// Everything that is measured.
pub(super) const STRUCTS: [Struct; 9] = [
    Struct { field: "g", rust: "GLayout", go: "runtime.g", fields: &G },
    Struct { field: "bubble", rust: "BubbleLayout", go: "runtime.synctestBubble", fields: &BUBBLE },
    Struct { field: "m", rust: "MLayout", go: "runtime.m", fields: &M },
    Struct { field: "p", rust: "PLayout", go: "runtime.p", fields: &P },
    Struct { field: "sched", rust: "SchedLayout", go: "runtime.schedt", fields: &SCHED },
    Struct {
        field: "time_histogram",
        rust: "TimeHistogramLayout",
        go: "runtime.timeHistogram",
        fields: &TIME_HISTOGRAM,
    },
    Struct {
        field: "gc_controller",
        rust: "GcControllerLayout",
        go: "runtime.gcControllerState",
        fields: &GC_CONTROLLER,
    },
    Struct { field: "moduledata", rust: "ModuledataLayout", go: "runtime.moduledata", fields: &MODULEDATA },
    Struct { field: "func", rust: "FuncLayout", go: "runtime._func", fields: &FUNC },
];

const G: [Field; 25] = [
    size(),
    at("stack_lo", &["stack.lo"], 8),
    at("stack_hi", &["stack.hi"], 8),
    at("m", &["m"], 8),
    at("sched_sp", &["sched.sp"], 8),
    at("sched_pc", &["sched.pc"], 8),
    at("sched_g", &["sched.g"], 8),
    at("sched_lr", &["sched.lr"], 8),
    at("sched_bp", &["sched.bp"], 8),
    at("syscallsp", &["syscallsp"], 8),
    at("syscallpc", &["syscallpc"], 8),
    maybe("syscallbp", &["syscallbp"], 8),
    at("param", &["param"], 8),
    at("atomicstatus", &["atomicstatus"], 4),
    at("goid", &["goid"], 8),
    at("waitsince", &["waitsince"], 8),
    at("waitreason", &["waitreason"], 1),
    at("tracking_seq", &["trackingSeq"], 1),
    at("lockedm", &["lockedm"], 8),
    maybe("parent_goid", &["parentGoid"], 8),
    at("gopc", &["gopc"], 8),
    at("startpc", &["startpc"], 8),
    at("labels", &["labels"], 8),
    maybe("sleep_when", &["sleepWhen"], 8),
    maybe("bubble", &["bubble", "syncGroup"], 8),
];

const BUBBLE: [Field; 1] = [maybe("id", &["id"], 8)];

const M: [Field; 6] = [
    at("procid", &["procid"], 8),
    at("curg", &["curg"], 8),
    at("p", &["p"], 8),
    at("id", &["id"], 8),
    at("incgo", &["incgo"], 1),
    maybe("ncgocall", &["ncgocall"], 8),
];

const P: [Field; 7] = [
    at("id", &["id"], 4),
    at("status", &["status"], 4),
    at("m", &["m"], 8),
    at("runqhead", &["runqhead"], 4),
    at("runqtail", &["runqtail"], 4),
    at("runnext", &["runnext"], 8),
    at("gfree_count", &["gFree.n", "gFree.size"], 4),
];

const SCHED: [Field; 12] = [
    at("goidgen", &["goidgen"], 8),
    at("lock", &["lock"], 0),
    at("midle", &["midle"], 0),
    at("nmidle", &["nmidle"], 4),
    at("mnext", &["mnext"], 8),
    at("nmfreed", &["nmfreed"], 8),
    at("ngsys", &["ngsys"], 4),
    at("npidle", &["npidle"], 4),
    at("runqsize", &["runqsize", "runq.size"], 4),
    each("gfree_counts", &["gFree.n", "gFree.stack.size", "gFree.noStack.size"], 4),
    maybe("custom_gomaxprocs", &["customGOMAXPROCS"], 1),
    at("time_to_run", &["timeToRun"], 0),
];

const TIME_HISTOGRAM: [Field; 1] = [size()];

const GC_CONTROLLER: [Field; 9] = [
    at("gc_percent", &["gcPercent"], 4),
    at("memory_limit", &["memoryLimit"], 8),
    at("triggered", &["triggered"], 8),
    at("last_heap_goal", &["lastHeapGoal"], 8),
    at("heap_live", &["heapLive"], 8),
    at("heap_marked", &["heapMarked"], 8),
    maybe("heap_in_use", &["heapInUse"], 8),
    maybe("total_alloc", &["totalAlloc"], 8),
    maybe("mapped_ready", &["mappedReady"], 8),
];

const MODULEDATA: [Field; 17] = [
    size(),
    at("pclntable", &["pclntable"], 24),
    at("ftab", &["ftab"], 24),
    at("text", &["text"], 8),
    at("etext", &["etext"], 8),
    at("noptrdata", &["noptrdata"], 8),
    at("enoptrdata", &["enoptrdata"], 8),
    at("data", &["data"], 8),
    at("edata", &["edata"], 8),
    at("bss", &["bss"], 8),
    at("ebss", &["ebss"], 8),
    at("noptrbss", &["noptrbss"], 8),
    at("enoptrbss", &["enoptrbss"], 8),
    at("end", &["end"], 8),
    at("rodata", &["rodata"], 8),
    at("gofunc", &["gofunc"], 8),
    at("next", &["next"], 8),
];

const FUNC: [Field; 10] = [
    size(),
    at("pcsp", &["pcsp"], 4),
    at("pcfile", &["pcfile"], 4),
    at("pcln", &["pcln"], 4),
    at("npcdata", &["npcdata"], 4),
    at("cu_offset", &["cuOffset"], 4),
    maybe("start_line", &["startLine"], 4),
    at("func_id", &["funcID"], 1),
    at("flag", &["flag"], 1),
    at("nfuncdata", &["nfuncdata"], 1),
];
