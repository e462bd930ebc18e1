//! Waiting for something that must come true, with a deadline that is generous on a loaded machine.

use anyhow::{Result, bail};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Asks `probe` until it returns something, for at most [`DEADLINE`].
///
/// # Errors
/// When time is up; `what` says what never came.
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if start.elapsed() > DEADLINE {
            bail!("waited {} s in vain for {what}", DEADLINE.as_secs());
        }
        thread::sleep(Duration::from_millis(20));
    }
}
