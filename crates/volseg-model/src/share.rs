//! An operation's work in parts, spread over the threads of the rayon pool that it is called on.
//!
//! Parts depend on the sizes of the operands alone and no sum crosses two parts, so the bits of a result do not depend on
//! the number of threads. Outside a pool, in a pool of one thread and inside [`on_this_thread`] the same parts are worked
//! on one after the other.

use rayon::prelude::*;
use std::cell::Cell;

/// About as many numbers as a part of an operation on single numbers or rows has.
pub(crate) const PART: usize = 48 * 1024;

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with every operation on this thread: for callers that have a slice or a group of prompts for each thread,
/// which scales better than threads inside an operation.
pub fn on_this_thread<R>(f: impl FnOnce() -> R) -> R {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _before = Before(ALONE.replace(true));
    f()
}

/// Runs `f` on a thread of the current rayon pool, so that its operations share their work.
pub fn on_all_threads<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| f())
}

fn shares() -> bool {
    !ALONE.get() && rayon::current_thread_index().is_some() && rayon::current_num_threads() > 1
}

/// Calls `f` for every part.
pub(crate) fn each<T: Send>(parts: impl IntoIterator<Item = T>, f: impl Fn(T) + Sync + Send) {
    if shares() {
        let parts: Vec<T> = parts.into_iter().collect();
        parts.into_par_iter().with_max_len(1).for_each(f);
    } else {
        parts.into_iter().for_each(f);
    }
}

/// What `f` makes of every part, in their order.
pub(crate) fn map<T: Send, R: Send>(parts: impl IntoIterator<Item = T>, f: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    if shares() {
        let parts: Vec<T> = parts.into_iter().collect();
        parts.into_par_iter().with_max_len(1).map(f).collect()
    } else {
        parts.into_iter().map(f).collect()
    }
}
