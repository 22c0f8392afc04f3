//! Keeps glibc's allocator from giving every large block back to the system.
//!
//! Networks allocate temporaries of many megabytes at every operation. By default glibc maps and unmaps each of them, and
//! the kernel clears all pages again: 570 ms instead of 770 ms per slice of a ViT-B without it (specs: candle.md 2.2).

/// Raises the thresholds above which glibc maps blocks one by one and trims its heap. Does nothing elsewhere.
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
#[allow(unsafe_code)]
pub(crate) fn keep_large_blocks() {
    // Blocks up to 1 GiB stay in the heap. The limit of the option is the range of a C int.
    const THRESHOLD: libc::c_int = 1 << 30;
    for option in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
        // SAFETY: `mallopt` reads two integers and changes the allocator's own settings under its lock. It is called
        // first thing in `main`, before any other thread exists. A refused value returns 0 and changes nothing.
        unsafe { libc::mallopt(option, THRESHOLD) };
    }
}

/// Raises the thresholds above which glibc maps blocks one by one and trims its heap. Does nothing elsewhere.
#[cfg(not(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64")))]
pub(crate) fn keep_large_blocks() {}

/// Tells candle to compute each operation on the thread that asks for it: slices are spread over threads instead, since its
/// shared pool makes several askers wait for each other (measured: an encoder pass takes 1.6 times as long with it).
/// Keeps a value that the user set.
#[allow(unsafe_code)]
pub(crate) fn one_thread_inside() {
    const NAME: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(NAME).is_none() {
        // SAFETY: called first thing in `main`, before any other thread exists that could read the environment.
        unsafe { std::env::set_var(NAME, "1") };
    }
}
