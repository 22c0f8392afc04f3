use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// A request that cannot be carried out: status and one plain sentence, sent as `{"detail": ...}`. Texts never hold paths,
/// image ids or header values.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
}

impl Refusal {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }

    /// 404: no such image, label, session, model or page.
    pub(crate) fn unknown(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 422: a field that is missing or cannot be used.
    pub(crate) fn field(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// 413: more than the server takes.
    pub(crate) fn large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    /// 429: too much at once.
    pub(crate) fn busy(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, detail)
    }

    /// 401: no valid token.
    pub(crate) fn unauthorised() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "this server needs a token")
    }

    /// 403: a host or origin that is not allowed.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// 406: a feature that is off.
    pub(crate) fn off(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, detail)
    }

    /// 408: the client stopped sending.
    pub(crate) fn slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "the request came too slowly")
    }

    /// 500: the server's own fault.
    pub(crate) fn failed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "detail": self.detail }))).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<volseg_io::Error> for Refusal {
    fn from(e: volseg_io::Error) -> Self {
        use volseg_io::Error;
        match e {
            Error::Io { action, .. } => Self::failed(format!("the server could not {action} one of its files")),
            Error::Limit { .. } => Self::large(e.to_string()),
            Error::SeveralSeries { series } => {
                Self::field(format!("the upload holds {} DICOM series; send one", series.len()))
            }
            other => Self::field(format!("not a readable image: {other}")),
        }
    }
}

impl From<volseg_engine::Error> for Refusal {
    fn from(e: volseg_engine::Error) -> Self {
        use volseg_engine::Error;
        match e {
            Error::Request(_) | Error::Prompts(_) | Error::Input(_) => Self::field(e.to_string()),
            Error::Memory { .. } => Self::large(e.to_string()),
            Error::Interrupted => Self::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping"),
            Error::Io(e) => e.into(),
            Error::Model(_) | Error::Geometry(_) => Self::failed("the model could not answer"),
            _ => Self::failed("the case failed"),
        }
    }
}

/// An error of the server's own files.
impl From<std::io::Error> for Refusal {
    fn from(e: std::io::Error) -> Self {
        Self::failed(match e.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                "the server may not write to its folder"
            }
            std::io::ErrorKind::StorageFull => "the server's disk is full",
            _ => "the server could not write its files",
        })
    }
}
