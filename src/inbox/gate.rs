//! Whether the inbox takes everything, or cancels only: the one thing that the daemon's deciding thread tells the inbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shut while there is a shortage. What is held back by it stays in the inbox as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    is_shut: Arc<AtomicBool>,
}

impl Gate {
    pub(crate) fn shut(&self) {
        self.is_shut.store(true, Ordering::Relaxed);
    }

    pub(crate) fn open(&self) {
        self.is_shut.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_shut(&self) -> bool {
        self.is_shut.load(Ordering::Relaxed)
    }
}
