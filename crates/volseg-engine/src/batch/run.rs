//! A worker: reads, segments and writes the cases of a shard, three at a time at most, each in another stage.

use super::{
    Case, Failure, Key, OutputChoice, State,
    budget::{Budget, Permit},
    case_folder::{self, Finished, Published},
    state,
};
use crate::{Error, Model, Observer, Request, Segmentation, Stage, segment};
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};
use volseg_io::{Image, Limits, Locator, ReadOptions};

/// Before a failed read is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// How often a case is written anew because another worker cleared it away.
const WRITES: u32 = 5;

/// What to do with results that have another key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stale {
    /// Replace them.
    #[default]
    Recompute,
    /// Leave them, as done.
    Keep,
    /// Refuse to start.
    Fail,
}

/// What a worker needs besides its cases.
pub struct Job<'a> {
    /// Root of the results.
    pub tree: &'a Path,
    /// Loaded once.
    pub model: &'a Model,
    /// What to look for.
    pub request: &'a Request,
    /// What to write.
    pub choice: OutputChoice,
    /// Workers of the network.
    pub threads: usize,
    /// What to do with older results.
    pub stale: Stale,
    /// How often a case is tried in this run if its failure may pass.
    pub attempts: u32,
    /// No case starts later than this after the start of the run; at least one does.
    pub stop_after: Option<Duration>,
    /// Set from outside: the current case is dropped.
    pub stop: &'a AtomicBool,
}

/// How a run went, case by case.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Cases of the shard.
    pub cases: usize,
    /// Done before this run, or by another worker meanwhile.
    pub skipped: usize,
    /// With another key, left as they are.
    pub kept: usize,
    /// Done by this run.
    pub done: usize,
    /// Failed, now or before.
    pub failed: usize,
    /// Neither done nor failed: the run was stopped.
    pub left: usize,
    /// Slices of the cases done by this run.
    pub slices: usize,
    /// Wall seconds of this run.
    pub seconds: f64,
    /// Sums over the cases done by this run: read, network and clean-up, write.
    pub stage_seconds: [f64; 3],
}

/// Told after each case.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The case.
    pub case_id: String,
    /// `done`, `failed` or `skipped`.
    pub outcome: &'static str,
    /// For failures: the kind.
    pub kind: Option<&'static str>,
    /// Cases settled so far, of those that were to do.
    pub settled: usize,
    /// Cases that were to do.
    pub of: usize,
    /// Expected seconds for the rest, by slices.
    pub left_s: Option<f64>,
}

/// Told how the run goes, from any thread.
pub trait Monitor: Sync {
    /// After each case.
    fn case(&self, progress: &Progress);
    /// Slices of the current case.
    fn slices(&self, _done: usize, _of: usize) {}
}

/// A case on its way.
struct Read<'a> {
    case: &'a Case,
    key: Key,
    attempt: u32,
    image: Image,
    seconds: f64,
    permit: Permit<'a>,
}

struct Segmented<'a> {
    read: Read<'a>,
    result: Segmentation,
}

/// Works through the cases of a shard.
///
/// # Errors
/// Outputs that cannot be written, such as a full disk; [`Stale::Fail`] with stale results. Cases that fail do not count.
pub fn run(cases: &[Case], job: &Job<'_>, monitor: &dyn Monitor) -> Result<Tally, Error> {
    std::fs::create_dir_all(job.tree).map_err(|source| volseg_io::Error::Io {
        action: "write",
        path: job.tree.to_owned(),
        source,
    })?;
    let worker = Worker::plan(cases, job, monitor)?;
    std::thread::scope(|scope| {
        let (to_segment, read) = sync_channel(0);
        let (to_write, segmented) = sync_channel(0);
        let worker = &worker;
        scope.spawn(move || worker.read_all(&to_segment));
        let writer = scope.spawn(move || worker.write_all(&segmented));
        worker.segment_all(read, &to_write);
        drop(to_write);
        // A panic there was caught and recorded; nothing is left to say.
        let _ = writer.join();
    });
    case_folder::tidy(job.tree);
    worker.finish()
}

struct Worker<'a> {
    job: &'a Job<'a>,
    monitor: &'a dyn Monitor,
    /// What is to do: case, key, attempts so far.
    todo: Vec<(&'a Case, Key, u32)>,
    began: Instant,
    budget: Budget,
    tally: Mutex<Tally>,
    settled_slices: Mutex<usize>,
    leftovers: BTreeMap<String, Vec<PathBuf>>,
    fatal: Mutex<Option<Error>>,
    halted: AtomicBool,
}

impl<'a> Worker<'a> {
    /// Looks at the tree: what is done, what is left.
    fn plan(cases: &'a [Case], job: &'a Job<'a>, monitor: &'a dyn Monitor) -> Result<Self, Error> {
        use rayon::prelude::*;
        let config = job.choice.config(job.request);
        let look = |c: &Case| {
            let key = Key::new(c, job.model.sha256(), &config);
            let state = state(job.tree, &c.case_id, &key);
            (key, state)
        };
        let states: Vec<(Key, State)> = cases.par_iter().map(look).collect();
        let stale = states.iter().filter(|s| matches!(s.1, State::Stale)).count();
        if job.stale == Stale::Fail && stale > 0 {
            return Err(Error::Request(format!(
                "{stale} results were made from other input, weights or settings: --stale recompute replaces them, --stale keep leaves them"
            )));
        }
        let leftovers = case_folder::leftovers(job.tree);
        let mut tally = Tally { cases: cases.len(), ..Tally::default() };
        let mut todo = Vec::new();
        for (case, (key, state)) in cases.iter().zip(states) {
            match state {
                State::Done => {
                    tally.skipped += 1;
                    let _ = std::fs::remove_file(Failure::path(job.tree, &case.case_id));
                }
                State::Stale if job.stale == Stale::Keep => tally.kept += 1,
                State::Failed(f) if !f.is_worth_another_try() => tally.failed += 1,
                State::Failed(f) => {
                    todo.push((case, key, f.attempt));
                    continue;
                }
                State::Missing | State::Stale => {
                    todo.push((case, key, 0));
                    continue;
                }
            }
            remove(leftovers.get(&case.case_id));
        }
        tally.left = todo.len();
        Ok(Self {
            job,
            monitor,
            todo,
            began: Instant::now(),
            budget: Budget::new(job.request.memory, job.threads),
            tally: Mutex::new(tally),
            settled_slices: Mutex::new(0),
            leftovers,
            fatal: Mutex::new(None),
            halted: AtomicBool::new(false),
        })
    }

    fn stopped(&self) -> bool {
        self.job.stop.load(Ordering::Relaxed) || self.halted.load(Ordering::Relaxed)
    }

    fn too_late(&self) -> bool {
        self.job.stop_after.is_some_and(|d| self.began.elapsed() >= d)
    }

    fn read_all<'s>(&'s self, to_segment: &SyncSender<Read<'s>>) {
        for (n, (case, key, attempts)) in self.todo.iter().enumerate() {
            if self.stopped() || (n > 0 && self.too_late()) {
                return;
            }
            // Another worker of this shard may have been faster.
            if matches!(state(self.job.tree, &case.case_id, key), State::Done) {
                self.settle(case, "skipped", None);
                continue;
            }
            let need = case_bytes(case, self.job);
            let Some(permit) = self.budget.take(need, &|| self.stopped()) else {
                if self.stopped() {
                    return;
                }
                let needed_mib = (need + self.budget.fixed) >> 20;
                let allowed_mib = self.job.request.memory.unwrap_or(u64::MAX) >> 20;
                self.fail(case, key, "read", attempts + 1, &Error::Memory { needed_mib, allowed_mib });
                continue;
            };
            if let Some(read) = self.read_one(case, key, *attempts, permit)
                && to_segment.send(read).is_err()
            {
                return;
            }
        }
    }

    /// Reads a case, more than once if the failure may pass; `None` if it was settled as failed.
    fn read_one<'s>(&'s self, case: &'s Case, key: &Key, before: u32, permit: Permit<'s>) -> Option<Read<'s>> {
        let began = Instant::now();
        for attempt in before + 1.. {
            match catch_unwind(AssertUnwindSafe(|| read(case, self.job.request.memory))) {
                Ok(Ok(image)) => {
                    let seconds = began.elapsed().as_secs_f64();
                    return Some(Read { case, key: key.clone(), attempt, image, seconds, permit });
                }
                Ok(Err(e)) => {
                    let failure = Failure::new(&case.case_id, key, "read", attempt, &e);
                    if failure.kind.is_transient() && attempt - before < self.job.attempts && !self.stopped() {
                        std::thread::sleep(PAUSE);
                        continue;
                    }
                    self.record(case, &failure);
                }
                Err(_) => self.record(case, &Failure::panic(&case.case_id, key, "read", attempt)),
            }
            break;
        }
        None
    }

    fn segment_all<'s>(&'s self, read: Receiver<Read<'s>>, to_write: &SyncSender<Segmented<'s>>) {
        for (started, read) in read.into_iter().enumerate() {
            if self.stopped() || (started > 0 && self.too_late()) {
                break;
            }
            if let Some(result) = self.segment_one(&read)
                && to_write.send(Segmented { read, result }).is_err()
            {
                break;
            }
        }
    }

    fn segment_one(&self, read: &Read<'_>) -> Option<Segmentation> {
        let job = self.job;
        for attempt in read.attempt.. {
            let result = catch_unwind(AssertUnwindSafe(|| {
                segment(&read.image, job.model, job.request, job.threads, &Stopper(self))
            }));
            match result {
                Ok(Ok(result)) => return Some(result),
                Ok(Err(Error::Interrupted)) => {}
                Ok(Err(e)) => {
                    let failure = Failure::new(&read.case.case_id, &read.key, "segment", attempt, &e);
                    if failure.kind.is_transient() && attempt - read.attempt + 1 < job.attempts && !self.stopped() {
                        continue;
                    }
                    self.record(read.case, &failure);
                }
                Err(_) => {
                    self.record(read.case, &Failure::panic(&read.case.case_id, &read.key, "segment", attempt));
                }
            }
            break;
        }
        None
    }

    fn write_all(&self, segmented: &Receiver<Segmented<'_>>) {
        for Segmented { read, result } in segmented {
            let began = Instant::now();
            let done = Finished {
                case: read.case,
                key: &read.key,
                image: &read.image,
                result: &result,
                model: self.job.model,
                request: self.job.request,
                choice: self.job.choice,
                threads: self.job.threads,
                read_s: read.seconds,
            };
            let published = catch_unwind(AssertUnwindSafe(|| self.write_one(&done)));
            match published {
                Ok(Ok(Published::Written(_))) => {
                    let t = &result.timings;
                    let mut tally = lock(&self.tally);
                    tally.done += 1;
                    tally.slices += read.case.slices;
                    let stages =
                        [read.seconds, t.network_s + t.cleanup_s + t.assemble_s, began.elapsed().as_secs_f64()];
                    tally.stage_seconds.iter_mut().zip(stages).for_each(|(sum, s)| *sum += s);
                    drop(tally);
                    let _ = std::fs::remove_file(Failure::path(self.job.tree, &read.case.case_id));
                    self.settle(read.case, "done", None);
                }
                Ok(Ok(Published::AlreadyThere)) => self.settle(read.case, "skipped", None),
                Ok(Err(e @ Error::Io(volseg_io::Error::Io { .. }))) => self.halt(e),
                Ok(Err(e)) => self.fail(read.case, &read.key, "write", read.attempt, &e),
                Err(_) => {
                    self.record(read.case, &Failure::panic(&read.case.case_id, &read.key, "write", read.attempt));
                }
            }
            drop(read.permit);
        }
    }

    /// Writes a case. A worker that was faster removes what slower ones have begun: then it is there, or begins anew.
    fn write_one(&self, done: &Finished<'_>) -> Result<Published, Error> {
        let mut tries = 0;
        loop {
            match case_folder::publish(self.job.tree, done) {
                Err(e) if is_gone(&e) && tries < WRITES => {
                    if matches!(state(self.job.tree, &done.case.case_id, done.key), State::Done) {
                        return Ok(Published::AlreadyThere);
                    }
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    fn fail(&self, case: &Case, key: &Key, stage: &str, attempt: u32, error: &Error) {
        self.record(case, &Failure::new(&case.case_id, key, stage, attempt, error));
    }

    /// Writes a failure's record; a disk that cannot take even that ends the run.
    fn record(&self, case: &Case, failure: &Failure) {
        match failure.write(self.job.tree) {
            Ok(()) => {
                lock(&self.tally).failed += 1;
                self.settle(case, "failed", Some(failure.kind.name()));
            }
            Err(e) => self.halt(e),
        }
    }

    fn halt(&self, error: Error) {
        lock(&self.fatal).get_or_insert(error);
        self.halted.store(true, Ordering::Relaxed);
    }

    fn settle(&self, case: &Case, outcome: &'static str, kind: Option<&'static str>) {
        remove(self.leftovers.get(&case.case_id));
        let (settled, of) = {
            let mut tally = lock(&self.tally);
            tally.left = tally.left.saturating_sub(1);
            tally.skipped += usize::from(outcome == "skipped");
            (self.todo.len() - tally.left, self.todo.len())
        };
        let slices = {
            let mut slices = lock(&self.settled_slices);
            *slices += case.slices.max(1);
            *slices
        };
        let all: usize = self.todo.iter().map(|t| t.0.slices.max(1)).sum();
        let left_s = Some(self.began.elapsed().as_secs_f64() * all.saturating_sub(slices) as f64 / slices as f64);
        self.monitor.case(&Progress { case_id: case.case_id.clone(), outcome, kind, settled, of, left_s });
    }

    fn finish(self) -> Result<Tally, Error> {
        match self.fatal.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(e) => Err(e),
            None => {
                let mut tally = self.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
                tally.seconds = self.began.elapsed().as_secs_f64();
                Ok(tally)
            }
        }
    }
}

/// Lets `segment` see the stop.
struct Stopper<'a, 'b>(&'a Worker<'b>);

impl Observer for Stopper<'_, '_> {
    fn progress(&self, stage: Stage, done: usize, total: usize) {
        if stage == Stage::Network {
            self.0.monitor.slices(done, total);
        }
    }

    fn stopped(&self) -> bool {
        self.0.stopped()
    }
}

fn read(case: &Case, memory: Option<u64>) -> Result<Image, Error> {
    let locator: Locator = case.locator.parse()?;
    let limits = Limits::within_memory(memory);
    let options = ReadOptions { limits, ..ReadOptions::default() };
    volseg_io::read_found(&locator, case.files.as_deref(), &case.input, &options).map_err(|e| match (e, memory) {
        // Not too large for good, but for this machine.
        (volseg_io::Error::Limit { what, found, allowed }, Some(m))
            if [limits.max_voxels, limits.max_inflated_bytes].contains(&allowed) =>
        {
            let bytes = if what == "voxels" { found.saturating_mul(2) } else { found };
            Error::Memory { needed_mib: bytes.div_ceil(1 << 20), allowed_mib: m >> 20 }
        }
        (e, _) => e.into(),
    })
}

fn remove(folders: Option<&Vec<PathBuf>>) {
    for folder in folders.into_iter().flatten() {
        // Whoever still writes there is too late and finds that out.
        let _ = std::fs::remove_dir_all(folder);
    }
}

fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Io(volseg_io::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound)
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory of a case on its way, beside the workers of the network: voxels as read, labels, answers on the network's grid.
fn case_bytes(case: &Case, job: &Job<'_>) -> u64 {
    let side = match job.model {
        Model::Embedded { networks, .. } => networks.config().side as u64,
        Model::Sam { .. } => 0,
    };
    let organs = job.request.organs.as_ref().map_or(15, Vec::len) as u64;
    let answers = case.slices as u64 * organs * side * side * 2;
    let inflated = if case.locator.starts_with("dir:") { 0 } else { case.bytes };
    case.voxels.saturating_mul(3).saturating_add(answers).saturating_add(inflated)
}
