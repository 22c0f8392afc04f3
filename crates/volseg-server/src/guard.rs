//! What stands before every handler: host, origin, token, CORS, counting, and reading refused bodies to their end.

use crate::{App, refusal::Refusal};
use axum::{
    body::{Body, Bytes},
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

/// After a refusal at most so much of the body is read, so that the client sees the answer and not a reset connection.
const DRAIN: u64 = 4 << 30;
/// And for so long.
const DRAIN_TIME: Duration = Duration::from_secs(120);
/// A client that sends nothing of a body for so long has gone.
const IDLE: Duration = Duration::from_secs(30);

pub(crate) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let origin = request.headers().get(header::ORIGIN).and_then(|o| o.to_str().ok()).map(ToOwned::to_owned);
    let expects = request.headers().contains_key(header::EXPECT);
    let sends_body = matches!(*request.method(), Method::PUT | Method::POST);
    let (parts, body) = request.into_parts();
    let body = Shared { body: Arc::new(Mutex::new(body)), silent: Arc::default(), idle: None };
    let rest = body.again();
    let request = Request::from_parts(parts, Body::new(body));
    let mut response = match admit(&app, &request, origin.as_deref()) {
        Err(refusal) => refusal.into_response(),
        Ok(()) if request.method() == Method::OPTIONS => preflight(&app, origin.as_deref()),
        Ok(()) => next.run(request).await,
    };
    if response.status() == StatusCode::METHOD_NOT_ALLOWED && response.headers().get(header::CONTENT_TYPE).is_none() {
        response = (response.status(), axum::Json(serde_json::json!({ "detail": "this method is not allowed here" })))
            .into_response();
    }
    if rest.silent.load(Relaxed) {
        response = Refusal::slow().into_response();
    } else if response.status().is_client_error() && sends_body && !expects {
        let _ = tokio::time::timeout(DRAIN_TIME, drain(rest)).await;
    }
    if let Some(origin) = origin.filter(|o| app.settings.allow_origin.contains(o))
        && let Ok(value) = HeaderValue::from_str(&origin)
    {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("origin"));
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    app.metrics.answered(&route, response.status().as_u16());
    response
}

fn admit(app: &App, request: &Request, origin: Option<&str>) -> Result<(), Refusal> {
    let host = request.headers().get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or("");
    // A page of another site can make a browser talk to a loopback address under that site's name.
    if app.loopback && !host_allowed(host, &app.settings.allow_host) {
        return Err(Refusal::forbidden("the Host of the request is not this server"));
    }
    if let Some(origin) = origin {
        let own = origin.split_once("://").is_some_and(|(_, o)| o.eq_ignore_ascii_case(host));
        if !own && !app.settings.allow_origin.iter().any(|o| o == origin) {
            return Err(Refusal::forbidden("pages of other sites may not use this server (--allow-origin)"));
        }
    }
    let path = request.uri().path();
    let open = matches!(path, "/" | "/healthz" | "/auth" | "/auth/" | "/auth/token")
        || path.starts_with("/page/")
        || request.method() == Method::OPTIONS;
    match &app.settings.token {
        Some(token) if !open && !bearer(request.headers()).is_some_and(|t| same(t, token)) => {
            Err(Refusal::unauthorised())
        }
        _ => Ok(()),
    }
}

/// An origin as browsers send it: scheme, host and a port that is not the scheme's own, in small letters. `null` is what any page
/// can send and is none.
pub(crate) fn origin(text: &str) -> Option<String> {
    let uri: axum::http::Uri = text.parse().ok()?;
    let own_port = match uri.scheme_str()? {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let bare = uri.path().trim_end_matches('/').is_empty() && uri.query().is_none();
    if !bare || uri.authority()?.as_str().contains('@') || text.contains(['#', '*']) {
        return None;
    }
    let port = uri.port_u16().filter(|&p| p != own_port).map_or(String::new(), |p| format!(":{p}"));
    Some(format!("{}://{}{port}", uri.scheme_str()?, uri.host()?.to_ascii_lowercase()))
}

fn host_allowed(host: &str, allowed: &[String]) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |h| h.0);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        || allowed.iter().any(|a| a.eq_ignore_ascii_case(name))
}

/// The token of `Authorization: bearer ...`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Compares in a time that does not depend on where the texts differ.
pub(crate) fn same(a: &str, b: &str) -> bool {
    // Hashes of a random-looking length hide the length as well; `Hash`'s comparison takes constant time.
    blake3::hash(a.as_bytes()) == blake3::hash(b.as_bytes())
}

fn preflight(app: &App, origin: Option<&str>) -> Response {
    if !origin.is_some_and(|o| app.settings.allow_origin.iter().any(|a| a == o)) {
        return Refusal::forbidden("pages of other sites may not use this server (--allow-origin)").into_response();
    }
    let allow = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, PUT, DELETE"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, accept"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, allow).into_response()
}

async fn drain(mut rest: Shared) {
    let mut left = DRAIN;
    while let Some(Ok(frame)) = rest.frame().await {
        let n = frame.data_ref().map_or(0, Bytes::len) as u64;
        match left.checked_sub(n) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// A body that can be read on by another after its first reader gave up. It ends with an error if a reader waits for [`IDLE`] in
/// vain: a request that stalls must not keep its connection.
struct Shared {
    body: Arc<Mutex<Body>>,
    /// Whether a reader waited in vain.
    silent: Arc<AtomicBool>,
    /// Runs while a reader waits.
    idle: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Shared {
    /// Another reader of what is left.
    fn again(&self) -> Self {
        Self { body: self.body.clone(), silent: self.silent.clone(), idle: None }
    }
}

impl hyper::body::Body for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut *crate::desk::lock(&this.body)).poll_frame(cx);
        if polled.is_ready() {
            this.idle = None;
            return polled;
        }
        let idle = this.idle.get_or_insert_with(|| Box::pin(tokio::time::sleep(IDLE)));
        idle.as_mut().poll(cx).map(|()| {
            this.silent.store(true, Relaxed);
            Some(Err(axum::Error::new(std::io::Error::from(std::io::ErrorKind::TimedOut))))
        })
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        crate::desk::lock(&self.body).size_hint()
    }

    fn is_end_stream(&self) -> bool {
        crate::desk::lock(&self.body).is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_this_server() {
        for good in ["localhost", "localhost:8000", "127.0.0.1:80", "[::1]:8000", "127.0.0.2"] {
            assert!(host_allowed(good, &[]), "{good}");
        }
        for bad in ["", "evil.example", "localhost.evil.example:8000", "10.0.0.1", "127.0.0.1.evil.example"] {
            assert!(!host_allowed(bad, &[]), "{bad}");
        }
        assert!(host_allowed("Segment.Example:443", &["segment.example".into()]));
    }

    /// A body that never comes.
    struct Never;

    impl hyper::body::Body for Never {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, std::io::Error>>> {
            Poll::Pending
        }
    }

    #[test]
    fn a_body_of_which_nothing_comes_ends() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut body = Shared { body: Arc::new(Mutex::new(Body::new(Never))), silent: Arc::default(), idle: None };
            let rest = body.again();
            // Only waiting counts, not the time before anybody reads.
            tokio::time::sleep(2 * IDLE).await;
            assert!(tokio::time::timeout(IDLE / 2, body.frame()).await.is_err() && !rest.silent.load(Relaxed));
            assert!(body.frame().await.unwrap().is_err() && rest.silent.load(Relaxed));
        });
    }

    #[test]
    fn origins_are_as_browsers_send_them() {
        for (given, sent) in [
            ("https://Viewer.example/", "https://viewer.example"),
            ("https://viewer.example:443", "https://viewer.example"),
            ("http://viewer.example:8042", "http://viewer.example:8042"),
            ("http://[::1]:80", "http://[::1]"),
        ] {
            assert_eq!(origin(given).as_deref(), Some(sent), "{given}");
        }
        for bad in
            ["", "null", "*", "https://*", "viewer.example", "ftp://x", "https://x/path", "https://a@x", "https://x?y"]
        {
            assert_eq!(origin(bad), None, "{bad}");
        }
    }

    #[test]
    fn tokens_are_bearer_tokens() {
        let headers = |v: &str| HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(v).unwrap())]);
        assert_eq!(bearer(&headers("bearer abc")), Some("abc"));
        assert_eq!(bearer(&headers("Bearer abc")), Some("abc"));
        assert_eq!(bearer(&headers("Basic abc")), None);
        assert!(same("abc", "abc") && !same("abc", "abd") && !same("abc", ""));
    }
}
