//! What goes over the wire to a chat service and what comes back.

use super::GreyPicture;
use crate::Error;
use base64::Engine;
use serde_json::{Value, json};

/// Most tokens of an answer.
const MOST_TOKENS: u32 = 60;

/// Which protocol a service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `/v1/chat/completions`, as OpenAI, llama.cpp, vLLM and LM Studio have it.
    OpenAi,
    /// `/api/chat` of Ollama.
    Ollama,
}

impl std::str::FromStr for Api {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "openai" => Ok(Self::OpenAi),
            "ollama" => Ok(Self::Ollama),
            _ => Err(Error::Request(format!("protocol {text:?} is unknown, expected openai or ollama"))),
        }
    }
}

impl Api {
    /// The protocol and the whole path that an address means: a path that already names a chat stays, a bare address gets one.
    /// Ollama is known by its port 11434 or by `/api`.
    pub(super) fn of(asked: Option<Self>, path: &str, port: Option<u16>) -> (Self, String) {
        let path = path.trim_end_matches('/');
        let last = path.rsplit('/').next().unwrap_or_default();
        let guess = || match path {
            "" if port == Some(11434) => Self::Ollama,
            _ if path.ends_with("/api") || path.ends_with("/api/chat") => Self::Ollama,
            _ => Self::OpenAi,
        };
        let api = asked.unwrap_or_else(guess);
        let more = match (api, last) {
            (Self::OpenAi, "completions") | (Self::Ollama, "chat") => "",
            (Self::OpenAi, "v1") => "/chat/completions",
            (Self::OpenAi, _) => "/v1/chat/completions",
            (Self::Ollama, "api") => "/chat",
            (Self::Ollama, _) => "/api/chat",
        };
        (api, format!("{path}{more}"))
    }

    /// A request: the model's name, the question and, in base64, the picture's PNG. Nothing else.
    pub(super) fn request(self, model: &str, question: &str, png: Option<&[u8]>) -> Value {
        let picture = png.map(|bytes| base64::engine::general_purpose::STANDARD.encode(bytes));
        match self {
            Self::OpenAi => {
                let content = match picture {
                    None => json!(question),
                    Some(data) => json!([
                        { "type": "text", "text": question },
                        { "type": "image_url", "image_url": { "url": format!("data:image/png;base64,{data}") } },
                    ]),
                };
                json!({ "model": model, "temperature": 0, "max_tokens": MOST_TOKENS, "stream": false,
                        "messages": [{ "role": "user", "content": content }] })
            }
            Self::Ollama => {
                let mut message = json!({ "role": "user", "content": question });
                if let Some(data) = picture {
                    message["images"] = json!([data]);
                }
                json!({ "model": model, "stream": false, "messages": [message],
                        "options": { "temperature": 0, "num_predict": MOST_TOKENS } })
            }
        }
    }

    /// The words in a reply; `None` if it is no reply of this protocol.
    pub(super) fn reply(self, body: &str) -> Option<String> {
        let body: Value = serde_json::from_str(body).ok()?;
        let content = match self {
            Self::OpenAi => body.get("choices")?.get(0)?.get("message")?.get("content")?,
            Self::Ollama => body.get("message")?.get("content")?,
        };
        let text = match content {
            Value::String(text) => text.clone(),
            // Some services answer in parts.
            Value::Array(parts) => parts.iter().filter_map(|p| p.get("text")?.as_str()).collect(),
            _ => return None,
        };
        // Models that think aloud put the answer behind their thoughts.
        Some(text.rsplit("</think>").next().unwrap_or_default().to_owned())
    }
}

/// An 8-bit grey PNG. It holds pixels alone.
pub(super) fn png(picture: &GreyPicture<'_>) -> Result<Vec<u8>, Error> {
    let size = |n: usize| u32::try_from(n).map_err(|_| Error::Input(format!("a picture is {n} pixels wide or high")));
    let (width, height) = (size(picture.width)?, size(picture.height)?);
    if picture.pixels.len() != picture.width.saturating_mul(picture.height) {
        return Err(Error::Input(format!("a picture of {width} x {height} has {} pixels", picture.pixels.len())));
    }
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    image::ImageEncoder::write_image(encoder, picture.pixels, width, height, image::ExtendedColorType::L8)
        .map_err(|e| Error::Input(format!("a picture cannot be written as PNG: {e}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_whole_paths() {
        for (asked, path, port, api, whole) in [
            (None, "/", Some(8080), Api::OpenAi, "/v1/chat/completions"),
            (None, "/v1/", None, Api::OpenAi, "/v1/chat/completions"),
            (None, "/llm/v1/chat/completions", None, Api::OpenAi, "/llm/v1/chat/completions"),
            (None, "", Some(11434), Api::Ollama, "/api/chat"),
            (None, "/v1", Some(11434), Api::OpenAi, "/v1/chat/completions"),
            (None, "/api", Some(80), Api::Ollama, "/api/chat"),
            (Some(Api::Ollama), "/ollama", None, Api::Ollama, "/ollama/api/chat"),
            (Some(Api::Ollama), "/api/chat", None, Api::Ollama, "/api/chat"),
        ] {
            assert_eq!(Api::of(asked, path, port), (api, whole.to_owned()), "{path}");
        }
    }

    #[test]
    fn replies_are_read_in_all_their_forms() {
        let openai = |content: Value| {
            Api::OpenAi.reply(&json!({ "choices": [{ "message": { "content": content } }] }).to_string())
        };
        assert_eq!(openai(json!("Round.")).as_deref(), Some("Round."));
        assert_eq!(openai(json!([{ "type": "text", "text": "Ro" }, { "text": "und." }])).as_deref(), Some("Round."));
        assert_eq!(openai(json!("<think>hm</think> Round.")).as_deref(), Some(" Round."));
        assert_eq!(Api::Ollama.reply(r#"{"message": {"content": "Round."}}"#).as_deref(), Some("Round."));
        for garbage in
            ["", "<html>", "[]", "{\"choices\": []}", "{\"choices\": [{\"message\": {\"content\": 3}}]}", "null"]
        {
            assert_eq!(Api::OpenAi.reply(garbage), None);
        }
    }
}
