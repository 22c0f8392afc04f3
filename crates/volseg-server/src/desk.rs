//! What lies open: images, cases (image and model) and readings of slices, each bounded; and the queue for the model.

use crate::{metrics::Metrics, model_slot::ModelSlot, refusal::Refusal, store::Picture};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};
use tokio::sync::Semaphore;
use volseg_engine::{Error, OpenCase, Reading};
use volseg_geometry::{Modality, Plane};
use volseg_io::{Image, Limits, ReadOptions};

/// Images kept open.
const OPEN_IMAGES: usize = 8;
/// Cases kept open: an image may be open in several planes.
const OPEN_CASES: usize = 16;
/// Slices on each side of the last click that are read ahead.
const AHEAD: usize = 12;

/// Version of an image's file, plane and declared modality, digest of the model.
type CaseKey = (String, Option<Plane>, Option<Modality>, String);

/// Everything that is open.
pub(crate) struct Desk {
    /// The model.
    pub(crate) slot: ModelSlot,
    images: Mutex<VecDeque<(String, Arc<Image>)>>,
    cases: Mutex<VecDeque<(CaseKey, Arc<OpenCase>)>>,
    readings: Mutex<Readings>,
    limits: Limits,
    device: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    most_waiting: usize,
    ahead: Mutex<VecDeque<(Arc<OpenCase>, usize)>>,
    wake: Condvar,
    stopping: AtomicBool,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Readings {
    /// Oldest use first. The case itself is the key, so that a reading never meets another model or image.
    kept: VecDeque<(Arc<OpenCase>, usize, Arc<Reading>)>,
    bytes: u64,
    most: u64,
}

impl Desk {
    pub(crate) fn new(slot: ModelSlot, limits: Limits, cache: u64, queue: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            slot,
            images: Mutex::default(),
            cases: Mutex::default(),
            readings: Mutex::new(Readings { most: cache, ..Readings::default() }),
            limits,
            // One inference at a time: the device is one, and each may use all cores.
            device: Arc::new(Semaphore::new(1)),
            waiting: Arc::default(),
            most_waiting: queue,
            ahead: Mutex::default(),
            wake: Condvar::new(),
            stopping: AtomicBool::new(false),
            metrics,
        })
    }

    /// Runs `work` when its turn comes, away from the threads that serve requests.
    ///
    /// # Errors
    /// 429 if too many wait; what `work` gives; 500 if it panics.
    pub(crate) async fn queued<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let waiting = Waiting::enter(&self.waiting, self.most_waiting)?;
        let turn = self.device.clone().acquire_owned().await.map_err(|_| Refusal::failed("the server is stopping"))?;
        drop(waiting);
        let desk = self.clone();
        let began = Instant::now();
        let outcome = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&desk)
        });
        let outcome = outcome.await.map_err(|_| Refusal::failed("the case failed inside the server"))?;
        self.metrics.inference(began.elapsed());
        outcome
    }

    /// Requests that wait for their turn.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Bytes of kept readings.
    pub(crate) fn reading_bytes(&self) -> u64 {
        lock(&self.readings).bytes
    }

    /// The image of a picture in the store, from memory if it is open. Blocks.
    pub(crate) fn image(&self, picture: &Picture) -> Result<Arc<Image>, Refusal> {
        let find = || {
            let mut open = lock(&self.images);
            let at = open.iter().position(|(v, _)| *v == picture.version)?;
            let entry = open.remove(at)?;
            open.push_back(entry.clone());
            Some(entry.1)
        };
        if let Some(image) = find() {
            return Ok(image);
        }
        let options = ReadOptions { limits: self.limits, ..ReadOptions::default() };
        let image = Arc::new(volseg_io::read(&picture.path, &options)?);
        if image.frames > 1 {
            return Err(Refusal::field(format!("the image has {} volumes; send one", image.frames)));
        }
        let mut open = lock(&self.images);
        open.push_back((picture.version.clone(), image.clone()));
        while open.len() > OPEN_IMAGES {
            open.pop_front();
        }
        Ok(image)
    }

    /// The image with the model of now. Blocks.
    pub(crate) fn case(
        &self,
        picture: &Picture,
        modality: Option<Modality>,
        plane: Option<Plane>,
    ) -> Result<Arc<OpenCase>, Refusal> {
        let image = self.image(picture)?;
        let model = self.slot.get();
        let key: CaseKey = (picture.version.clone(), plane, modality, model.sha256().to_owned());
        {
            let mut open = lock(&self.cases);
            if let Some(at) = open.iter().position(|(k, _)| *k == key)
                && let Some(entry) = open.remove(at)
            {
                open.push_back(entry.clone());
                return Ok(entry.1);
            }
        }
        let case = Arc::new(OpenCase::new(image, model, modality, plane)?);
        let mut open = lock(&self.cases);
        open.push_back((key, case.clone()));
        while open.len() > OPEN_CASES {
            if let Some((_, gone)) = open.pop_front() {
                self.forget(&gone);
            }
        }
        Ok(case)
    }

    fn forget(&self, case: &Arc<OpenCase>) {
        let mut readings = lock(&self.readings);
        let mut freed = 0;
        readings.kept.retain(|(c, _, r)| {
            let stays = !Arc::ptr_eq(c, case);
            freed += if stays { 0 } else { r.bytes() as u64 };
            stays
        });
        readings.bytes = readings.bytes.saturating_sub(freed);
    }

    /// The reading of a slice, kept or made now.
    pub(crate) fn reading(&self, case: &Arc<OpenCase>, slice: usize) -> Result<Arc<Reading>, Error> {
        if let Some(reading) = self.kept(case, slice) {
            self.metrics.reading(true);
            return Ok(reading);
        }
        self.metrics.reading(false);
        let reading = Arc::new(case.read(slice)?);
        self.keep(case, slice, &reading);
        Ok(reading)
    }

    fn kept(&self, case: &Arc<OpenCase>, slice: usize) -> Option<Arc<Reading>> {
        let mut readings = lock(&self.readings);
        let at = readings.kept.iter().position(|(c, s, _)| *s == slice && Arc::ptr_eq(c, case))?;
        let entry = readings.kept.remove(at)?;
        let reading = entry.2.clone();
        readings.kept.push_back(entry);
        Some(reading)
    }

    fn keep(&self, case: &Arc<OpenCase>, slice: usize, reading: &Arc<Reading>) {
        let mut readings = lock(&self.readings);
        if readings.kept.iter().any(|(c, s, _)| *s == slice && Arc::ptr_eq(c, case)) {
            return;
        }
        readings.bytes += reading.bytes() as u64;
        readings.kept.push_back((case.clone(), slice, reading.clone()));
        while readings.bytes > readings.most {
            let Some((_, _, gone)) = readings.kept.pop_front() else { break };
            readings.bytes = readings.bytes.saturating_sub(gone.bytes() as u64);
        }
    }

    /// Says where the user works: slices around are read while nothing else is asked.
    pub(crate) fn look_ahead(&self, case: &Arc<OpenCase>, slice: usize) {
        let slices = case.stack().slices;
        let mut ahead = lock(&self.ahead);
        ahead.clear();
        for step in 1..=AHEAD {
            let around = [slice.checked_add(step), slice.checked_sub(step)];
            for s in around.into_iter().flatten().filter(|&s| s < slices) {
                ahead.push_back((case.clone(), s));
            }
        }
        self.wake.notify_one();
    }

    /// Starts the thread that reads ahead; it ends with [`Desk::stop`].
    pub(crate) fn start_reading_ahead(self: &Arc<Self>) {
        let desk = self.clone();
        let work = move || {
            loop {
                let next = {
                    let mut ahead = lock(&desk.ahead);
                    loop {
                        if desk.stopping.load(Ordering::Relaxed) {
                            return;
                        }
                        match ahead.pop_front() {
                            Some(next) => break next,
                            None => ahead = desk.wake.wait(ahead).unwrap_or_else(PoisonError::into_inner),
                        }
                    }
                };
                let (case, slice) = next;
                // A full store is not emptied for slices that nobody asked for.
                let room = {
                    let readings = lock(&desk.readings);
                    readings.bytes + (8 << 20) < readings.most
                };
                if room
                    && desk.kept(&case, slice).is_none()
                    && let Ok(reading) = case.read(slice)
                {
                    desk.keep(&case, slice, &Arc::new(reading));
                }
            }
        };
        let _ = std::thread::Builder::new().name("reading ahead".into()).spawn(work);
    }

    /// Ends the reading ahead and refuses new work.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        lock(&self.ahead).clear();
        self.wake.notify_all();
    }

    /// Whether the server is stopping.
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// Counted among those that wait, until dropped.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn enter(count: &Arc<AtomicUsize>, most: usize) -> Result<Self, Refusal> {
        if count.fetch_add(1, Ordering::Relaxed) >= most {
            count.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::busy(format!("{most} requests are waiting already; try again")));
        }
        Ok(Self(count.clone()))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}
