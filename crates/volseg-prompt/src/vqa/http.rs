use super::{Api, GreyPicture, Query, Vqa, wire};
use crate::Error;
use std::net::{IpAddr, ToSocketAddrs};
use std::time::{Duration, Instant};
use ureq::Agent;
use ureq::http::Uri;

/// Longest reply, bytes.
const MOST_BYTES: u64 = 1 << 20;

/// Waiting time before the first repetition; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// A chat service and how it may be used.
#[derive(Clone)]
#[non_exhaustive]
pub struct HttpSettings {
    /// Its address, such as `http://127.0.0.1:8080`, with or without the path of the chat.
    pub url: String,
    /// The model it is asked for.
    pub model: String,
    /// The protocol; by the address if not said.
    pub api: Option<Api>,
    /// Key that is sent as a bearer token. It is never shown.
    pub key: Option<String>,
    /// Pictures may leave this machine.
    pub allow_remote: bool,
    /// Time for one question, repetitions included.
    pub time_limit: Duration,
    /// Repetitions where a connection breaks or the service is busy or fails.
    pub repetitions: u32,
}

impl HttpSettings {
    /// A service at `url`: this machine only, 30 seconds a question, two repetitions.
    #[must_use]
    pub fn new(url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            model: model.into(),
            api: None,
            key: None,
            allow_remote: false,
            time_limit: Duration::from_secs(30),
            repetitions: 2,
        }
    }
}

impl std::fmt::Debug for HttpSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url, model, api, key, allow_remote, time_limit, repetitions } = self;
        f.debug_struct("HttpSettings")
            .field("url", url)
            .field("model", model)
            .field("api", api)
            .field("key", &key.as_ref().map(|_| "(not shown)"))
            .field("allow_remote", allow_remote)
            .field("time_limit", time_limit)
            .field("repetitions", repetitions)
            .finish()
    }
}

/// A chat service on this machine, or elsewhere if that was allowed. Of an image it sees the rendered 8-bit picture and the question.
#[derive(Debug)]
pub struct HttpClient {
    agent: Agent,
    settings: HttpSettings,
    api: Api,
    address: String,
}

impl HttpClient {
    /// Checks the address; connects to nothing.
    ///
    /// # Errors
    /// [`Error::Request`] for an address that is none, is of another protocol or has a password in it, and for a host that is not this
    /// machine unless `allow_remote` is set.
    pub fn new(settings: HttpSettings) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Request(format!("address of the service: {why}"));
        let uri: Uri = settings.url.parse().map_err(|_| wrong("it is no URL, expected http://HOST:PORT"))?;
        let (scheme, authority) = match (uri.scheme_str(), uri.authority()) {
            (Some(scheme), Some(authority)) => (scheme, authority),
            _ => return Err(wrong("it is no URL, expected http://HOST:PORT")),
        };
        match scheme {
            "http" => {}
            "https" if cfg!(feature = "https") => {}
            "https" => return Err(wrong("this build has no TLS (feature https); use http or a local relay")),
            _ => return Err(wrong("expected http:// or https://")),
        }
        if authority.as_str().contains('@') {
            return Err(wrong("a user or password does not belong there; give a key in the environment"));
        }
        let port = authority.port_u16();
        let default_port = if scheme == "https" { 443 } else { 80 };
        if !settings.allow_remote && !is_this_machine(authority.host(), port.unwrap_or(default_port)) {
            let why = "it is not this machine, and pictures would leave it; allow that with --allow-remote";
            return Err(wrong(why));
        }
        let (api, path) = Api::of(settings.api, uri.path(), port);
        let config = Agent::config_builder()
            // A redirection could lead off this machine, a proxy does.
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent("volseg");
        let config = if settings.allow_remote { config } else { config.proxy(None) };
        let address = format!("{scheme}://{authority}{path}");
        Ok(Self { agent: config.build().into(), settings, api, address })
    }

    /// Asks once, with repetitions within the time limit, and gives the words of the reply.
    ///
    /// # Errors
    /// [`Error::Backend`] if there is no usable reply in time; [`Error::Input`] for a picture of another size than it says.
    pub fn chat(&self, question: &str, picture: Option<&GreyPicture<'_>>) -> Result<String, Error> {
        let png = picture.map(wire::png).transpose()?;
        let body = self.api.request(&self.settings.model, question, png.as_deref()).to_string();
        let end = Instant::now() + self.settings.time_limit;
        let mut pause = FIRST_PAUSE;
        let mut left = self.settings.repetitions;
        loop {
            let failure = match self.send(&body, end) {
                Ok(text) => return Ok(text),
                Err(failure) => failure,
            };
            if !failure.again || left == 0 || Instant::now() + pause >= end {
                return Err(Error::Backend(failure.why));
            }
            std::thread::sleep(pause);
            pause *= 2;
            left -= 1;
        }
    }

    /// Protocol, address and model.
    pub(super) fn name(&self) -> String {
        format!("http {:?} {} {}", self.api, self.address, self.settings.model)
    }

    fn send(&self, body: &str, end: Instant) -> Result<String, Failure> {
        let left = end.saturating_duration_since(Instant::now());
        let request = self.agent.post(&self.address).config().timeout_global(Some(left)).build();
        let request = request.header("content-type", "application/json");
        let request = match &self.settings.key {
            Some(key) => request.header("authorization", format!("Bearer {key}")),
            None => request,
        };
        let mut reply = request.send(body).map_err(|e| Failure::of(&e))?;
        let status = reply.status();
        if !status.is_success() {
            let again = status.is_server_error() || status.as_u16() == 429;
            return Err(Failure { again, why: format!("the service answered with status {}", status.as_u16()) });
        }
        let text = reply.body_mut().with_config().limit(MOST_BYTES).lossy_utf8(true).read_to_string();
        let text = text.map_err(|e| Failure::of(&e))?;
        let garbage = || Failure { again: false, why: format!("the service's reply is no {:?} chat", self.api) };
        self.api.reply(&text).ok_or_else(garbage)
    }
}

impl Vqa for HttpClient {
    fn id(&self) -> String {
        self.name()
    }

    fn answer(&self, query: &Query<'_>) -> Result<String, Error> {
        self.chat(query.question, Some(&query.picture))
    }
}

struct Failure {
    again: bool,
    why: String,
}

impl Failure {
    fn of(error: &ureq::Error) -> Self {
        match error {
            ureq::Error::Timeout(_) => Self { again: false, why: "the service did not answer in time".into() },
            ureq::Error::BodyExceedsLimit(_) => Self { again: false, why: "the service's reply is too long".into() },
            ureq::Error::Io(e) => {
                Self { again: true, why: format!("the connection to the service failed: {}", e.kind()) }
            }
            e => Self { again: true, why: format!("the connection to the service failed: {e}") },
        }
    }
}

/// Whether a host can only mean this machine: a loopback address, or a name all of whose addresses are.
fn is_this_machine(host: &str, port: u16) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) if bare.eq_ignore_ascii_case("localhost") => {
            (bare, port).to_socket_addrs().is_ok_and(|addresses| addresses.map(|a| a.ip()).all(|ip| ip.is_loopback()))
        }
        // Other names could be answered differently the next time they are looked up.
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_asked_unless_allowed() {
        let open = |url: &str, allow_remote: bool| {
            HttpClient::new(HttpSettings { allow_remote, ..HttpSettings::new(url, "m") })
        };
        for url in ["http://127.0.0.1:1/v1", "http://127.8.9.1", "http://[::1]:11434", "http://LOCALHOST:8080/"] {
            assert!(open(url, false).is_ok(), "{url}");
        }
        for url in [
            "http://10.0.0.1",
            "http://example.org",
            "http://127.0.0.1.example.org",
            "http://0.0.0.0",
            "http://2130706433",
        ] {
            let error = open(url, false).unwrap_err().to_string();
            assert!(error.contains("--allow-remote"), "{url}: {error}");
            assert!(open(url, true).is_ok(), "{url}");
        }
        for url in [
            "",
            "127.0.0.1:80",
            "/v1",
            "ftp://127.0.0.1",
            "file:///etc/passwd",
            "http://127.0.0.1@example.org",
            "http://",
        ] {
            assert!(open(url, true).is_err(), "{url}");
        }
        if !cfg!(feature = "https") {
            assert!(open("https://127.0.0.1", true).unwrap_err().to_string().contains("TLS"));
        }
    }

    #[test]
    fn the_key_is_never_shown() {
        let settings = HttpSettings { key: Some("s3cret".into()), ..HttpSettings::new("http://127.0.0.1:9", "m") };
        let client = HttpClient::new(settings).unwrap();
        assert!(!format!("{client:?} {}", client.name()).contains("s3cret"));
    }
}
