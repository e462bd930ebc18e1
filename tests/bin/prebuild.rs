//! Builds the Go programs that tests in guests start: `prebuild FOLDER`.

use observer_tests::prebuilt::{build_all, folder_argument};

fn main() -> anyhow::Result<()> {
    build_all(&folder_argument()?)
}
