//! `POST /infer/MODEL`: automatic masks, and masks from points and boxes.

use crate::{
    App,
    answers::{self, Output},
    ask::{Ask, Hints},
    desk::Desk,
    forms::Form,
    models::{self, Served, Task, label_object},
    names,
    query::Query,
    refusal::Refusal,
    store::Picture,
};
use axum::{
    extract::{Path, Request, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Instant};
use volseg_engine::{Error, Observer, OpenCase, Stage, plane_across};
use volseg_geometry::{LabelMap, Modality, Plane, SliceStack, Volume, keep_largest_3d};

#[derive(Deserialize)]
pub(crate) struct Asked {
    image: Option<String>,
    session_id: Option<String>,
    output: Option<String>,
}

/// A mask with the names of its values.
struct Found {
    labels: LabelMap,
    names: Vec<(String, u8)>,
}

pub(crate) async fn infer(
    State(app): State<Arc<App>>,
    Path(model): Path<String>,
    Query(asked): Query<Asked>,
    request: Request,
) -> Result<Response, Refusal> {
    let began = Instant::now();
    names::plain("model", &model)?;
    let output = Output::parse(asked.output.as_deref())?;
    let folder = tempfile::Builder::new().prefix("infer-").tempdir_in(&app.temporary)?;
    let form = Form::read(request, folder.path(), app.settings.max_body).await?;
    let task = {
        let desk = app.desk.clone();
        // The model file may have changed and is then read here.
        let loaded =
            tokio::task::spawn_blocking(move || desk.slot.get()).await.map_err(|_| Refusal::failed("stopped"))?;
        models::served(&loaded).into_iter().find(|s| s.name == model)
    };
    let served = task.ok_or_else(|| Refusal::unknown("there is no such model"))?;
    let picture = chosen(&app, &asked, &form, folder.path())?;
    let threads = app.settings.threads;
    let params = form.params;
    app.desk
        .queued(move |desk| {
            let (reply, file, ending) = answer(desk, &served, &picture, &params, threads, output, began)?;
            // The files of the form live until here.
            drop(folder);
            answers::inference(output, &reply, file, ending)
        })
        .await
}

/// The image: of the session if it lives, else the attached file, else the id.
fn chosen(app: &App, asked: &Asked, form: &Form, folder: &std::path::Path) -> Result<Picture, Refusal> {
    let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    if let Some(session) = given(&asked.session_id) {
        match app.sessions.image(names::plain("session", &session)?) {
            Err(e)
                if e.status == StatusCode::NOT_FOUND
                    && (form.file("file").is_some() || given(&asked.image).is_some()) => {}
            other => return other,
        }
    }
    if form.file("file").is_some() {
        let files: Vec<_> = form.files.iter().filter(|f| f.part == "file").collect();
        if let [one] = files[..] {
            let mut picture = Picture::sent("file", "image".into(), folder, &[]);
            (picture.path, picture.ending) = (one.path.clone(), one.ending.to_owned());
            picture.version = names::random()?;
            return Ok(picture);
        }
        return Err(Refusal::field("attach one file"));
    }
    match given(&asked.image) {
        Some(id) => app.store.image(&id),
        None => Err(Refusal::field("name an image, a session, or attach a file")),
    }
}

fn answer(
    desk: &Arc<Desk>,
    served: &Served,
    picture: &Picture,
    params: &Map<String, Value>,
    threads: usize,
    output: Output,
    began: Instant,
) -> Result<(Value, Vec<u8>, &'static str), Refusal> {
    let ask = Ask(params);
    ask.device()?;
    let form = ask.form(default_ending(&picture.ending))?;
    let image = desk.image(picture)?;
    let opened = began.elapsed();
    let found = match served.task {
        Task::Automatic(modality) => automatic(desk, served, picture, &ask, modality, threads)?,
        Task::Click => click(desk, picture, &ask)?,
        Task::Follow => follow(desk, picture, &ask)?,
    };
    let inferred = began.elapsed();
    let file =
        if output == Output::Json { Vec::new() } else { answers::encode(found.labels, &image, &found.names, &form)? };
    let seconds = |d: std::time::Duration| (d.as_secs_f64() * 1000.0).round() / 1000.0;
    let names = if found.names.is_empty() { json!([]) } else { label_object(&found.names) };
    let reply = json!({ "label_names": names, "centroids": {}, "latencies": { "pre": seconds(opened),
        "infer": seconds(inferred - opened), "post": seconds(began.elapsed() - inferred), "total": seconds(began.elapsed()) } });
    Ok((reply, file, form.ending))
}

/// Ending of a mask of an image with this ending.
fn default_ending(of_image: &str) -> &'static str {
    match of_image {
        ".nii.gz" => ".nii.gz",
        ".nii" => ".nii",
        ".mha" | ".mhd" => ".mha",
        ".png" | ".jpg" | ".jpeg" | ".bmp" | ".tif" | ".tiff" => ".png",
        _ => ".nrrd",
    }
}

struct Stop<'a>(&'a Desk);

impl Observer for Stop<'_> {
    fn progress(&self, _: Stage, _: usize, _: usize) {}
    fn stopped(&self) -> bool {
        self.0.stopping()
    }
}

fn automatic(
    desk: &Arc<Desk>,
    served: &Served,
    picture: &Picture,
    ask: &Ask<'_>,
    modality: Modality,
    threads: usize,
) -> Result<Found, Refusal> {
    let image = desk.image(picture)?;
    let known = served.organs();
    let organs = match ask.organs()? {
        None => known.clone(),
        Some(list) => list.into_iter().filter(|o| known.contains(o)).collect(),
    };
    let request = volseg_engine::Request {
        organs: Some(organs),
        modality: Some(modality),
        threshold: ask.threshold()?,
        ..volseg_engine::Request::default()
    };
    let mut labels = volseg_engine::segment(&image, &desk.slot.get(), &request, threads, &Stop(desk))?.labels;
    // Values from 1 without a gap, in the order of the names.
    let mut values = [0u8; 256];
    for (organ, n) in known.iter().zip(1..) {
        values[usize::from(organ.get())] = n;
    }
    labels.voxels_mut().iter_mut().for_each(|v| *v = values[usize::from(*v)]);
    if ask.keep_largest() {
        for n in 1..=known.len() as u8 {
            keep_largest_3d(&mut labels, n, 1.0);
        }
    }
    Ok(Found { labels, names: served.labels() })
}

/// The case with the slices as Slicer counts them: along the last index.
fn case(desk: &Desk, picture: &Picture) -> Result<Arc<OpenCase>, Refusal> {
    let image = desk.image(picture)?;
    desk.case(picture, None, Some(plane_across(image.volume.affine(), 2)))
}

fn click(desk: &Arc<Desk>, picture: &Picture, ask: &Ask<'_>) -> Result<Found, Refusal> {
    let case = case(desk, picture)?;
    let dim = case.image().volume.dim();
    let hints = ask.hints(dim)?;
    let slice = match ask.slice(dim[2])? {
        Some(k) => k,
        None => hints.points.last().map(|p| p.0[2]).or_else(|| hints.seeds().first().copied()).unwrap_or(0),
    };
    let prompt = hints
        .on_slice(slice, ask.organ(&case))
        .ok_or_else(|| Refusal::field(format!("no inside point and no box on slice {slice}")))?;
    let reading = desk.reading(&case, slice)?;
    let answer = case.answer(&reading, &prompt)?;
    desk.look_ahead(&case, slice);
    let mut labels: LabelMap = zeros(&case)?;
    if let Some(answer) = answer {
        paint(&mut labels, case.stack(), slice, &answer.mask(ask.threshold()?));
    }
    finish(labels, ask)
}

fn follow(desk: &Arc<Desk>, picture: &Picture, ask: &Ask<'_>) -> Result<Found, Refusal> {
    // The network knows axial slices best; only a single slice's click has to lie along the last index.
    let case = desk.case(picture, None, Some(Plane::Axial))?;
    let stack = *case.stack();
    let hints: Hints = ask.hints(case.image().volume.dim())?.along(stack.frame.axes);
    let organ = ask.organ(&case);
    let seeds: Vec<_> = hints.seeds().into_iter().filter_map(|k| hints.on_slice(k, organ)).collect();
    if seeds.is_empty() {
        return Err(Refusal::field("no inside point and no box on a slice"));
    }
    let range = hints.roi.map_or(0..stack.slices, |r| r[2][0]..r[2][1]);
    let read = |s: usize| desk.reading(&case, s);
    let go_on = |_, _| if desk.stopping() { Err(Error::Interrupted) } else { Ok(()) };
    let threshold = ask.threshold()?;
    let mut labels: LabelMap = zeros(&case)?;
    for (slice, answer) in case.follow(&seeds, range, threshold, &read, &go_on)? {
        paint(&mut labels, &stack, slice, &answer.mask(threshold));
    }
    finish(labels, ask)
}

fn zeros(case: &OpenCase) -> Result<LabelMap, Refusal> {
    let volume = &case.image().volume;
    Ok(Volume::zeros(volume.dim(), *volume.affine()).map_err(volseg_io::Error::from)?)
}

/// Writes the stored pixels of a slice into the volume.
fn paint(labels: &mut LabelMap, stack: &SliceStack, slice: usize, mask: &[u8]) {
    let voxels = labels.voxels_mut();
    for (p, &inside) in mask.iter().enumerate() {
        voxels[stack.linear(p % stack.size[0], p / stack.size[0], slice)] = inside;
    }
}

fn finish(mut labels: LabelMap, ask: &Ask<'_>) -> Result<Found, Refusal> {
    if ask.keep_largest() {
        keep_largest_3d(&mut labels, 1, 1.0);
    }
    Ok(Found { labels, names: Vec::new() })
}
