//! Rankings by people: saved as JSON lines that `volseg train align --preferences` reads, and what to rank next.

use crate::{
    App,
    audit::append,
    desk::{Desk, lock},
    names,
    query::Query,
    refusal::Refusal,
    slices::{Place, body},
    store::Picture,
};
use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};
use volseg_engine::{Judgement, OpenCase};
use volseg_geometry::{OrganId, Plane, decode_run_length, run_length_pixels};

/// Slices of an image that the first search looks at, evenly spread.
const FIRST_SLICES: usize = 16;
/// Slices that each further search looks at beside those known, between them.
const MORE_SLICES: usize = 6;
/// Images that one search looks at.
const IMAGES_A_SEARCH: usize = 4;
/// Judgements in one request.
const MOST: usize = 1000;

/// A place that is worth a look.
#[derive(Clone)]
struct Spot {
    slice: usize,
    organ: OrganId,
    band: f64,
}

/// Spots by image version and model, with the slices looked at.
type Looked = BTreeMap<(String, String), (BTreeSet<usize>, Vec<Spot>)>;

/// What was searched, and what was given out or judged already.
#[derive(Default)]
pub(crate) struct Rankings {
    looked: Mutex<Looked>,
    /// Image digest, slice, organ.
    done: Mutex<Option<BTreeSet<(String, usize, String)>>>,
    saving: Mutex<()>,
    /// Images of which candidates were given, by digest.
    shown: Mutex<BTreeMap<String, Shown>>,
}

/// An image of which candidates were given.
struct Shown {
    picture: Picture,
    /// Columns, rows and slices of its planes; pictures have none.
    stacks: BTreeMap<Option<Plane>, ([usize; 2], usize)>,
}

impl Shown {
    /// Whether a judgement fits the image: its slice is there and its masks have the slice's size.
    fn fits(&self, j: &Judgement) -> Result<(), String> {
        let Some(&(size, slices)) = self.stacks.get(&j.plane) else { return Ok(()) };
        if j.slice.unwrap_or(0) >= slices {
            return Err(format!("slice {}: the image has slices 0 to {}", j.slice.unwrap_or(0), slices - 1));
        }
        j.candidates.iter().try_for_each(|c| decode_run_length(&c.rle, size).map(drop).map_err(|e| e.to_string()))
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Sent {
    Several(Vec<Map<String, Value>>),
    One(Map<String, Value>),
}

/// `POST /volseg/preferences`: one judgement, or a list. Checked, stamped with the time, appended and flushed to disk.
pub(crate) async fn save(
    State(app): State<Arc<App>>,
    sent: Result<Json<Sent>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    let list = match body(sent)? {
        Sent::Several(list) => list,
        Sent::One(one) => vec![one],
    };
    if list.is_empty() || list.len() > MOST {
        return Err(Refusal::field(format!("send 1 to {MOST} judgements")));
    }
    let judgements = list.into_iter().map(checked).collect::<Result<Vec<_>, _>>()?;
    let count = judgements.len();
    crate::datastore::blocking(move || {
        let mut lines = String::new();
        for j in &judgements {
            if let Some(shown) = lock(&app.rankings.shown).get(&j.image_sha256) {
                shown.fits(j).map_err(not_one)?;
            }
            lines += &(j.to_line().map_err(Refusal::from)? + "\n");
        }
        let _one_at_a_time = lock(&app.rankings.saving);
        if app.settings.keep_judged {
            for j in &judgements {
                let shown = lock(&app.rankings.shown).get(&j.image_sha256).map(|s| s.picture.clone());
                if let Some(picture) = shown {
                    app.store.keep_judged(&picture, &j.image_sha256)?;
                }
            }
        }
        append(&app.store.preferences(), &lines)?;
        for j in judgements {
            app.rankings.remember(&app, (j.image_sha256, j.slice.unwrap_or(0), j.organ));
        }
        app.store.audit.append("judgements", &json!({ "count": count }))
    })
    .await?;
    Ok(Json(json!({ "saved": count })))
}

fn not_one(text: String) -> Refusal {
    Refusal::field(format!("not a judgement: {text}"))
}

/// A judgement without anything that does not belong to the format. Masks of a size that nobody states are of one size at least.
fn checked(mut sent: Map<String, Value>) -> Result<Judgement, Refusal> {
    let size: Option<[usize; 2]> = sent.remove("size").and_then(|s| serde_json::from_value(s).ok());
    sent.insert("time".into(), names::timestamp(names::now()).into());
    let line = Value::Object(sent);
    let mut j: Judgement = serde_json::from_value(line).map_err(|e| not_one(e.to_string()))?;
    let digest = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    j.check().map_err(not_one)?;
    if !digest(&j.image_sha256) || !digest(&j.weights_sha256) {
        return Err(not_one("image_sha256 and weights_sha256 are 64 hexadecimal digits".into()));
    }
    if j.skipped {
        j.ranks.clear();
    }
    if j.candidates.iter().any(|c| c.rle.len() > 1 << 20) {
        return Err(not_one("a mask is longer than 1 MiB".into()));
    }
    let pixels = |c: &volseg_engine::ShownMask| run_length_pixels(&c.rle).map_err(|e| not_one(e.to_string()));
    let pixels = j.candidates.iter().map(pixels).collect::<Result<Vec<u64>, _>>()?;
    if pixels.iter().any(|&p| p != pixels[0] || size.is_some_and(|[w, h]| w.checked_mul(h) != usize::try_from(p).ok()))
    {
        return Err(not_one(format!("masks of {pixels:?} pixels, expected four of the slice's size")));
    }
    j.organ = j.organ.parse::<OrganId>().map_err(|e| not_one(e.to_string()))?.to_string();
    for text in [&j.rater, &j.case] {
        let plain = text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !plain {
            return Err(not_one("rater and case are pseudonyms of letters, digits, ., _ and - (64 at most)".into()));
        }
    }
    if let Some(prompt) = &mut j.prompt {
        // Free text may hold what does not belong into this file.
        (prompt.text, prompt.trace) = (None, None);
    }
    Ok(j)
}

#[derive(Deserialize)]
pub(crate) struct Wanted {
    by: Option<String>,
    organ: Option<String>,
}

/// `GET /volseg/next?by=uncertainty[&image=ID][&organ=NAME]`: the slice and organ that the model is least sure of and that
/// nobody has judged yet; `{}` when there is none.
pub(crate) async fn next(
    State(app): State<Arc<App>>,
    Query(wanted): Query<Wanted>,
    Query(place): Query<Place>,
) -> Result<Json<Value>, Refusal> {
    if wanted.by.as_deref().unwrap_or("uncertainty") != "uncertainty" {
        return Err(Refusal::field("by is not uncertainty"));
    }
    let organ: Option<OrganId> = match wanted.organ.as_deref().filter(|o| !o.is_empty()) {
        Some(name) => Some(name.parse().map_err(|e: volseg_geometry::Error| Refusal::field(e.to_string()))?),
        None => None,
    };
    let pictures = match (&place.image, &place.session_id) {
        (None, None) => app.store.images().into_iter().take(IMAGES_A_SEARCH).collect(),
        _ => vec![place.picture(&app)?],
    };
    let worker = app.clone();
    app.desk.queued(move |desk| search(&worker, desk, &pictures, &place, organ)).await.map(Json)
}

fn search(
    app: &App,
    desk: &Arc<Desk>,
    pictures: &[Picture],
    place: &Place,
    organ: Option<OrganId>,
) -> Result<Value, Refusal> {
    let mut best: Option<(f64, Value)> = None;
    for picture in pictures {
        let case = place.case(desk, picture)?;
        let key = (format!("{} {:?}", picture.version, case.plane()), case.model().sha256().to_owned());
        let slices = case.stack().slices;
        let sha256 = case.image().sha256.clone();
        let order = coarse_to_fine(slices);
        loop {
            let (seen, _) = lock(&app.rankings.looked).get(&key).cloned().unwrap_or_default();
            let most = if seen.is_empty() { FIRST_SLICES } else { MORE_SLICES };
            let fresh: Vec<usize> = order.iter().copied().filter(|s| !seen.contains(s)).take(most).collect();
            for &slice in &fresh {
                let doubts = case.doubts(&*desk.reading(&case, slice)?)?;
                let mut looked = lock(&app.rankings.looked);
                let entry = looked.entry(key.clone()).or_default();
                entry.0.insert(slice);
                // Doubt about what the model itself takes for a bad mask is mostly about an organ that is not there.
                let weight = |d: &volseg_engine::Doubt| d.band * f64::from(d.iou.clamp(0.01, 1.0));
                entry.1.extend(doubts.iter().map(|d| Spot { slice, organ: d.organ, band: weight(d) }));
            }
            let spots = lock(&app.rankings.looked).get(&key).map(|l| l.1.clone()).unwrap_or_default();
            let open = spots.into_iter().filter(|s| {
                s.band > 0.0
                    && organ.is_none_or(|o| o == s.organ)
                    && !app.rankings.is_done(app, &(sha256.clone(), s.slice, s.organ.to_string()))
            });
            let found =
                open.max_by(|a, b| a.band.total_cmp(&b.band).then(b.slice.cmp(&a.slice)).then(b.organ.cmp(&a.organ)));
            if let Some(s) = found {
                if best.as_ref().is_none_or(|b| s.band > b.0) {
                    let told = json!({ "image": picture.id, "plane": case.plane(), "slice": s.slice,
                        "organ": s.organ.to_string(), "uncertainty": s.band });
                    best = Some((s.band, told));
                }
                break;
            }
            if fresh.is_empty() {
                break;
            }
        }
    }
    Ok(best.map_or_else(|| json!({}), |b| b.1))
}

/// All slices: [`FIRST_SLICES`] evenly spread ones, then those in the middle between them, and so on.
fn coarse_to_fine(slices: usize) -> Vec<usize> {
    let mut order = Vec::with_capacity(slices);
    let mut taken = vec![false; slices];
    let mut step = slices.div_ceil(FIRST_SLICES).max(1);
    loop {
        for s in (step / 2..slices).step_by(step) {
            if !std::mem::replace(&mut taken[s], true) {
                order.push(s);
            }
        }
        if step == 1 {
            return order;
        }
        step /= 2;
    }
}

impl Rankings {
    /// Notes which file candidates were shown of, and the size of its slices in the plane that was looked at.
    pub(crate) fn showed(&self, picture: Picture, case: &OpenCase) {
        let plane = (!case.image().is_picture()).then(|| case.plane());
        let stack = (case.stack().size, case.stack().slices);
        let mut all = lock(&self.shown);
        let shown = all.entry(case.image().sha256.clone());
        let shown = shown.or_insert_with(|| Shown { picture: picture.clone(), stacks: BTreeMap::new() });
        shown.picture = picture;
        shown.stacks.insert(plane, stack);
    }

    fn with_done<T>(&self, app: &App, f: impl FnOnce(&mut BTreeSet<(String, usize, String)>) -> T) -> T {
        let mut done = lock(&self.done);
        let done = done.get_or_insert_with(|| {
            let old = Judgement::read_all(&app.store.preferences()).unwrap_or_default();
            old.into_iter().map(|j| (j.image_sha256, j.slice.unwrap_or(0), j.organ)).collect()
        });
        f(done)
    }

    fn is_done(&self, app: &App, spot: &(String, usize, String)) -> bool {
        self.with_done(app, |d| d.contains(spot))
    }

    fn remember(&self, app: &App, spot: (String, usize, String)) {
        self.with_done(app, |d| d.insert(spot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judgement() -> Value {
        let d = "a".repeat(64);
        json!({ "version": 1, "case": "k", "image_sha256": d, "weights_sha256": d, "plane": "axial", "slice": 4,
            "organ": "liver", "prompt": { "organ": "liver", "text": "Jane Doe" }, "tile": null, "size": [2, 3],
            "candidates": [{ "threshold": 0.3, "rle": "24" }, { "threshold": 0.4, "rle": "24" },
                { "threshold": 0.5, "rle": "24" }, { "threshold": 0.6, "rle": "24" }],
            "ranks": [2, 1, 3, 4], "rater": "r1", "patient": "Jane Doe", "time": "Jane Doe" })
    }

    #[test]
    fn every_slice_comes_once_and_spread_ones_first() {
        for slices in [1, 2, 15, 16, 17, 163] {
            let mut order = coarse_to_fine(slices);
            assert!(order.iter().take(FIRST_SLICES.min(slices)).any(|&s| s >= slices / 2), "{slices}");
            order.sort_unstable();
            assert_eq!(order, (0..slices).collect::<Vec<_>>());
        }
    }

    #[test]
    fn nothing_but_the_format_is_kept() {
        let line = checked(judgement().as_object().unwrap().clone()).unwrap().to_line().unwrap();
        assert!(!line.contains("Jane"), "{line}");
        let kept: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(kept["ranks"], json!([2, 1, 3, 4]));
    }

    #[test]
    fn what_is_no_judgement_is_refused() {
        for (key, value) in [
            ("version", json!(2)),
            ("ranks", json!([1, 2, 3])),
            ("ranks", json!([2, 2, 3, 4])),
            ("image_sha256", json!("/home/jane")),
            ("organ", json!("soul")),
            ("rater", json!("Dr. Jane Doe")),
            ("candidates", json!([])),
            ("size", json!([200, 3])),
            ("tile", json!([5, 0, 5, 9])),
            (
                "candidates",
                json!([{ "threshold": 0.3, "rle": "24" }, { "threshold": 0.4, "rle": "24" },
                { "threshold": 0.5, "rle": "24" }, { "threshold": 0.6, "rle": "25" }]),
            ),
            (
                "candidates",
                json!([{ "threshold": 0.3, "rle": "~" }, { "threshold": 0.4, "rle": "~" },
                { "threshold": 0.5, "rle": "~" }, { "threshold": 0.6, "rle": "~" }]),
            ),
        ] {
            let mut j = judgement();
            j[key] = value;
            assert_eq!(checked(j.as_object().unwrap().clone()).err().map(|r| r.status.as_u16()), Some(422), "{key}");
        }
    }
}
