//! `volseg serve`: a server for 3D Slicer, OHIF and browsers.

use crate::request::load_model;
use crate::{
    exit::{ExitCode, Verdict, usage_error},
    global::{Global, Level, LogFormat},
    options,
};
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use volseg_server::{Error, Settings, serve};

/// Serve masks to 3D Slicer, OHIF and browsers
#[derive(clap::Args)]
#[command(after_help = "Examples:
  volseg serve --monai-label                        for the MONAI Label extension at http://127.0.0.1:8000
  volseg serve --monai-label --studies ct-folder    with a folder of images to work through
  volseg serve --listen 127.0.0.1:0 --port-file P   on a free port, written to the file P
  volseg serve --model aligned.safetensors          a changed file is served without a restart
  VOLSEG_TOKEN=a-long-secret volseg serve --monai-label --listen 0.0.0.0:8000")]
pub(crate) struct Args {
    /// Address and port; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8000", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Write the port number to this file once the server listens
    #[arg(long, value_name = "FILE")]
    port_file: Option<PathBuf>,
    /// Offer the MONAI Label API
    #[arg(long)]
    monai_label: bool,
    /// Folder of images to work through; labels go to labels/ in it
    #[arg(long, value_name = "DIR")]
    studies: Option<PathBuf>,
    /// Folder of labels, rankings and the audit log [default: that of --studies, else volseg/serve in the user's data folder]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder for temporary files [default: the system's]
    #[arg(long, value_name = "DIR")]
    temp: Option<PathBuf>,
    /// Keep a copy of every judged upload in judged/ of the data folder: training on rankings needs the images
    #[arg(long)]
    keep_judged: bool,
    /// embedded, or a weights file
    #[arg(long, default_value = "embedded", value_name = "NAME|FILE")]
    model: String,
    /// File that holds the token every request must carry (or set VOLSEG_TOKEN)
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Let pages of this origin use the server, such as https://viewer.example; may be repeated
    #[arg(long, value_name = "URL")]
    allow_origin: Vec<String>,
    /// Another name of this server, for a proxy in front; may be repeated
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// Largest upload, and largest image after decompression
    #[arg(long, default_value = "2GiB", value_name = "SIZE", value_parser = options::size)]
    max_body: u64,
    /// Memory for slices that were read
    #[arg(long, default_value = "512MiB", value_name = "SIZE", value_parser = options::size)]
    cache: u64,
    /// Requests that may wait for the model; more are answered 429
    #[arg(long, default_value_t = 32, value_name = "N")]
    queue: usize,
    /// Seconds without use after which a session ends
    #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
    session_expiry: u64,
}

pub(crate) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let token = token(&args)?;
    if let Some(folder) = args.studies.as_ref().filter(|f| !f.is_dir()) {
        return Err(Verdict::Unreadable(format!("--studies: there is no folder {}", folder.display())).into());
    }
    let data = match (&args.data, &args.studies) {
        (Some(folder), _) | (None, Some(folder)) => folder.clone(),
        (None, None) => user_data()
            .ok_or_else(|| usage_error("there is no user's data folder here; say where labels go with --data DIR"))?,
    };
    let model_file = volseg_model::embedded::shipped(&args.model).is_none().then(|| PathBuf::from(&args.model));
    let settings = Settings {
        listen: args.listen,
        port_file: args.port_file,
        monai_label: args.monai_label,
        studies: args.studies,
        data,
        keep_judged: args.keep_judged,
        temporary: args.temp,
        model_file,
        token,
        allow_origin: args.allow_origin,
        allow_host: args.allow_host,
        max_body: args.max_body,
        cache: args.cache,
        queue: args.queue.max(1),
        threads: global.threads,
        session_expiry: args.session_expiry.max(1),
    };
    let name = args.model;
    let (device, precision) = (global.network_device()?, global.precision);
    // The server keeps the text of an error; the error itself decides the exit code.
    let failed: Arc<Mutex<Option<anyhow::Error>>> = Arc::default();
    let failure = failed.clone();
    let load = move || {
        load_model(&name, &device, precision).map_err(|e| {
            let text = format!("{e:#}");
            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
            text
        })
    };
    let told = Global { ..*global };
    // The address is what the user needs; it is shown without -v.
    let log = move |line: &str| {
        if told.log_format == LogFormat::Text && !told.quiet && line.starts_with("listening") {
            let _ = told.say(line);
        } else {
            told.log(Level::Info, line);
        }
    };
    let log: volseg_server::Log = Arc::new(log);
    match serve(settings, Arc::new(load), &log) {
        Ok(()) => Ok(ExitCode::Done),
        Err(Error::Settings(text)) => Err(usage_error(text)),
        Err(other) => {
            let load = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
            Err(match (other, load) {
                (Error::Model(_), Some(load)) => load.context("could not load the model"),
                (other, _) => other.into(),
            })
        }
    }
}

/// From the file or the environment, never from the command line, where every user of the machine could read it.
fn token(args: &Args) -> anyhow::Result<Option<String>> {
    let text = match &args.token_file {
        Some(path) => Some(std::fs::read_to_string(path).map_err(|e| {
            Verdict::Unreadable(format!("could not read the token in {}: {e}", path.display()))
        })?),
        None => std::env::var("VOLSEG_TOKEN").ok().filter(|t| !t.is_empty()),
    };
    let Some(token) = text.map(|t| t.trim().to_owned()) else { return Ok(None) };
    if token.len() < 8 || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(usage_error("the token must have at least 8 letters, digits or signs, and no blanks"));
    }
    Ok(Some(token))
}

fn user_data() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let data = var("XDG_DATA_HOME").or_else(|| Some(var("HOME")?.join(".local/share")))?;
    Some(data.join("volseg/serve"))
}
