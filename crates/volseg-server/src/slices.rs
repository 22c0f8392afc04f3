//! What the page and the panel ask about single slices: pictures, masks, candidates.

use crate::{
    App,
    datastore::{blocking, take_upload},
    desk::Desk,
    drawing::{CANDIDATE_COLOURS, around, slice_png},
    names,
    query::Query,
    refusal::Refusal,
    store::Picture,
};
use axum::{
    Json,
    extract::{Request, State, rejection::JsonRejection},
    http::header,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{sync::Arc, time::Instant};
use volseg_engine::{CANDIDATE_THRESHOLDS, OpenCase, Prompt, PromptEntry, PromptFile, SliceAnswer};
use volseg_geometry::{Modality, OrganId, Plane, Window, encode_run_length};

/// Which slice of which image, in queries and JSON bodies.
#[derive(Clone, Deserialize, Default)]
pub(crate) struct Place {
    pub(crate) image: Option<String>,
    pub(crate) session_id: Option<String>,
    pub(crate) plane: Option<String>,
    pub(crate) modality: Option<String>,
    pub(crate) slice: Option<usize>,
}

impl Place {
    /// The image's file.
    pub(crate) fn picture(&self, app: &App) -> Result<Picture, Refusal> {
        match (&self.session_id, &self.image) {
            (Some(id), _) if !id.is_empty() => app.sessions.image(names::plain("session", id)?),
            (_, Some(id)) => app.store.image(id),
            _ => Err(Refusal::field("name an image")),
        }
    }

    /// Plane and modality, where they are said.
    fn said(&self) -> Result<(Option<Plane>, Option<Modality>), Refusal> {
        let unknown = |e: volseg_geometry::Error| Refusal::field(e.to_string());
        let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty() && t != "auto");
        let plane = given(&self.plane).map(|p| p.parse::<Plane>()).transpose().map_err(unknown)?;
        let modality = given(&self.modality).map(|m| m.parse::<Modality>()).transpose().map_err(unknown)?;
        Ok((plane, modality))
    }

    /// The open case. Blocks.
    pub(crate) fn case(&self, desk: &Desk, picture: &Picture) -> Result<Arc<OpenCase>, Refusal> {
        let (plane, modality) = self.said()?;
        desk.case(picture, modality, plane)
    }

    /// The slice, if it is one of the case's; the middle one if none is named.
    pub(crate) fn slice(&self, case: &OpenCase) -> Result<usize, Refusal> {
        let slices = case.stack().slices;
        match self.slice {
            None => Ok(slices / 2),
            Some(s) if s < slices => Ok(s),
            Some(s) => Err(Refusal::field(format!("slice {s}: the image has slices 0 to {}", slices - 1))),
        }
    }
}

/// A question about a slice.
#[derive(Deserialize)]
pub(crate) struct Question {
    #[serde(flatten)]
    pub(crate) place: Place,
    /// What is looked for; with a box or points it names what they show.
    pub(crate) organ: Option<String>,
    #[serde(rename = "box")]
    bounds: Option<[f64; 4]>,
    #[serde(default)]
    points: Vec<[f64; 3]>,
    threshold: Option<f32>,
    /// Also give pictures of the candidates.
    #[serde(default)]
    pictures: bool,
}

/// A question put to the model.
pub(crate) struct Asked {
    pub(crate) case: Arc<OpenCase>,
    pub(crate) slice: usize,
    pub(crate) organ: Option<OrganId>,
    /// The prompt in the form of a prompt file.
    pub(crate) entry: PromptEntry,
    pub(crate) answer: Option<SliceAnswer>,
}

impl Question {
    fn prompt(&self, case: &OpenCase, slice: usize) -> Result<(PromptEntry, Prompt), Refusal> {
        let picture = case.image().is_picture();
        let entry = PromptEntry {
            organ: self.organ.clone().filter(|o| !o.is_empty()),
            plane: (!picture).then_some(case.plane()),
            slice: (!picture).then_some(slice),
            bounds: self.bounds,
            points: self.points.clone(),
            ..PromptEntry::default()
        };
        let file = PromptFile { version: 1, prompts: vec![entry.clone()] };
        let sets = file.resolve(|_| *case.stack(), picture, OrganId::new(1))?;
        let prompt =
            sets.into_iter().flat_map(|set| set.prompts).next().ok_or_else(|| Refusal::field("there is no prompt"))?;
        Ok((entry, prompt))
    }

    /// Puts the question. Blocks.
    pub(crate) fn ask(&self, desk: &Arc<Desk>, picture: &Picture) -> Result<Asked, Refusal> {
        let case = self.place.case(desk, picture)?;
        let slice = self.place.slice(&case)?;
        let (entry, mut prompt) = self.prompt(&case, slice)?;
        let organ = prompt.named.then_some(prompt.organ);
        // A name that the model does not know in this image still names the result; the hints stand alone then.
        prompt.named &= case.organs().contains(&prompt.organ);
        let reading = desk.reading(&case, slice)?;
        let answer = case.answer(&reading, &prompt)?;
        desk.look_ahead(&case, slice);
        Ok(Asked { case, slice, organ, entry, answer })
    }
}

/// A JSON body or a plain sentence.
pub(crate) fn body<T>(json: Result<Json<T>, JsonRejection>) -> Result<T, Refusal> {
    match json {
        Ok(Json(value)) => Ok(value),
        Err(JsonRejection::JsonDataError(e)) => {
            let text = e.body_text();
            Err(Refusal::field(text.rsplit(": ").next().unwrap_or("the body lacks a field").to_owned()))
        }
        Err(_) => Err(Refusal::field("the body is no JSON object of this kind")),
    }
}

fn described(id: &str, case: &OpenCase) -> Value {
    let frame = case.stack().frame;
    let organs: Vec<String> = case.organs().iter().map(ToString::to_string).collect();
    json!({ "image": id, "plane": case.plane(), "slices": case.stack().slices, "size": case.stack().size,
        "frame": { "transposed": frame.transposed, "flip_columns": frame.flip_columns, "flip_rows": frame.flip_rows },
        "spacing_mm": case.image().volume.affine().spacing_mm(), "axes": frame.axes, "modality": case.modality(),
        "picture": case.image().is_picture(), "organs": organs, "image_sha256": case.image().sha256 })
}

/// `GET /volseg/images`: ids of all images.
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<Value> {
    let ids: Vec<String> = app.store.images().into_iter().map(|p| p.id).collect();
    Json(json!({ "images": ids }))
}

/// `PUT /volseg/images?image=ID`: an upload, described; without an id it gets one.
pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    Query(place): Query<Place>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let id = match &place.image {
        Some(id) => names::image_id(id)?.to_owned(),
        None => names::random()?,
    };
    // Before it is kept: a refused upload leaves everything as it was.
    place.said()?;
    let picture = take_upload(&app, &id, request).await?;
    blocking(move || Ok(Json(described(&id, &*place.case(&app.desk, &picture)?)))).await
}

/// `GET /volseg/image?image=ID&plane=PLANE`: what the image is.
pub(crate) async fn describe(State(app): State<Arc<App>>, Query(place): Query<Place>) -> Result<Json<Value>, Refusal> {
    let picture = place.picture(&app)?;
    blocking(move || {
        let case = place.case(&app.desk, &picture)?;
        app.desk.look_ahead(&case, place.slice(&case)?);
        Ok(Json(described(&picture.id, &case)))
    })
    .await
}

#[derive(Deserialize)]
pub(crate) struct WindowAsked {
    low: Option<f32>,
    high: Option<f32>,
}

/// `GET /volseg/slice?image=ID&plane=PLANE&slice=N[&low=L&high=H]`: the slice as a PNG, shown pixels.
pub(crate) async fn slice(
    State(app): State<Arc<App>>,
    Query(place): Query<Place>,
    Query(window): Query<WindowAsked>,
) -> Result<Response, Refusal> {
    let picture = place.picture(&app)?;
    let window = match (window.low, window.high) {
        (Some(low), Some(high)) if low < high => Some(Window::Range { low, high }),
        (None, None) => None,
        _ => return Err(Refusal::field("low and high are not two rising numbers")),
    };
    let png = blocking(move || {
        let case = place.case(&app.desk, &picture)?;
        slice_png(&case, place.slice(&case)?, window, None, None)
    })
    .await?;
    Ok(([(header::CONTENT_TYPE, "image/png")], png).into_response())
}

/// `POST /volseg/mask`: the mask of a click, a box or an organ's name on a slice, run-length coded in stored pixels.
pub(crate) async fn mask(
    State(app): State<Arc<App>>,
    question: Result<Json<Question>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    let began = Instant::now();
    let question = body(question)?;
    let threshold = question.threshold.unwrap_or(0.5);
    if !(threshold > 0.0 && threshold < 1.0) {
        return Err(Refusal::field("threshold is no number between 0 and 1"));
    }
    let picture = question.place.picture(&app)?;
    let asked = app.desk.queued(move |desk| question.ask(desk, &picture)).await?;
    let size = asked.case.stack().size;
    let mask = asked.answer.as_ref().map_or_else(|| vec![0; size[0] * size[1]], |a| a.mask(threshold));
    Ok(Json(json!({
        "size": size, "slice": asked.slice, "rle": encode_run_length(&mask, size[0]),
        "pixels": mask.iter().filter(|&&v| v != 0).count(), "iou": asked.answer.map(|a| a.iou),
        "ms": began.elapsed().as_secs_f64() * 1000.0,
    })))
}

/// `POST /volseg/candidates`: the masks at the four thresholds, as the start of a judgement: the client adds `ranks` (or
/// `skipped`), and sends it to `POST /volseg/preferences`.
pub(crate) async fn candidates(
    State(app): State<Arc<App>>,
    question: Result<Json<Question>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    let question = body(question)?;
    let picture = question.place.picture(&app)?;
    let wants_pictures = question.pictures;
    let shown = picture.clone();
    let asked = app.desk.queued(move |desk| question.ask(desk, &picture)).await?;
    app.rankings.showed(shown, &asked.case);
    let organ = asked.organ.ok_or_else(|| Refusal::field("name the organ that is judged"))?;
    let answer = asked.answer.ok_or_else(|| Refusal::unknown(format!("the model finds no {organ} on this slice")))?;
    let size = asked.case.stack().size;
    let masks = answer.candidates();
    let shown: Vec<Value> = masks
        .iter()
        .zip(CANDIDATE_THRESHOLDS)
        .map(
            |(m, t)| json!({ "threshold": (f64::from(t) * 10.0).round() / 10.0, "rle": encode_run_length(m, size[0]) }),
        )
        .collect();
    let pictures: Vec<Value> = if wants_pictures {
        // The mask of the lowest threshold holds the others.
        let cut = masks.first().map(|m| around(&asked.case, m));
        let draw = |(m, c): (&Vec<u8>, [u8; 3])| {
            let png = slice_png(&asked.case, asked.slice, None, Some((m, c)), cut)?;
            Ok(json!({ "png": BASE64_STANDARD.encode(png), "colour": c }))
        };
        masks.iter().zip(CANDIDATE_COLOURS).map(draw).collect::<Result<_, Refusal>>()?
    } else {
        Vec::new()
    };
    let picture = asked.case.image().is_picture();
    let mut out = json!({
        "version": 1, "case": app.site_key.case_id(&asked.case.image().sha256), "image_sha256": asked.case.image().sha256,
        "weights_sha256": asked.case.model().weights_sha256(asked.case.modality()), "plane": (!picture).then(|| asked.case.plane()),
        "slice": (!picture).then_some(asked.slice), "organ": organ.to_string(), "prompt": asked.entry,
        "tile": Value::Null, "candidates": shown, "skipped": false, "size": size, "iou": answer.iou,
        "equal": masks.iter().all(|m| *m == masks[0]),
    });
    if let (true, Some(out)) = (wants_pictures, out.as_object_mut()) {
        out.insert("pictures".into(), pictures.into());
    }
    Ok(Json(out))
}
