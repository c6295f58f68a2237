//! Ctrl-C: ends the process at once, unless some work has promised to look out for it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;

use crate::ui::error::{INTERRUPTED, Interrupted};

static WATCHERS: AtomicUsize = AtomicUsize::new(0);
static PRESSED: AtomicBool = AtomicBool::new(false);

/// Takes over Ctrl-C for the whole process.
///
/// # Errors
/// The system refuses, or it was called before.
pub fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        let pressed_again = PRESSED.swap(true, Ordering::SeqCst);
        if WATCHERS.load(Ordering::SeqCst) == 0 || pressed_again {
            std::process::exit(INTERRUPTED.into());
        }
    })?;
    Ok(())
}

/// Whether Ctrl-C was pressed while some work looks out for it.
pub fn pressed() -> bool {
    PRESSED.load(Ordering::SeqCst)
}

/// Does work that ends by itself soon after Ctrl-C, because it asks [`pressed`] or the programs that it runs get the signal
/// too, and that cleans up behind itself. A second Ctrl-C ends the process.
///
/// # Errors
/// The work's, or [`Interrupted`].
pub fn winding_up<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let watch = Watch::new();
    let result = work();
    if watch.pressed() { Err(Interrupted.into()) } else { result }
}

/// While it lives, one Ctrl-C does not end the process; its owner asks [`Watch::pressed`] often and winds up.
pub struct Watch(());

impl Watch {
    pub fn new() -> Self {
        PRESSED.store(false, Ordering::SeqCst);
        WATCHERS.fetch_add(1, Ordering::SeqCst);
        Self(())
    }

    pub fn pressed(&self) -> bool {
        pressed()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHERS.fetch_sub(1, Ordering::SeqCst);
        PRESSED.store(false, Ordering::SeqCst);
    }
}
