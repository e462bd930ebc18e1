//! One fuzz target, named by `OBSERVER_FUZZ_TARGET`, under libFuzzer.
#![no_main]
#![allow(clippy::expect_used, clippy::print_stdout, reason = "a mistake in how it is run should be loud")]

use std::env;
use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use observer_fuzz::Target;

static TARGET: OnceLock<Target> = OnceLock::new();

fn target() -> &'static Target {
    TARGET.get_or_init(|| {
        let name = env::var("OBSERVER_FUZZ_TARGET").expect("OBSERVER_FUZZ_TARGET names the target");
        let programs =
            env::var_os("OBSERVER_FUZZ_PROGRAMS").expect("OBSERVER_FUZZ_PROGRAMS lists Go programs");
        let programs: Vec<_> = env::split_paths(&programs).collect();
        Target::new(&name, &programs).expect("a target and programs that there are")
    })
}

fuzz_target!(
    init: {
        if let Some(folder) = env::var_os("OBSERVER_FUZZ_SEEDS") {
            target().write_seeds(Path::new(&folder)).expect("seeds can be written");
        }
    },
    |data: &[u8]| target().run(data)
);
