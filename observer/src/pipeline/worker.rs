//! Work on a target's data, done on another thread and waited for only so long.
//!
//! A target can make a read of its memory or its executable hang (a page behind userfaultfd or a dead file
//! server) or, through a mistake of ours, panic. Either costs that target, and nothing else.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::Duration;

type Job = Box<dyn FnOnce() + Send>;

/// One thread that does one job at a time.
pub(super) struct Worker {
    jobs: Sender<Job>,
}

/// The job did not end in time, or ended badly.
pub(super) enum Failure<T> {
    /// It still runs, on a thread that is left to it.
    Late(Late<T>),
    /// It panicked, and what was given to it is gone.
    Panicked,
}

/// The result of a late job, if it ever comes.
pub(super) struct Late<T>(Receiver<T>);

impl<T> Late<T> {
    /// `Ok(None)` while the job still runs.
    ///
    /// # Errors
    /// When it panicked.
    pub(super) fn poll(&self) -> Result<Option<T>, ()> {
        match self.0.try_recv() {
            Ok(result) => Ok(Some(result)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(()),
        }
    }
}

impl Default for Worker {
    fn default() -> Self {
        Self::new()
    }
}

impl Worker {
    /// Starts the thread.
    #[must_use]
    pub(super) fn new() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        // If no thread can be had the queue is dropped, and every job fails as if it had panicked.
        let started = std::thread::Builder::new().name("observer-reader".to_owned()).spawn(move || {
            for job in queue {
                job();
            }
        });
        if let Err(error) = started {
            tracing::error!(%error, "can't start a thread");
        }
        Self { jobs }
    }

    /// Does `job`, and waits at most `patience` for it.
    ///
    /// # Errors
    /// When it takes longer, or panics. The next job gets a fresh thread then.
    pub(super) fn run<T: Send + 'static>(
        &mut self,
        patience: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure<T>> {
        let (result, done) = mpsc::sync_channel(1);
        let job: Job = Box::new(move || {
            // Nobody may be waiting any more.
            result.send(job()).ok();
        });
        if self.jobs.send(job).is_err() {
            *self = Self::new();
            return Err(Failure::Panicked);
        }
        match done.recv_timeout(patience) {
            Ok(result) => Ok(result),
            Err(error) => {
                *self = Self::new();
                Err(match error {
                    RecvTimeoutError::Timeout => Failure::Late(Late(done)),
                    RecvTimeoutError::Disconnected => Failure::Panicked,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Failure, Worker};
    use std::sync::mpsc;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(30);

    /// A job that hangs is left behind and heard when it ends; the next job runs meanwhile.
    #[test]
    fn a_hanging_job() {
        let mut worker = Worker::new();
        let (release, gate) = mpsc::channel::<()>();
        let hung = worker.run(Duration::from_millis(10), move || gate.recv().is_ok());
        let Err(Failure::Late(late)) = hung else { panic!("the job ended by itself") };
        assert_eq!(worker.run(LONG, || 7).ok(), Some(7));
        assert_eq!(late.poll(), Ok(None));
        release.send(()).unwrap();
        while late.poll() == Ok(None) {
            std::thread::yield_now();
        }
    }

    /// A job that panics fails alone.
    #[test]
    fn a_panicking_job() {
        let mut worker = Worker::new();
        let failed = worker.run(LONG, || -> u32 { panic!("on purpose") });
        assert!(matches!(failed, Err(Failure::Panicked)));
        assert_eq!(worker.run(LONG, || 7).ok(), Some(7));
    }
}
