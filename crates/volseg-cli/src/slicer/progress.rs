//! Progress tags on standard output: each line in one write, never back, some ten a second at most.

use std::{
    io::Write,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use volseg_engine::{Observer, Stage};

/// Shortest time between two lines.
const PAUSE: Duration = Duration::from_millis(80);

/// One line on standard output. Nobody listens if that fails.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
}

/// How far the run is, 0 to 1, for Slicer's bar.
pub(crate) struct Progress {
    began: Instant,
    last: Mutex<(f64, Option<Instant>)>,
}

impl Progress {
    /// Says that the run begins.
    pub(crate) fn begin(comment: &str) -> Self {
        say("<filter-start>\n<filter-name>volseg</filter-name>");
        say(&format!("<filter-comment>{}</filter-comment>\n</filter-start>", plain(comment)));
        let progress = Self { began: Instant::now(), last: Mutex::new((0.0, None)) };
        progress.at(0.0, comment);
        progress
    }

    /// Says how far the run is. A value below the last is raised to it; lines that come too fast are left out.
    pub(crate) fn at(&self, part: f64, comment: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let part = part.clamp(last.0, 1.0);
        last.0 = part;
        if part < 1.0 && last.1.is_some_and(|t| t.elapsed() < PAUSE) {
            return;
        }
        last.1 = Some(Instant::now());
        say(&format!("<filter-progress>{part:.4}</filter-progress>"));
        say(&format!("<filter-comment>{}</filter-comment>", plain(comment)));
    }

    /// Says that the run has ended.
    pub(crate) fn end(&self) {
        self.at(1.0, "done");
        let seconds = self.began.elapsed().as_secs_f64();
        say(&format!(
            "<filter-end>\n<filter-name>volseg</filter-name>\n<filter-time>{seconds:.2}</filter-time>\n</filter-end>"
        ));
    }
}

fn plain(comment: &str) -> String {
    comment.replace(['<', '>', '\n'], " ").chars().take(900).collect()
}

/// Reading takes the first twentieth, writing the last tenth.
impl Observer for Progress {
    fn progress(&self, stage: Stage, done: usize, total: usize) {
        let part = done as f64 / total.max(1) as f64;
        match stage {
            Stage::Network => self.at(0.05 + 0.8 * part, &format!("slice {done} of {total}")),
            Stage::Assemble => self.at(0.85 + 0.05 * part, "putting slices together"),
        }
    }
}
