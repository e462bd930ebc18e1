//! Removes breakpoints so that not even `kill -9` can interrupt it.
//!
//! The kernel can't remove a breakpoint in a thread that a SIGKILL waits for: it gives up ("failed to unregister,
//! leaking uprobe"), and the breakpoint stays for as long as the target lives. A removal takes a tenth of a second
//! and more, so a killed observer would often leave one behind. A process that is already exiting can't be killed:
//! so the last reference to each link is given up by a child that does nothing but exit.
#![allow(unsafe_code, reason = "fork")]

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Mutex;

use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

use super::links::locked;

/// A child has all descriptors of this process: two at a time would keep each other's links.
static BURYING: Mutex<()> = Mutex::new(());

/// Drops `link`, and returns when the kernel has removed its breakpoint.
pub(super) fn bury<T>(link: T) {
    let _one_at_a_time = locked(&BURYING);
    let Ok((wait, go)) = io::pipe() else { return };
    // SAFETY: the child calls nothing but functions that are safe after a fork in a program with threads.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => {
            // The child still has it: nothing happens yet.
            drop(link);
            // Whatever ends this process also closes this, and so lets the child exit.
            drop(go);
            while waitpid(child, None) == Err(Errno::EINTR) {}
        }
        Ok(ForkResult::Child) => exit_after(wait.as_raw_fd(), go.as_raw_fd()),
        // Without a child it is dropped here: no less dropped, unless the observer is killed meanwhile.
        Err(errno) => tracing::debug!(%errno, "can't fork to remove a probe"),
    }
}

/// Waits until nobody has the pipe's other end any more, and exits without running any of this process's code.
fn exit_after(wait: RawFd, go: RawFd) -> ! {
    let mut byte = 0_u8;
    // SAFETY: both are open, the buffer is one byte long, and `_exit` doesn't return.
    unsafe {
        libc::close(go);
        while libc::read(wait, (&raw mut byte).cast(), 1) < 0 && *libc::__errno_location() == libc::EINTR {}
        libc::_exit(0)
    }
}
