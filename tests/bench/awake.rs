//! Processors that don't fall asleep while something is measured.
//!
//! A machine with nothing to do lets its processors sleep, most of all a virtual one, and work that comes in bursts may find
//! them slow each time. That is the machine's saving of power, and no figure of the observer's.

use anyhow::{Result, ensure};
use nix::libc;
use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// A thread for each processor that turns as long as nobody else wants to run there.
#[derive(Default)]
pub(crate) struct Awake {
    threads: Vec<JoinHandle<()>>,
    over: Arc<AtomicBool>,
}

impl Awake {
    /// # Errors
    /// When there are no threads to be had.
    pub(crate) fn keep() -> Result<Self> {
        let mut awake = Self::default();
        for _ in 0..thread::available_parallelism()?.get() {
            let over = awake.over.clone();
            awake.threads.push(thread::Builder::new().spawn(move || turn(&over))?);
        }
        Ok(awake)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn turn(over: &AtomicBool) {
    if let Err(error) = give_way() {
        // It would take time from what is measured.
        eprintln!("a processor may fall asleep: {error:#}");
        return;
    }
    while !over.load(Ordering::Relaxed) {
        spin_loop();
    }
}

/// This thread runs from now on only where nobody else wants to (`SCHED_IDLE` in sched(7)).
#[allow(unsafe_code, reason = "no crate here sets a scheduling policy")]
fn give_way() -> Result<()> {
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is to a live value of the right type; 0 is the calling thread.
    let status = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const none) };
    ensure!(status == 0, "{}", std::io::Error::last_os_error());
    Ok(())
}
