//! Numbers for `/metrics`, in Prometheus' text form. No ids, no names from outside.

use crate::desk::lock;
use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Upper edges of the histogram of inference times, seconds.
const EDGES: [f64; 9] = [0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];

/// Counters since the start.
#[derive(Default)]
pub(crate) struct Metrics {
    /// By route pattern and status.
    answers: Mutex<BTreeMap<(String, u16), u64>>,
    inferences: Mutex<([u64; EDGES.len()], u64, f64)>,
    kept_readings: AtomicU64,
    new_readings: AtomicU64,
}

/// What is now, for [`Metrics::text`].
pub(crate) struct Gauges {
    pub(crate) waiting: usize,
    pub(crate) sessions: usize,
    pub(crate) reading_bytes: u64,
}

impl Metrics {
    /// One answered request. `route` is the pattern, never the path.
    pub(crate) fn answered(&self, route: &str, status: u16) {
        *lock(&self.answers).entry((route.to_owned(), status)).or_default() += 1;
    }

    pub(crate) fn inference(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let mut held = lock(&self.inferences);
        for (count, edge) in held.0.iter_mut().zip(EDGES) {
            *count += u64::from(seconds <= edge);
        }
        held.1 += 1;
        held.2 += seconds;
    }

    pub(crate) fn reading(&self, kept: bool) {
        if kept { &self.kept_readings } else { &self.new_readings }.fetch_add(1, Ordering::Relaxed);
    }

    /// The whole page.
    pub(crate) fn text(&self, now: &Gauges) -> String {
        let mut out = String::from("# TYPE volseg_requests_total counter\n");
        for ((route, status), n) in lock(&self.answers).iter() {
            let _ = writeln!(out, "volseg_requests_total{{route=\"{route}\",status=\"{status}\"}} {n}");
        }
        out += "# TYPE volseg_inference_seconds histogram\n";
        let held = lock(&self.inferences);
        for (edge, n) in EDGES.iter().zip(held.0) {
            let _ = writeln!(out, "volseg_inference_seconds_bucket{{le=\"{edge}\"}} {n}");
        }
        let _ = write!(
            out,
            "volseg_inference_seconds_bucket{{le=\"+Inf\"}} {n}\nvolseg_inference_seconds_sum {sum}\nvolseg_inference_seconds_count {n}\n\
             # TYPE volseg_slice_readings_total counter\nvolseg_slice_readings_total{{kept=\"true\"}} {kept}\nvolseg_slice_readings_total{{kept=\"false\"}} {new}\n\
             # TYPE volseg_waiting gauge\nvolseg_waiting {waiting}\n# TYPE volseg_sessions gauge\nvolseg_sessions {sessions}\n\
             # TYPE volseg_reading_bytes gauge\nvolseg_reading_bytes {bytes}\n",
            n = held.1,
            sum = held.2,
            kept = self.kept_readings.load(Ordering::Relaxed),
            new = self.new_readings.load(Ordering::Relaxed),
            waiting = now.waiting,
            sessions = now.sessions,
            bytes = now.reading_bytes,
        );
        out
    }
}
