//! MONAI Label's data store, sessions and next samples.

use crate::{
    App,
    answers::download,
    forms::{Form, FormFile},
    names,
    query::Query,
    refusal::Refusal,
    store::{Label, Picture},
};
use axum::{
    Json,
    body::Body,
    extract::{Path, Request, State},
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{path::Path as FilePath, sync::Arc};
use tokio_util::io::ReaderStream;
use volseg_geometry::{AnyVolume, Volume, VoxelKind};
use volseg_io::Image;

#[derive(Deserialize, Default)]
pub(crate) struct Ids {
    image: Option<String>,
    label: Option<String>,
    id: Option<String>,
    tag: Option<String>,
    output: Option<String>,
}

impl Ids {
    fn image(&self) -> Result<&str, Refusal> {
        self.image.as_deref().or(self.id.as_deref()).ok_or_else(|| Refusal::field("name the image: ?image=ID"))
    }

    fn label(&self) -> Result<&str, Refusal> {
        let id = self.label.as_deref().or(self.image.as_deref()).or(self.id.as_deref());
        id.ok_or_else(|| Refusal::field("name the label: ?label=ID"))
    }

    fn tag(&self) -> Result<&str, Refusal> {
        names::plain("tag", self.tag.as_deref().filter(|t| !t.is_empty()).unwrap_or("final"))
    }
}

/// Counts of images and labels.
pub(crate) fn counts(app: &App) -> Value {
    let images = app.store.images();
    let mut tags: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    for tag in images.iter().flat_map(|p| app.store.tags(p)) {
        *tags.entry(tag).or_default() += 1;
    }
    let completed = tags.get("final").copied().unwrap_or(0);
    json!({ "total": images.len(), "completed": completed, "label_tags": tags })
}

pub(crate) async fn list(State(app): State<Arc<App>>, Query(ids): Query<Ids>) -> Result<Json<Value>, Refusal> {
    match ids.output.as_deref().unwrap_or("") {
        "" | "stats" => Ok(Json(counts(&app))),
        "all" => {
            let mut objects = Map::new();
            for p in app.store.images() {
                let labels: Map<String, Value> = app
                    .store
                    .tags(&p)
                    .into_iter()
                    .filter_map(|t| {
                        let label = app.store.label(&p, &t)?;
                        Some((t, json!({ "ext": label.ending, "info": label.info })))
                    })
                    .collect();
                let image = json!({ "ext": p.ending, "info": { "ts": p.ts, "name": p.name() } });
                objects.insert(p.id, json!({ "image": image, "labels": labels }));
            }
            Ok(Json(json!({ "name": "volseg", "description": "images and labels", "images_dir": ".",
                "labels_dir": "labels", "objects": objects })))
        }
        "train" => {
            let with_label = app.store.images().into_iter().filter_map(|p| {
                let label = app.store.label(&p, "final")?;
                let label = label.path.file_name()?.to_string_lossy().into_owned();
                Some(json!({ "image": p.name(), "label": label }))
            });
            Ok(Json(with_label.collect()))
        }
        _ => Err(Refusal::field("output is not one of all, train, stats")),
    }
}

pub(crate) async fn put_image(
    State(app): State<Arc<App>>,
    Query(ids): Query<Ids>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let id = names::image_id(ids.image()?)?.to_owned();
    take_upload(&app, &id, request).await?;
    Ok(Json(json!({ "image": id })))
}

/// Receives an image, opens it to see that it is one, and takes it in.
pub(crate) async fn take_upload(app: &Arc<App>, id: &str, request: Request) -> Result<Picture, Refusal> {
    let folder = app.store.upload_folder(id)?;
    let received = receive(app, request, &folder, id, names::key(id), &["file", "files", "image"]).await;
    let taken = received.and_then(|p| app.store.take_in(p.clone()).map(|()| p));
    if taken.is_err() {
        let _ = std::fs::remove_dir_all(&folder);
    }
    taken
}

async fn receive(
    app: &Arc<App>,
    request: Request,
    folder: &FilePath,
    id: &str,
    stem: String,
    parts: &[&str],
) -> Result<Picture, Refusal> {
    let form = Form::read(request, folder, app.settings.max_body).await?;
    let files: Vec<FormFile> = form.files.into_iter().filter(|f| parts.contains(&f.part.as_str())).collect();
    if files.is_empty() {
        return Err(Refusal::field(format!("the form has no file in a part named {}", parts.join(" or "))));
    }
    let picture = Picture::sent(id, stem, folder, &files);
    let (desk, asked) = (app.desk.clone(), picture.clone());
    blocking(move || desk.image(&asked).map(|_| ())).await?;
    Ok(picture)
}

/// Runs what blocks (files, decompression) away from the threads that serve requests.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Refusal::failed("the request failed inside the server"))?
}

pub(crate) async fn get_image(State(app): State<Arc<App>>, Query(ids): Query<Ids>) -> Result<Response, Refusal> {
    send_image(&app, &app.store.image(ids.image()?)?).await
}

/// The image's file; of a series the volume, as NIfTI.
async fn send_image(app: &Arc<App>, picture: &Picture) -> Result<Response, Refusal> {
    if !picture.path.is_dir() {
        return send(&picture.path, &picture.name()).await;
    }
    let folder = tempfile::Builder::new().prefix("series-").tempdir_in(&app.temporary)?;
    let whole = folder.path().join("volume.nii.gz");
    let (desk, asked, place) = (app.desk.clone(), picture.clone(), whole.clone());
    blocking(move || Ok(volseg_io::write(&place, &*desk.image(&asked)?)?)).await?;
    // The open file outlives its folder, which goes here.
    send(&whole, &picture.name()).await
}

/// Streams a file with its length.
async fn send(path: &FilePath, name: &str) -> Result<Response, Refusal> {
    let file = tokio::fs::File::open(path).await?;
    let length = file.metadata().await?.len();
    let plain: String =
        name.chars().map(|c| if c.is_ascii_graphic() && c != '"' && c != '\\' { c } else { '_' }).collect();
    let mut response = download(Body::from_stream(ReaderStream::with_capacity(file, 1 << 16)), &plain);
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    Ok(response)
}

pub(crate) async fn image_info(State(app): State<Arc<App>>, Query(ids): Query<Ids>) -> Result<Json<Value>, Refusal> {
    let picture = app.store.image(ids.image()?)?;
    let (desk, asked) = (app.desk.clone(), picture.clone());
    let (dim, spacing) = blocking(move || {
        let image = desk.image(&asked)?;
        Ok((image.volume.dim(), image.volume.affine().spacing_mm()))
    })
    .await?;
    Ok(Json(json!({ "ts": picture.ts, "name": picture.name(), "shape": dim, "spacing_mm": spacing })))
}

/// Accepts the call of `PUT /datastore/image/info`; this store keeps nothing about an image but its file.
pub(crate) async fn put_image_info(
    State(app): State<Arc<App>>,
    Query(ids): Query<Ids>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(json!({ "image": app.store.image(ids.image()?)?.id })))
}

pub(crate) async fn delete_image(State(app): State<Arc<App>>, Query(ids): Query<Ids>) -> Result<Json<Value>, Refusal> {
    app.store.remove_image(ids.image()?)?;
    Ok(Json(json!({})))
}

pub(crate) async fn put_label(
    State(app): State<Arc<App>>,
    Query(ids): Query<Ids>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let picture = app.store.image(ids.image()?)?;
    let tag = ids.tag()?.to_owned();
    let folder = tempfile::Builder::new().prefix("label-").tempdir_in(&app.temporary)?;
    let form = Form::read(request, folder.path(), app.settings.max_body).await?;
    let file = form.files.iter().find(|f| f.part == "label").or(form.file("file"));
    let file = file.ok_or_else(|| Refusal::field("the form has no file in a part named label"))?;
    let (path, ending) = (file.path.clone(), file.ending);
    let worker = app.clone();
    let asked = picture.clone();
    blocking(move || {
        let image = worker.desk.image(&asked)?;
        let (path, ending) = on_grid(&image, &path, ending, folder.path())?;
        let mut info = form.params;
        info.insert("ts".into(), names::now().into());
        info.insert("name".into(), format!("{}{ending}", asked.stem).into());
        worker.store.save_label(&asked, &tag, &path, ending, &info)?;
        drop(folder);
        Ok(())
    })
    .await?;
    Ok(Json(json!({ "image": picture.id, "label": picture.id })))
}

/// Checks that a label lies on the image's grid. `.bin` holds bare voxels and becomes `.nrrd`.
fn on_grid(
    image: &Image,
    path: &FilePath,
    ending: &'static str,
    folder: &FilePath,
) -> Result<(std::path::PathBuf, &'static str), Refusal> {
    let (dim, affine) = (image.volume.dim(), *image.volume.affine());
    let voxels: usize = dim.iter().product();
    if ending == ".bin" {
        let bytes = std::fs::read(path)?;
        let labels: AnyVolume = if bytes.len() == voxels {
            Volume::from_vec(bytes, dim, affine).map_err(volseg_io::Error::from)?.into()
        } else if bytes.len() == 2 * voxels {
            let wide = bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
            Volume::from_vec(wide, dim, affine).map_err(volseg_io::Error::from)?.into()
        } else {
            return Err(Refusal::field(format!("the label has {} bytes, the image has {voxels} voxels", bytes.len())));
        };
        let whole = folder.join("label.nrrd");
        volseg_io::write(&whole, &Image::from_volume(labels))?;
        return Ok((whole, ".nrrd"));
    }
    if ![".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".mha", ".png"].contains(&ending) {
        return Err(Refusal::field("a label is .nii.gz, .nii, .nrrd, .seg.nrrd, .mha or .png"));
    }
    let label = volseg_io::read(path, &volseg_io::ReadOptions::default())?;
    if label.volume.dim() != dim {
        return Err(Refusal::field(format!(
            "the label has {:?} voxels, the image has {dim:?}: it lies on another grid",
            label.volume.dim()
        )));
    }
    // Most labels are of a type that holds nothing else, and need no look at every voxel.
    let unsigned = matches!(label.volume.kind(), VoxelKind::U8 | VoxelKind::U16 | VoxelKind::U32);
    if !unsigned || (label.slope, label.intercept) != (1.0, 0.0) {
        let whole = |v: f64| v >= 0.0 && v.fract() == 0.0;
        let mut values = (0..voxels).map(|n| label.volume.value(n) * label.slope + label.intercept);
        if let Some(odd) = values.find(|&v| !whole(v)) {
            return Err(Refusal::field(format!("the label has a voxel of {odd}, expected whole numbers from 0")));
        }
    }
    let shift = affine.shift_of_other_grid_mm(label.volume.affine(), dim);
    if let Some(shift) = shift.filter(|_| !image.is_picture()) {
        return Err(Refusal::field(format!("the label lies {shift:.3} mm from the image: it is on another grid")));
    }
    Ok((path.to_owned(), ending))
}

fn label(app: &App, ids: &Ids) -> Result<(Picture, Label), Refusal> {
    let picture = app.store.image(ids.label()?)?;
    let label = app.store.label(&picture, ids.tag()?).ok_or_else(|| Refusal::unknown("there is no such label"))?;
    Ok((picture, label))
}

pub(crate) async fn get_label(State(app): State<Arc<App>>, Query(ids): Query<Ids>) -> Result<Response, Refusal> {
    let (picture, label) = label(&app, &ids)?;
    send(&label.path, &format!("{}{}", picture.stem, label.ending)).await
}

pub(crate) async fn label_info(State(app): State<Arc<App>>, Query(ids): Query<Ids>) -> Result<Json<Value>, Refusal> {
    Ok(Json(label(&app, &ids)?.1.info.into()))
}

pub(crate) async fn put_label_info(
    State(app): State<Arc<App>>,
    Query(ids): Query<Ids>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let picture = app.store.image(ids.label()?)?;
    let tag = ids.tag()?.to_owned();
    let folder = tempfile::Builder::new().prefix("info-").tempdir_in(&app.temporary)?;
    let form = Form::read(request, folder.path(), 1 << 20).await?;
    let told = form.texts.iter().find(|t| t.0 == "info").map(|t| serde_json::from_str(&t.1));
    let info: Map<String, Value> = match told {
        None => form.params,
        Some(Ok(info)) => info,
        Some(Err(_)) => return Err(Refusal::field("info is no JSON object")),
    };
    let id = picture.id.clone();
    blocking(move || app.store.set_label_info(&picture, &tag, &info)).await?;
    Ok(Json(json!({ "label": id })))
}

pub(crate) async fn delete_label(State(app): State<Arc<App>>, Query(ids): Query<Ids>) -> Result<Json<Value>, Refusal> {
    let picture = app.store.image(ids.label()?)?;
    app.store.remove_label(&picture, ids.tag()?)?;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
pub(crate) struct Life {
    expiry: Option<u64>,
    update_ts: Option<bool>,
    image: Option<bool>,
}

pub(crate) async fn put_session(
    State(app): State<Arc<App>>,
    Query(life): Query<Life>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let (id, folder) = app.sessions.folder()?;
    let received = receive(&app, request, &folder, &id, "image".into(), &["files", "file"]).await;
    if received.is_err() {
        let _ = std::fs::remove_dir_all(&folder);
    }
    let told = app.sessions.open(&id, folder, received?, life.expiry);
    Ok(Json(json!({ "session_id": id, "session_info": told })))
}

pub(crate) async fn get_session(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(life): Query<Life>,
) -> Result<Response, Refusal> {
    names::plain("session", &id)?;
    if life.image == Some(true) {
        return send_image(&app, &app.sessions.image(&id)?).await;
    }
    Ok(Json(app.sessions.told(&id, life.update_ts.unwrap_or(false))?).into_response())
}

pub(crate) async fn delete_session(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(app.sessions.end(names::plain("session", &id)?)?))
}

/// The next image without a final label: `first` in order of the ids, `random` by a hash of the id and the number of labels,
/// so that two servers with the same data agree.
pub(crate) async fn next_sample(
    State(app): State<Arc<App>>,
    Path(strategy): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let open: Vec<Picture> = app.store.images().into_iter().filter(|p| app.store.label(p, "final").is_none()).collect();
    let next = match strategy.as_str() {
        "first" => open.first(),
        "random" => open.iter().min_by_key(|p| names::key(&format!("{} {}", open.len(), p.id))),
        _ => return Err(Refusal::unknown("there is no such strategy; first and random are there")),
    };
    Ok(Json(next.map_or_else(|| json!({}), |p| json!({ "id": p.id, "name": p.name(), "ts": p.ts, "weight": 1 }))))
}
