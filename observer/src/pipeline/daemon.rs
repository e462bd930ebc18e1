//! The pipeline on a thread of its own, fed with events and a clock.
//!
//! tokio tasks wait for what the kernel tells (a process executed a program, ran out of memory, ended); the thread
//! does the rest in order, and publishes views.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use observer_ebpf::abi::ProcessChange;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::{Options, Pipeline};
use crate::discover::process;
use crate::model::view::View;
use crate::probe::ProcessWatch;

/// How often all processes are looked at when the kernel tells of new ones: a net for what it misses.
const SCAN_WITH_EVENTS: Duration = Duration::from_secs(30);
/// How often otherwise. Looking at a thousand processes takes about ten milliseconds.
const SCAN_WITHOUT_EVENTS: Duration = Duration::from_secs(2);
/// Events are handled for at most so long before clocks are looked at again.
const EVENT_SLICE: Duration = Duration::from_millis(200);

/// How long the first view waits for the names of containers.
const FIRST_NAMES: Duration = Duration::from_secs(1);

enum Event {
    /// Something happened to a process.
    Process(u32, ProcessChange),
    /// A target ended.
    Ended(u64),
    /// The daemon is to end.
    Stop,
}

/// A running pipeline. Dropping it leaves the thread running; [`Daemon::stop`] ends it.
pub struct Daemon {
    events: Sender<Event>,
    thread: JoinHandle<()>,
    views: watch::Receiver<Option<Arc<View>>>,
}

impl Daemon {
    /// Starts it. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(options: Options, interval: Duration) -> std::io::Result<Self> {
        let (events, queue) = mpsc::channel();
        let (publish, views) = watch::channel(None);
        let mut pipeline = Pipeline::new(options);
        // A process that executes another program while it alone is watched is noticed at the next tick.
        let watch = pipeline.watches_all().then(|| pipeline.watch_processes()).flatten();
        let scan = if watch.is_some() { SCAN_WITH_EVENTS } else { SCAN_WITHOUT_EVENTS };
        if let Some(watch) = watch {
            tokio::spawn(forward(watch, events.clone()));
        }
        let turn = Turn {
            pipeline,
            publish,
            ends: EndWatch { handle: Handle::current(), events: events.clone(), watched: HashMap::new() },
            scan: Clock::after(scan),
            tick: Clock::every(interval),
        };
        let thread = std::thread::Builder::new()
            .name("observer-pipeline".to_owned())
            .spawn(move || turn.run(&queue))?;
        Ok(Self { events, thread, views })
    }

    /// The newest view, and news of newer ones.
    #[must_use]
    pub fn views(&self) -> watch::Receiver<Option<Arc<View>>> {
        self.views.clone()
    }

    /// Removes all probes and ends the thread.
    pub fn stop(self) {
        // Either fails only when the thread has ended already.
        self.events.send(Event::Stop).ok();
        self.thread.join().ok();
    }
}

/// A clock that doesn't try to catch up.
struct Clock {
    period: Duration,
    next: Instant,
}

impl Clock {
    fn every(period: Duration) -> Self {
        Self { period, next: Instant::now() }
    }

    /// The same, for the first time after one period.
    fn after(period: Duration) -> Self {
        Self { period, next: Instant::now() + period }
    }

    /// Whether its time has come; then the next time is a period later.
    fn due(&mut self) -> bool {
        let now = Instant::now();
        if now < self.next {
            return false;
        }
        self.next = (self.next + self.period).max(now);
        true
    }
}

struct Turn {
    pipeline: Pipeline,
    publish: watch::Sender<Option<Arc<View>>>,
    ends: EndWatch,
    scan: Clock,
    tick: Clock,
}

impl Turn {
    fn run(mut self, queue: &Receiver<Event>) {
        self.pipeline.scan();
        // Else nothing that is in a container would be in the first view.
        self.pipeline.await_names(FIRST_NAMES);
        loop {
            if self.scan.due() {
                self.pipeline.scan();
            }
            self.pipeline.admit_due();
            if self.tick.due() {
                let view = self.pipeline.tick();
                self.publish.send_replace(Some(Arc::new(view)));
            }
            self.ends.watch_new(&self.pipeline);
            let event = match queue.recv_timeout(self.pause()) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // Not one event for each tick: where ticks take long, they would pile up.
            let until = Instant::now() + EVENT_SLICE;
            let more = queue.try_iter();
            for event in event.into_iter().chain(more) {
                if !self.handle(event) {
                    return;
                }
                if Instant::now() > until {
                    break;
                }
            }
        }
    }

    /// Whether to go on.
    fn handle(&mut self, event: Event) -> bool {
        match event {
            Event::Process(pid, ProcessChange::Exec) => self.pipeline.look_at(pid),
            Event::Process(pid, ProcessChange::OomKill) => self.pipeline.oom_killed(pid),
            Event::Ended(slot) => self.pipeline.ended(slot),
            Event::Stop => return false,
        }
        true
    }

    /// How long there is nothing to do unless something happens.
    fn pause(&self) -> Duration {
        let clocks = self.scan.next.min(self.tick.next);
        let next = self.pipeline.next_due().map_or(clocks, |due| due.min(clocks));
        next.saturating_duration_since(Instant::now())
    }
}

/// Waits for the ends of targets.
struct EndWatch {
    handle: Handle,
    events: Sender<Event>,
    /// By slot. A process that executes another program is another target, and outlives this one.
    watched: HashMap<u64, Option<AbortHandle>>,
}

impl EndWatch {
    fn watch_new(&mut self, pipeline: &Pipeline) {
        let targets: HashMap<u64, u32> = pipeline.targets().map(|(pid, slot)| (slot, pid)).collect();
        self.watched.retain(|slot, wait| {
            let keep = targets.contains_key(slot);
            if let (false, Some(wait)) = (keep, wait) {
                wait.abort();
            }
            keep
        });
        for (slot, pid) in targets {
            let Entry::Vacant(vacant) = self.watched.entry(slot) else { continue };
            let mut wait = None;
            match process::pidfd(pid) {
                Ok(pidfd) => {
                    let task = self.handle.spawn(wait_for_end(pidfd, slot, self.events.clone()));
                    wait = Some(task.abort_handle());
                }
                Err(error)
                    if error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(3) =>
                {
                    self.events.send(Event::Ended(slot)).ok();
                }
                // No descriptors left, say: the scan is the net.
                Err(error) => tracing::debug!(pid, %error, "no pidfd"),
            }
            vacant.insert(wait);
        }
    }
}

#[allow(unsafe_code, reason = "tokio cannot know that the file descriptor stays open")]
async fn wait_for_end(pidfd: OwnedFd, slot: u64, events: Sender<Event>) {
    // SAFETY: the AsyncFd owns the descriptor for as long as it is registered, and it is never replaced.
    let registered = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
    let Ok(pidfd) = registered else { return };
    if pidfd.readable().await.is_ok() {
        events.send(Event::Ended(slot)).ok();
    }
}

async fn forward(mut watch: ProcessWatch, events: Sender<Event>) {
    while let Ok((pid, change)) = watch.next().await {
        if events.send(Event::Process(pid, change)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tokio::runtime::Handle;

    use super::{EndWatch, Pipeline};
    use crate::pipeline::Options;

    /// Nobody goes on waiting for the end of a process that is no target any more: one that executes program
    /// after program would take a descriptor each time.
    #[tokio::test]
    async fn a_wait_ends_with_its_target() {
        let (events, _queue) = std::sync::mpsc::channel();
        let wait = tokio::spawn(std::future::pending::<()>());
        let watched = HashMap::from([(7, Some(wait.abort_handle()))]);
        let mut ends = EndWatch { handle: Handle::current(), events, watched };
        ends.watch_new(&Pipeline::new(Options { probes: false, ..Options::default() }));
        assert!(ends.watched.is_empty());
        assert!(wait.await.unwrap_err().is_cancelled());
    }
}
