//! Options that every command understands, and where text goes: summaries to stdout, log lines and bars to stderr.

use crate::{
    exit::{Verdict, usage_error},
    options::{self, Device},
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    fmt::Display,
    io::{ErrorKind, IsTerminal, Write, stderr, stdout},
};

/// More threads than this are taken for a mistake.
const MOST_THREADS: usize = 1024;

/// The global options as written.
#[derive(clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct GlobalArgs {
    /// Threads to work with [default: all cores]
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    /// Where networks run: auto, cpu, cuda or cuda:N
    #[arg(long, global = true, default_value = "auto", value_name = "DEVICE")]
    device: Device,
    /// Numbers of the image encoder's matrix products on a GPU; the CPU always computes in f32
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM")]
    precision: Precision,
    /// Most memory to use, such as 2GiB; a job that needs more is planned smaller or refused before it starts
    #[arg(long, global = true, value_name = "SIZE", value_parser = options::size)]
    memory: Option<u64>,
    /// Seed of everything that is drawn at random
    #[arg(long, global = true, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// No summary, no bars, no warnings: errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// More log lines; twice for even more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Form of log lines on stderr
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM")]
    log_format: LogFormat,
}

/// Numbers in which a GPU multiplies matrices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the range of 32; norms, softmax and sums stay `f32`.
    Bf16,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// `volseg: warning: …`
    #[default]
    Text,
    /// One JSON object a line: `level`, `message`, `causes` (errors only).
    Json,
}

/// Weight of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// The run ends.
    Error,
    /// The run goes on, but the user should know.
    Warn,
    /// Shown with `-v`.
    Info,
    /// Shown with `-vv`.
    Debug,
}

/// What a command needs to know of the global options. The rayon pool is already set up with `threads`.
#[derive(Clone, Copy)]
pub(crate) struct Global {
    /// Threads to work with, at least 1.
    pub(crate) threads: usize,
    /// Where networks run.
    pub(crate) device: Device,
    /// Numbers in which a GPU multiplies matrices.
    pub(crate) precision: Precision,
    /// Most bytes of memory to use.
    pub(crate) memory: Option<u64>,
    /// Seed of everything drawn at random.
    pub(crate) seed: u64,
    /// Errors only.
    pub(crate) quiet: bool,
    /// How often `-v` was given.
    pub(crate) verbose: u8,
    /// Form of log lines.
    pub(crate) log_format: LogFormat,
}

impl Global {
    /// What was asked for; nothing is started yet.
    pub(crate) fn new(args: &GlobalArgs) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let GlobalArgs { device, precision, memory, seed, quiet, verbose, log_format, .. } = *args;
        let threads = args.threads.unwrap_or_else(cores);
        Self { threads, device, precision, memory, seed, quiet, verbose, log_format }
    }

    /// Checks the device and sets up the thread pool, once.
    ///
    /// # Errors
    /// A usage error for a device that this build has not, or for a number of threads that cannot be meant; an error if threads
    /// cannot be started.
    pub(crate) fn start(&self) -> anyhow::Result<()> {
        if let (Device::Cuda(_), Err(e)) = (self.device, self.network_device()) {
            return Err(usage_error(format!("--device: {e}; expected auto or cpu")));
        }
        if !(1..=MOST_THREADS).contains(&self.threads) {
            return Err(usage_error(format!("--threads: found {}, expected 1 to {MOST_THREADS}", self.threads)));
        }
        Ok(rayon::ThreadPoolBuilder::new().num_threads(self.threads).build_global()?)
    }

    /// Where networks run.
    ///
    /// # Errors
    /// A GPU that was asked for by number and cannot be used.
    pub(crate) fn network_device(&self) -> Result<candle_core::Device, volseg_model::Error> {
        match self.device {
            // A GPU's results differ in the last digits: nobody gets them without asking.
            Device::Cpu | Device::Auto => Ok(candle_core::Device::Cpu),
            Device::Cuda(n) => volseg_model::gpu(n),
        }
    }

    /// Prints a line of the summary to stdout, unless `--quiet`.
    ///
    /// # Errors
    /// If stdout cannot be written; a closed pipe ends the run as a success.
    pub(crate) fn say(&self, line: impl Display) -> anyhow::Result<()> {
        if self.quiet { Ok(()) } else { self.print(format_args!("{line}\n")) }
    }

    /// Writes a line about how far a long run is to stderr, unless `--quiet`; with `--log-format json` as a log line.
    pub(crate) fn tell(&self, line: &str) {
        match (self.quiet, self.log_format) {
            (true, _) => {}
            (_, LogFormat::Text) => drop(writeln!(stderr().lock(), "{line}")),
            (_, LogFormat::Json) => {
                let line = serde_json::json!({ "level": "info", "message": line });
                drop(writeln!(stderr().lock(), "{line}"));
            }
        }
    }

    /// Prints what the user asked for (a table, JSON) to stdout, even with `--quiet`. Adds no line break.
    ///
    /// # Errors
    /// As [`Global::say`].
    pub(crate) fn print(&self, text: impl Display) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        match write!(out, "{text}").and_then(|()| out.flush()) {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => Err(Verdict::StdoutClosed.into()),
            other => Ok(other?),
        }
    }

    /// Writes a log line to stderr if its level is wanted.
    pub(crate) fn log(&self, level: Level, message: impl Display) {
        self.log_with_causes(level, &message.to_string(), &[]);
    }

    /// [`Global::log`] with the causes of an error, outermost first.
    pub(crate) fn log_with_causes(&self, level: Level, message: &str, causes: &[String]) {
        let most = match (self.quiet, self.verbose) {
            (true, _) => Level::Error,
            (_, 0) => Level::Warn,
            (_, 1) => Level::Info,
            _ => Level::Debug,
        };
        if level > most {
            return;
        }
        let name = match level {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
        };
        let text = match self.log_format {
            LogFormat::Json if causes.is_empty() => {
                serde_json::json!({ "level": name, "message": message }).to_string() + "\n"
            }
            LogFormat::Json => {
                serde_json::json!({ "level": name, "message": message, "causes": causes }).to_string() + "\n"
            }
            LogFormat::Text => {
                let causes: String = causes.iter().map(|c| format!("  because: {c}\n")).collect();
                format!("volseg: {name}: {message}\n{causes}")
            }
        };
        // Nobody is left to tell if stderr is gone too.
        let _ = stderr().lock().write_all(text.as_bytes());
    }

    /// A progress bar over `length` steps of `what` ("slices") on stderr; invisible where stderr is no terminal.
    pub(crate) fn bar(&self, length: u64, what: &str) -> ProgressBar {
        if self.quiet || self.log_format == LogFormat::Json || !stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let colour = if std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) { "" } else { ":.cyan" };
        let template = format!("{{msg}} {{bar:30{}}} {{pos}}/{{len}} {{eta}}", colour.trim_start_matches(':'));
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        bar.with_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_message(what.to_owned())
    }
}
