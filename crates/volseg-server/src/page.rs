//! The web page: three files that are part of the program.

use crate::refusal::Refusal;
use axum::{
    extract::Path,
    http::header,
    response::{IntoResponse, Response},
};

/// Scripts and styles of the page itself only, and no talk with other servers.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn send(kind: &'static str, text: &'static str) -> Response {
    let policy = (header::CONTENT_SECURITY_POLICY, POLICY);
    ([(header::CONTENT_TYPE, kind), policy, (header::REFERRER_POLICY, "no-referrer")], text).into_response()
}

pub(crate) async fn index() -> Response {
    send("text/html; charset=utf-8", include_str!("../page/index.html"))
}

pub(crate) async fn file(Path(name): Path<String>) -> Result<Response, Refusal> {
    match name.as_str() {
        "volseg.js" => Ok(send("text/javascript; charset=utf-8", include_str!("../page/volseg.js"))),
        "masks.js" => Ok(send("text/javascript; charset=utf-8", include_str!("../page/masks.js"))),
        "volseg.css" => Ok(send("text/css; charset=utf-8", include_str!("../page/volseg.css"))),
        _ => Err(Refusal::unknown("there is nothing at this address")),
    }
}
