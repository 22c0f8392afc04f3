//! The words of a prompt beside box and points: an answer about its slice and a line about its organ.

use super::ChainArgs;
use crate::{
    exit::usage_error,
    global::{Global, Level},
};
use std::{path::PathBuf, time::Duration};
use volseg_engine::PromptEntry;
use volseg_io::Image;
use volseg_model::{clip::ClipModel, weights};
use volseg_prompt::chain::{Chain, ChainRequest, Renderer, Target};
use volseg_prompt::vqa::{
    Answers, Backend, Descriptions, GreyPicture, HttpClient, HttpSettings, Query, VqaChoice, prompt_text, question,
};

/// Environment variable with the service's key.
const KEY: &str = "VOLSEG_VQA_KEY";

/// Who is asked about slices.
#[derive(clap::Args)]
#[command(next_help_heading = "Words of a prompt")]
pub(crate) struct WordArgs {
    /// Who answers a question about each slice: none, file, http, medvint[:FILE] [default: file with --answers, else none]
    #[arg(long, value_name = "BACKEND")]
    vqa: Option<String>,
    /// Answers for --vqa file, JSON lines
    #[arg(long, value_name = "FILE.jsonl")]
    answers: Option<PathBuf>,
    /// Chat service for --vqa http (OpenAI-compatible or Ollama); a key is taken from VOLSEG_VQA_KEY
    #[arg(long, value_name = "URL")]
    vqa_url: Option<String>,
    /// Model that the service is asked for
    #[arg(long, default_value = "default", value_name = "NAME")]
    vqa_model: String,
    /// Seconds for one question, repetitions included
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    vqa_timeout: f64,
    /// The service may be on another machine: rendered slices leave this one
    #[arg(long)]
    allow_remote: bool,
    /// The service also writes the line about each organ, once; else the built-in one is taken
    #[arg(long, requires = "vqa_url")]
    vqa_describe: bool,
}

/// Answers and descriptions, ready to be asked for.
pub(crate) struct Words {
    answers: Answers,
    descriptions: Descriptions,
    /// Somebody is asked about slices.
    asks: bool,
}

impl WordArgs {
    /// Opens what was chosen; nothing is asked yet.
    ///
    /// # Errors
    /// A usage error for options that do not go together; files that cannot be read.
    pub(crate) fn open(&self, chain: &ChainArgs) -> anyhow::Result<Words> {
        let usage = |e: volseg_prompt::Error| match e {
            volseg_prompt::Error::Request(text) => usage_error(text),
            other => other.into(),
        };
        if !(0.0..=3600.0).contains(&self.vqa_timeout) || self.vqa_timeout == 0.0 {
            return Err(usage_error(format!("--vqa-timeout: found {}, expected 0 to 3600 seconds", self.vqa_timeout)));
        }
        let http = self.vqa_url.as_ref().map(|url| {
            let mut settings = HttpSettings::new(url, &self.vqa_model);
            settings.key = std::env::var(KEY).ok().filter(|k| !k.is_empty());
            settings.allow_remote = self.allow_remote;
            settings.time_limit = Duration::from_secs_f64(self.vqa_timeout);
            settings
        });
        let (backend, file) =
            match self.vqa.as_deref().map(|v| v.split_once(':').map_or((v, None), |(v, f)| (v, Some(f)))) {
                Some((name, Some(_))) if name != "medvint" => {
                    return Err(usage_error(format!("--vqa: found {name}:FILE, only medvint takes a file there")));
                }
                Some((name, file)) => (Some(name.parse().map_err(usage)?), file),
                None => (None, None),
            };
        let cache = chain.cache_file("answers.jsonl");
        let choice = VqaChoice {
            backend,
            answers: self.answers.clone(),
            http: http.clone(),
            weights: match backend {
                Some(Backend::MedVint) => {
                    let name = file.unwrap_or("medvint");
                    Some(weights::find(name).map_err(|e| usage_error(format!("--vqa: {e}")))?)
                }
                _ => None,
            },
            cache: cache.clone(),
        };
        let descriptions = match http {
            Some(settings) if self.vqa_describe => {
                Descriptions::by_model(HttpClient::new(settings).map_err(usage)?, cache.as_deref())?
            }
            _ => Descriptions::built_in(),
        };
        let asks = choice.asks();
        Ok(Words { answers: choice.open().map_err(usage)?, descriptions, asks })
    }
}

impl Words {
    /// The built-in descriptions alone.
    pub(crate) fn built_in() -> Self {
        Self { answers: Answers::none(), descriptions: Descriptions::built_in(), asks: false }
    }

    /// Gives each prompt its text, and its trace the answer. `name` is the input's file name, for an answers file alone.
    ///
    /// # Errors
    /// Only what reading the image meets; a backend that fails costs the answer and gives a warning.
    pub(crate) fn add(
        &self,
        entries: &mut [PromptEntry],
        image: &Image,
        name: &str,
        chain: &mut Chain,
        targets: &[Target],
        request: &ChainRequest,
        model: &ClipModel,
        global: &Global,
    ) -> anyhow::Result<()> {
        let renderer = if self.asks { Some(Renderer::new(image, request)) } else { None };
        let pieces = |text: &str| model.pieces(text);
        let bar = global.bar(entries.len() as u64, "questions");
        let (mut clipped, mut picture) = (0, None);
        for (entry, prompt) in entries.iter_mut().zip(&chain.prompts) {
            bar.inc(1);
            let target = &targets[prompt.target];
            let description = target.organ.map(|o| self.descriptions.of(o, request.modality));
            let mut answer = None;
            if let Some(renderer) = &renderer {
                // Prompts come by slice.
                if picture.as_ref().is_none_or(|(slice, _)| *slice != prompt.slice) {
                    picture = Some((prompt.slice, renderer.grey(prompt.slice)?));
                }
                if let Some((_, (width, height, pixels))) = &picture {
                    let organ = target.organ.map_or(target.text.as_str(), |o| o.organ().prompt);
                    answer = self.answers.ask(&Query {
                        image: name,
                        slice: prompt.slice,
                        organ,
                        question: &question(organ, request.modality),
                        picture: GreyPicture { width: *width, height: *height, pixels },
                    });
                }
            }
            let said = answer.as_ref().map(|a| a.text.as_str());
            if let Some(text) = prompt_text(said, description.as_deref(), model.config.text.context, pieces) {
                clipped += usize::from(text.clipped);
                entry.text = Some(text.text);
            }
            if let (Some(answer), Some(trace)) = (answer, entry.trace.as_mut().and_then(|t| t.as_object_mut())) {
                trace.insert("answer".into(), answer.text.into());
                trace.insert("answer_source".into(), answer.source.into());
            }
        }
        bar.finish_and_clear();
        let mut warnings = self.answers.warnings();
        warnings.extend(self.descriptions.warnings());
        if clipped > 0 {
            warnings.push(format!("{clipped} texts were too long for the text tower and lost their ends"));
        }
        for w in &warnings {
            global.log(Level::Warn, w);
        }
        chain.warnings.extend(warnings);
        Ok(())
    }
}
