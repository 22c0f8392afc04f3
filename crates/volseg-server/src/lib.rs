//! The server of volseg: MONAI Label's REST API for 3D Slicer and OHIF, rankings by people, and a small web page.
//!
//! One model is served; an image is opened once and slices are read once, so that further clicks on a slice run the decoder
//! alone. It listens on loopback unless a token is set. Image ids are opaque: they are looked up, hashed in file names and
//! never logged. Saved labels are flushed to disk before the answer and never overwritten.

mod answers;
mod app;
mod ask;
mod audit;
mod datastore;
mod desk;
mod drawing;
mod forms;
mod guard;
mod infer;
mod metrics;
mod model_slot;
mod models;
mod names;
mod page;
mod query;
mod rankings;
mod refusal;
mod sessions;
mod slices;
mod store;
mod temporary;

use desk::Desk;
use hyper_util::{rt::TokioIo, rt::TokioTimer, server::graceful::GracefulShutdown, service::TowerToHyperService};
use metrics::Metrics;
use model_slot::ModelSlot;
use rankings::Rankings;
use sessions::Sessions;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use store::Store;
use temporary::Temporary;
use tokio::{net::TcpListener, sync::Semaphore};
use volseg_engine::batch::SiteKey;

/// Loads the model, at the start and again when its file has changed; the error is one sentence.
pub type ModelLoader = Arc<dyn Fn() -> Result<volseg_engine::Model, String> + Send + Sync>;
/// Takes a line for the log.
pub type Log = Arc<dyn Fn(&str) + Send + Sync>;

/// Connections at the same time.
const CONNECTIONS: usize = 512;
/// A request's header must have come by then.
const HEADER_TIME: Duration = Duration::from_secs(20);
/// Requests in work get so long to end when the server stops.
const GRACE: Duration = Duration::from_secs(30);

/// How to serve.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// File that receives the port number once the server listens.
    pub port_file: Option<PathBuf>,
    /// Offer MONAI Label's endpoints.
    pub monai_label: bool,
    /// Folder of images to work on.
    pub studies: Option<PathBuf>,
    /// Folder of labels, rankings and the audit log.
    pub data: PathBuf,
    /// Copy judged uploads into `data`, so that a training finds them.
    pub keep_judged: bool,
    /// Folder for temporary files; `None` is the system's.
    pub temporary: Option<PathBuf>,
    /// Weights file to look at for changes.
    pub model_file: Option<PathBuf>,
    /// Token that every request must carry.
    pub token: Option<String>,
    /// Origins of pages on other sites that may use the server.
    pub allow_origin: Vec<String>,
    /// Further names of this server, for a proxy in front.
    pub allow_host: Vec<String>,
    /// Largest request body, bytes; also the largest size of an image after decompression.
    pub max_body: u64,
    /// Memory for readings of slices, bytes.
    pub cache: u64,
    /// Requests that may wait for the model.
    pub queue: usize,
    /// Threads of an automatic segmentation.
    pub threads: usize,
    /// Life of a session without use, seconds.
    pub session_expiry: u64,
}

/// Why a server does not start or ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Settings that are not safe or cannot be.
    #[error("{0}")]
    Settings(String),
    /// The model.
    #[error("could not load the model: {0}")]
    Model(String),
    /// The system.
    #[error("could not {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
}

/// Everything that handlers share.
pub(crate) struct App {
    settings: Settings,
    loopback: bool,
    store: Store,
    sessions: Sessions,
    desk: Arc<Desk>,
    metrics: Arc<Metrics>,
    /// Private folder for files in flight.
    temporary: PathBuf,
    rankings: Rankings,
    /// Names cases in judgements: nobody without the key can tell which image a name stands for.
    site_key: SiteKey,
    /// Wrong log-ins of the last minute, and when the last was.
    wrong_tries: Mutex<(u64, u64)>,
}

/// Serves until SIGTERM, SIGINT or Ctrl-C; requests in work are finished.
///
/// # Errors
/// Before the first request only: settings, model, folders, port.
pub fn serve(mut settings: Settings, load: ModelLoader, log: &Log) -> Result<(), Error> {
    let system = |what| move |source| Error::System { what, source };
    let loopback = settings.listen.ip().is_loopback();
    if !loopback && settings.token.is_none() {
        return Err(Error::Settings(format!(
            "{} can be reached from other machines: set a token (--token-file or VOLSEG_TOKEN), or listen on 127.0.0.1",
            settings.listen.ip()
        )));
    }
    for given in &mut settings.allow_origin {
        *given = guard::origin(given).ok_or_else(|| {
            Error::Settings(format!(
                "--allow-origin: found {given}, expected an origin such as https://viewer.example; * and null would open patient \
                 images to every web page"
            ))
        })?;
    }
    let folder = Temporary::make(settings.temporary.as_deref()).map_err(system("make a temporary folder"))?;
    let slot = ModelSlot::new(load, settings.model_file.clone(), log.clone()).map_err(Error::Model)?;
    let store = Store::open(settings.studies.clone(), settings.data.clone(), folder.path())
        .map_err(system("open the folders of studies and labels"))?;
    let site_key =
        SiteKey::read_or_make(&store.own_file("site.key")).map_err(|e| Error::Settings(format!("site key: {e}")))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(system("start threads"))?;
    runtime.block_on(run(settings, loopback, slot, store, site_key, folder.path(), log))
}

async fn run(
    settings: Settings,
    loopback: bool,
    slot: ModelSlot,
    store: Store,
    site_key: SiteKey,
    temporary: &Path,
    log: &Log,
) -> Result<(), Error> {
    let system = |what| move |source| Error::System { what, source };
    let metrics = Arc::new(Metrics::default());
    let limits = volseg_io::Limits {
        max_file_bytes: settings.max_body,
        max_inflated_bytes: settings.max_body,
        ..volseg_io::Limits::default()
    };
    let desk = Desk::new(slot, limits, settings.cache, settings.queue, metrics.clone());
    desk.start_reading_ahead();
    let listener = TcpListener::bind(settings.listen).await.map_err(system("listen on the address"))?;
    let address = listener.local_addr().map_err(system("listen on the address"))?;
    let sessions = Sessions::new(temporary.join("sessions"), settings.session_expiry);
    let port_file = settings.port_file.clone();
    let app = Arc::new(App {
        settings,
        loopback,
        store,
        sessions,
        desk: desk.clone(),
        metrics,
        temporary: temporary.to_owned(),
        rankings: Rankings::default(),
        site_key,
        wrong_tries: Mutex::default(),
    });
    let router = app::router(app.clone());
    if let Some(path) = port_file {
        volseg_io::AtomicFile::write(&path, format!("{}\n", address.port()).as_bytes())
            .map_err(|e| Error::Settings(format!("--port-file: {e}")))?;
    }
    log(&format!("listening on http://{address}"));
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop_signal());
    let mut sweep = tokio::time::interval(Duration::from_secs(30));
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = sweep.tick() => app.sessions.sweep(),
            accepted = listener.accept() => {
                // A connection that was reset meanwhile, or no file handle left: the next one may work.
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                let Ok(place) = slots.clone().acquire_owned().await else { break };
                let _ = stream.set_nodelay(true);
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_buf_size(1 << 20);
                let service = TowerToHyperService::new(router.clone());
                let served = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
                tokio::spawn(async move {
                    // Errors here are the client's end of the line; there is nobody to tell.
                    let _ = served.await;
                    drop(place);
                });
            }
        }
    }
    log("stopping");
    drop(listener);
    // What was asked before is answered; what takes longer is given up.
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
    desk.stop();
    Ok(())
}

#[cfg(unix)]
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(not(unix))]
async fn stop_signal() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}
