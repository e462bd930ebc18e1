//! Programs whose function tables are broken: what can't be followed is cut there, the rest is whole.

use std::fs;
use std::path::{Path, PathBuf};

use observer::discover::exe::ExeFile;
use observer::gobin::GoBinary;
use observer::gobin::source::{le32, le64};
use serde_json::Value;

use crate::go::{self, Program, Variant};

/// The functions whose goroutines the program starts.
const VICTIM: &str = "main.victim";
const BYSTANDER: &str = "main.bystander";

/// A copy of the program in which bytes of the victim's record are replaced, from its table of stack sizes on.
fn broken(name: &str, replace: impl Fn(&mut [u8])) -> PathBuf {
    let original = go::build(27, Variant::Static);
    let file = ExeFile::open(&original).unwrap();
    let binary = GoBinary::analyse(&file).unwrap();
    let mut bytes = fs::read(&original).unwrap();
    let record = victims_record(&binary, &file, &bytes);
    replace(&mut bytes[record + 16..record + 40]);
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("broken-{name}"));
    // What an earlier run left may still be executed.
    _ = fs::remove_file(&copy);
    fs::copy(&original, &copy).unwrap();
    fs::write(&copy, bytes).unwrap();
    copy
}

/// File offset of `runtime._func` of the victim.
fn victims_record(binary: &GoBinary, file: &ExeFile, bytes: &[u8]) -> usize {
    let text = binary.module.text;
    let found = binary.table.functions_by_name(file, text, 0, |name| name == VICTIM.as_bytes()).unwrap();
    let table = binary.image.offset(binary.table.address).unwrap() as usize;
    // The header's last word says where the functions are.
    let functions = table + le64(&bytes[table + 64..]) as usize;
    let offset = (found[VICTIM].entry - text) as u32;
    let entries = bytes[functions..].chunks_exact(8).take(binary.table.functions as usize);
    let entry = entries.into_iter().find(|entry| le32(entry) == offset).unwrap();
    functions + le32(&entry[4..]) as usize
}

/// Number of goroutines by function and by what is missing of their stacks.
fn conditions(profile: &Value, function: &str) -> Vec<String> {
    let all = profile["goroutines"].as_array().unwrap();
    let own = all.iter().filter(|goroutine| goroutine["entry"] == function);
    own.map(|goroutine| goroutine["partial"].as_str().unwrap_or("whole").to_owned()).collect()
}

/// Tables that lie outside the file, are something else, never end, or say what can't be: goroutines that stand
/// in the function are cut there, and all others are whole.
#[test]
fn broken_tables() {
    if !go::can_run() {
        return;
    }
    for (name, words) in [
        ("outside", [u32::MAX, u32::MAX, u32::MAX]),
        ("absent", [0, 0, 0]),
        ("misplaced", [3, 3, 3]),
        ("far", [0x7fff_ffff, 0x10_0000, 0x20_0000]),
    ] {
        let executable = broken(name, |record| {
            for (index, word) in words.into_iter().enumerate() {
                record[4 * index..4 * index + 4].copy_from_slice(&word.to_le_bytes());
            }
        });
        let program = Program::run_file(&executable, &["victims"]);
        let profile: Value = serde_json::from_slice(&program.ours(&["--format", "json"])).unwrap();
        assert_eq!(profile["complete"], true, "{name}");
        assert_eq!(conditions(&profile, BYSTANDER), vec!["whole"; 20], "{name}");
        assert_eq!(conditions(&profile, VICTIM), vec!["cut"; 20], "{name}");
        let text = String::from_utf8(program.ours(&["--format", "debug2"])).unwrap();
        assert_eq!(text.matches("...additional frames unavailable...").count(), 20, "{name}: {text}");
        for format in ["pprof", "debug1", "summary", "folded"] {
            assert!(!program.ours(&["--format", format]).is_empty(), "{name} {format}");
        }
    }
}
