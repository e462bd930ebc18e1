//! Profiles for those who ask over HTTP.

use std::io::Write;
use std::time::{Duration, Instant};

use super::go_process::{self, Unobservable};
use super::profile::Profile;
use crate::export::http::profiles::{DEADLINE, Refusal};
use crate::export::profile::{Filter, Format, Rendering};

/// How long each part of a process's memory is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes the profile of a process.
///
/// # Errors
/// When there is none; when it isn't whole. What was written until then is to be thrown away.
pub fn take(pid: u32, format: Format, out: &mut dyn Write) -> Result<(), Refusal> {
    let deadline = Instant::now() + DEADLINE;
    go_process::require(pid).map_err(|error| match error {
        Unobservable::NoProcess(_) | Unobservable::NoExecutable(_) => Refusal::NoProcess(error.to_string()),
        _ => Refusal::NotATarget(error.to_string()),
    })?;
    let profile = Profile::start(pid, PATIENCE)
        .map_err(|error| Refusal::Interrupted(format!("process {pid} can't be observed: {error}")))?;
    let mut rendering = Rendering::new(
        profile.subject.clone(),
        profile.frames(),
        profile.reasons.clone(),
        Filter::default(),
        format,
        out,
    );
    let end = profile.feed(&mut rendering, deadline, |_| {})?;
    if let Some(reason) = &end.interrupted {
        return Err(Refusal::Interrupted(format!("process {pid}: {reason}")));
    }
    rendering.finish(&end)?;
    Ok(())
}
