//! The routes.

use crate::{
    App, datastore, desk::lock, guard, infer, metrics::Gauges, models, names, page, rankings, refusal::Refusal, slices,
};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Form, State},
    http::header,
    middleware,
    response::{IntoResponse, Response},
    routing::{any, get, post, put},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// All routes of a server.
pub(crate) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new()
        .route("/healthz", get(|| async { Json(json!({ "status": "ok" })) }))
        .route("/metrics", get(metrics))
        .route("/", get(page::index))
        .route("/page/{name}", get(page::file))
        .route("/volseg/images", get(slices::list).put(slices::upload).post(slices::upload))
        .route("/volseg/image", get(slices::describe))
        .route("/volseg/slice", get(slices::slice))
        .route("/volseg/mask", post(slices::mask))
        .route("/volseg/candidates", post(slices::candidates))
        .route("/volseg/preferences", post(rankings::save))
        .route("/volseg/next", get(rankings::next));
    if app.settings.monai_label {
        router = router.merge(monai_label());
    }
    router
        .fallback(|| async { Refusal::unknown("there is nothing at this address") })
        .layer(middleware::from_fn_with_state(app.clone(), guard::guard))
        .layer(DefaultBodyLimit::disable())
        .with_state(app)
}

/// MONAI Label's endpoints; clients write them with and without a slash at the end.
fn monai_label() -> Router<Arc<App>> {
    let both = |router: Router<Arc<App>>, path: &str, route: axum::routing::MethodRouter<Arc<App>>| {
        router.route(path, route.clone()).route(&format!("{path}/"), route)
    };
    let off = any(|| async { Refusal::unknown("this server does not offer that") });
    let mut router = Router::new();
    for (path, route) in [
        ("/auth", get(auth)),
        ("/auth/token", post(log_in)),
        ("/auth/token/valid", get(|| async { Json(json!({ "valid": true })) })),
        ("/info", get(info)),
        ("/session", put(datastore::put_session)),
        ("/session/{id}", get(datastore::get_session).delete(datastore::delete_session)),
        ("/infer/{model}", post(infer::infer)),
        ("/datastore", get(datastore::list).put(datastore::put_image)),
        ("/datastore/image", get(datastore::get_image).put(datastore::put_image).delete(datastore::delete_image)),
        ("/datastore/image/info", get(datastore::image_info).put(datastore::put_image_info)),
        ("/datastore/label", get(datastore::get_label).put(datastore::put_label).delete(datastore::delete_label)),
        ("/datastore/label/info", get(datastore::label_info).put(datastore::put_label_info)),
        ("/activelearning/{strategy}", post(datastore::next_sample)),
        ("/train", any(no_training)),
        ("/train/{model}", any(no_training)),
        ("/logs", off.clone()),
        ("/scoring", off.clone()),
        ("/scoring/{method}", off.clone()),
        ("/batch/infer/{model}", off),
    ] {
        router = both(router, path, route);
    }
    router
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    app.sessions.sweep();
    let now =
        Gauges { waiting: app.desk.waiting(), sessions: app.sessions.count(), reading_bytes: app.desk.reading_bytes() };
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.text(&now)).into_response()
}

async fn no_training() -> Refusal {
    Refusal::unknown("no training is running; this server does not train")
}

async fn info(State(app): State<Arc<App>>) -> Result<Json<Value>, Refusal> {
    datastore::blocking(move || {
        let served = models::served(&app.desk.slot.get());
        let mut labels: Vec<String> = Vec::new();
        for (name, _) in served.iter().flat_map(models::Served::labels) {
            if !labels.contains(&name) {
                labels.push(name);
            }
        }
        let models: serde_json::Map<String, Value> = served.iter().map(|s| (s.name.clone(), s.info())).collect();
        Ok(Json(json!({
            "name": "volseg", "description": "volseg organ segmentation server", "version": env!("CARGO_PKG_VERSION"),
            "labels": labels, "models": models, "trainers": {},
            "strategies": { "first": { "description": "First image without a final label" },
                "random": { "description": "Any image without a final label" } },
            "scoring": {}, "train_stats": {}, "datastore": datastore::counts(&app),
        })))
    })
    .await
}

async fn auth(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({ "enabled": app.settings.token.is_some(), "client_id": "volseg", "realm": "volseg" }))
}

#[derive(Deserialize)]
struct LogIn {
    password: String,
}

/// Gives the token to whoever knows it: clients of MONAI Label log in with a name and a password. Each wrong try waits longer.
async fn log_in(
    State(app): State<Arc<App>>,
    form: Result<Form<LogIn>, axum::extract::rejection::FormRejection>,
) -> Result<Json<Value>, Refusal> {
    let Some(token) = &app.settings.token else { return Err(Refusal::unknown("this server needs no token")) };
    let Form(LogIn { password }) = form.map_err(|_| Refusal::field("give username and password as a form"))?;
    if guard::same(&password, token) {
        return Ok(Json(json!({ "access_token": token, "token_type": "bearer" })));
    }
    let wait = {
        let mut tries = lock(&app.wrong_tries);
        let now = names::now();
        if now.saturating_sub(tries.1) > 60 {
            tries.0 = 0;
        }
        *tries = (tries.0 + 1, now);
        tries.0.min(20) * 100
    };
    tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
    Err(Refusal::unauthorised())
}
