//! What tests of several stages share.

use std::path::Path;

/// Fails unless the file (path below the package) holds `actual`; with `UPDATE_GOLDEN=1` it is written
/// instead.
pub(crate) fn assert_golden(path: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == actual, "{} differs (UPDATE_GOLDEN=1 writes it); now:\n{actual}", path.display());
}
