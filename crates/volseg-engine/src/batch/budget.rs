//! Memory that the cases on their way may hold together.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Memory for cases on their way.
pub(super) struct Budget {
    /// What the workers of the network take, bytes.
    pub(super) fixed: u64,
    free: Mutex<u64>,
    changed: Condvar,
    /// What is there for cases, bytes.
    pub(super) most: u64,
}

/// Memory that a case holds until it is written.
pub(super) struct Permit<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    pub(super) fn new(memory: Option<u64>, threads: usize) -> Self {
        let fixed = crate::segment::workers_bytes(threads);
        let most = memory.map_or(u64::MAX, |m| m.saturating_sub(fixed));
        Self { fixed, free: Mutex::new(most), changed: Condvar::new(), most }
    }

    fn free(&self) -> MutexGuard<'_, u64> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room; `None` if there never will be, or if the run stops.
    pub(super) fn take(&self, bytes: u64, stopped: &dyn Fn() -> bool) -> Option<Permit<'_>> {
        if bytes > self.most {
            return None;
        }
        let mut free = self.free();
        while *free < bytes {
            if stopped() {
                return None;
            }
            let wait = Duration::from_millis(100);
            free = self.changed.wait_timeout(free, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        *free -= bytes;
        Some(Permit { budget: self, bytes })
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.budget.free() += self.bytes;
        self.budget.changed.notify_all();
    }
}
