//! Fields of an address, refused in the server's own form.

use crate::refusal::Refusal;
use axum::{
    extract::{FromRequestParts, Query as Fields},
    http::request::Parts,
};
use serde::de::DeserializeOwned;

/// Fields of a request's address. One that cannot be read is refused as every other bad field is: 422 and a sentence in JSON.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Fields::<T>::from_request_parts(parts, state).await {
            Ok(Fields(fields)) => Ok(Self(fields)),
            // The parser's sentence names the field; what comes before it is the library's own.
            Err(refused) => Err(Refusal::field(format!(
                "a field of the address cannot be read: {}",
                refused.body_text().trim_start_matches("Failed to deserialize query string: ")
            ))),
        }
    }
}
