//! Where the prompts of `segment` come from.

use super::Args;
use crate::chain::{Ask, ChainArgs, entries, model_of_digest, words::Words};
use crate::{
    exit::usage_error,
    global::{Global, Level},
    inputs,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};
use volseg_engine::{Model, ORACLE_MIN_PIXELS, Origin, Per, PromptFile, PromptMode, PromptSet, Request, boxes_from, points_from};
use volseg_geometry::{OrganId, Plane, SliceStack};
use volseg_io::Image;
use volseg_model::clip::ClipModel;

/// Where the prompts of this run come from.
pub(crate) fn prompt_mode(
    args: &Args,
    image: &Image,
    model: &Model,
    request: &mut Request,
    global: &Global,
) -> anyhow::Result<PromptMode> {
    let text = args.prompts.as_str();
    match (text, model) {
        ("organ", _) | ("auto", Model::Embedded { .. }) => return Ok(PromptMode::Organ),
        // Weights of SAM's family know no organs by name.
        ("chain", _) | ("auto", Model::Sam { .. }) => return chain("embedded", image, model, request, global),
        _ => {}
    }
    if let Some(source) = text.strip_prefix("chain:") {
        return chain(source, image, model, request, global);
    }
    let dim = image.volume.dim();
    let picture = image.is_picture();
    let stack = |plane: Plane| {
        if picture { SliceStack::picture(dim[0], dim[1]) } else { SliceStack::new(dim, image.volume.affine(), plane) }
    };
    let only = match request.organs.as_deref() {
        Some([one]) => Some(*one),
        _ => None,
    };
    for (kind, boxes) in [("boxes-from:", true), ("points-from:", false)] {
        if let Some(rest) = text.strip_prefix(kind) {
            return oracle(rest, boxes, image, &stack, request, only, global);
        }
    }
    let path = Path::new(text);
    if !path.exists() {
        return Err(usage_error(format!(
            "--prompts: found {text}, expected auto, organ, chain, a JSON file, boxes-from:LABELS or points-from:LABELS"
        )));
    }
    let file = PromptFile::read(path).map_err(|e| usage_error(e.to_string()))?;
    for (n, key) in file.prompts.iter().enumerate().flat_map(|(n, e)| e.others.keys().map(move |k| (n, k))) {
        let known = "organ, plane, slice, box, points, text";
        global.log(Level::Warn, format_args!("prompts: entry {n}: {key:?} is not read; expected some of {known}"));
    }
    let mut prompts = file.resolve(stack, picture, only).map_err(|e| usage_error(e.to_string()))?;
    let other = |asked: Plane| prompts.iter().find_map(|set| set.plane.filter(|p| *p != asked));
    if let Some((asked, other)) = request.plane.and_then(|asked| Some((asked, other(asked)?))) {
        return Err(usage_error(format!("--plane {asked}: the file has prompts on {other} slices; leave --plane out")));
    }
    read_texts(&mut prompts, model, None, global)?;
    let mut lost = 0;
    for set in &mut prompts {
        let all = set.clone();
        set.prompts.retain(|p| model.understands(&all, p));
        lost += all.prompts.len() - set.prompts.len();
    }
    if lost > 0 {
        global.log(
            Level::Warn,
            format_args!("prompts: {lost} have neither box nor points, and these weights know nothing else of them: they are left out"),
        );
    }
    say_unprompted(&prompts, request, "the prompt file", global);
    Ok(PromptMode::Given { prompts, origin: Origin::File })
}

/// Says which of the organs that were asked for nobody gave a prompt for.
fn say_unprompted(prompts: &[PromptSet], request: &Request, source: &str, global: &Global) {
    let given: BTreeSet<OrganId> = prompts.iter().flat_map(|set| &set.prompts).map(|p| p.organ).collect();
    let list = |organs: &mut dyn Iterator<Item = &OrganId>| organs.map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let without = list(&mut request.organs.iter().flatten().filter(|o| !given.contains(o)));
    if given.is_empty() {
        global.log(Level::Warn, format_args!("{source} holds no prompt that can be used: nothing is looked for"));
    } else if !without.is_empty() {
        let given = list(&mut given.iter());
        global.log(Level::Warn, format_args!("{source} has no prompt for {without}, which is not looked for; it has some for {given}"));
    }
}

/// Prompts from image and words alone, by an image-text model.
fn chain(
    source: &str,
    image: &Image,
    model: &Model,
    request: &mut Request,
    global: &Global,
) -> anyhow::Result<PromptMode> {
    let maker = ChainArgs::of_source(source).maker(global)?;
    let ask = Ask {
        organs: request.organs.clone().unwrap_or_default(),
        texts: Vec::new(),
        modality: request.modality,
        plane: request.plane,
        window: request.window,
        keep_views: false,
        keep_saliency: false,
    };
    let (targets, asked, guess) = maker.plan(image, &ask)?;
    let mut made = maker.run(image, &targets, &asked, &guess, global)?;
    let mut prompts = entries(&made, &targets);
    Words::built_in().add(&mut prompts, image, "", &mut made, &targets, &asked, &maker.model, global)?;
    let file = PromptFile { version: 1, prompts };
    request.organs = Some(targets.iter().filter_map(|t| t.organ).collect());
    request.modality = Some(asked.modality);
    let dim = image.volume.dim();
    let picture = image.is_picture();
    let stack = |plane: Plane| {
        if picture { SliceStack::picture(dim[0], dim[1]) } else { SliceStack::new(dim, image.volume.affine(), plane) }
    };
    let mut prompts = file.resolve(stack, picture, None)?;
    let read = read_texts(&mut prompts, model, Some((&maker.model, &maker.sha256)), global)?;
    let trace = serde_json::json!({
        "settings": maker.settings, "timings": made.timings, "warnings": made.warnings, "texts_read": read,
        "prompts": file.prompts,
    });
    Ok(PromptMode::Given { prompts, origin: Origin::Chain(trace) })
}

/// Gives prompts the features of their texts, if the network reads texts, by the image-text model that it learnt them with:
/// `by` if that is the one, else the embedded one or an installed one. Returns the number of different texts.
fn read_texts(
    prompts: &mut [PromptSet],
    model: &Model,
    by: Option<(&ClipModel, &str)>,
    global: &Global,
) -> anyhow::Result<usize> {
    let Model::Sam { model, .. } = model else { return Ok(0) };
    let texts: BTreeSet<String> = prompts.iter().flat_map(|set| &set.prompts).filter_map(|p| p.text.clone()).collect();
    let (Some(source), false) = (&model.config().text, texts.is_empty()) else { return Ok(0) };
    let found;
    let reader = match by {
        Some((reader, sha256)) if sha256 == source.sha256 => Some(reader),
        _ => {
            found = model_of_digest(&source.sha256)?;
            found.as_ref()
        }
    };
    let Some(reader) = reader else {
        global.log(
            Level::Warn,
            format_args!(
                "the prompts' texts are not read: these weights learnt them with the image-text model of SHA-256 {}, which is not in \
                 `volseg weights list`",
                source.sha256
            ),
        );
        return Ok(0);
    };
    let texts: Vec<String> = texts.into_iter().collect();
    let features: BTreeMap<String, Vec<f32>> = texts.iter().cloned().zip(reader.encode_texts(&texts)?).collect();
    prompts.iter_mut().for_each(|set| set.texts = features.clone());
    Ok(texts.len())
}

/// `LABELS[,map=1:pancreas,2:kidney][,per=component|label][,n=3]`
fn oracle(
    text: &str,
    boxes: bool,
    image: &Image,
    stack: &dyn Fn(Plane) -> SliceStack,
    request: &Request,
    only: Option<OrganId>,
    global: &Global,
) -> anyhow::Result<PromptMode> {
    let mut parts = text.split(',');
    let path = Path::new(parts.next().unwrap_or_default());
    let (mut map, mut per, mut n) = (BTreeMap::new(), Per::Component, 3usize);
    let not_of = |part: &str, of: &str| usage_error(format!("--prompts: {part} is an option of {of}"));
    let mut in_map = false;
    for part in parts {
        let pair = match part.strip_prefix("map=") {
            Some(pair) => {
                in_map = true;
                pair
            }
            None => part,
        };
        match pair.split_once(['=', ':']) {
            Some(("per", _)) if !boxes => return Err(not_of(part, "boxes-from")),
            Some(("n", _)) if boxes => return Err(not_of(part, "points-from")),
            Some(("per", "component")) => (per, in_map) = (Per::Component, false),
            Some(("per", "label")) => (per, in_map) = (Per::Label, false),
            Some(("n", value)) => {
                n = value.parse().ok().filter(|n| (1..=1000).contains(n)).ok_or_else(|| {
                    usage_error(format!("--prompts: found n={value}, expected a number of points from 1 to 1000"))
                })?;
                in_map = false;
            }
            Some((id, organ)) if in_map => {
                let id: u32 = id.trim().parse().map_err(|_| usage_error(format!("--prompts: label id {id} is no number")))?;
                let organ = organ.parse::<OrganId>().map_err(|e| usage_error(e.to_string()))?;
                if id == 0 || map.insert(id, organ).is_some() {
                    let why = if id == 0 { "0 is the background" } else { "it stands there twice" };
                    return Err(usage_error(format!("--prompts: label id {id}: {why}")));
                }
            }
            _ => {
                return Err(usage_error(format!(
                    "--prompts: found {part}, expected map=ID:ORGAN,..., per=component|label or n=N"
                )));
            }
        }
    }
    let labels = inputs::on_grid_of(inputs::labels(path)?.0, image)?;
    let label = |i: usize| labels.voxels().get(i).map_or(0, |&v| u32::from(v));
    let binary = labels.voxels().iter().all(|&v| v <= 1);
    if map.is_empty() {
        match only {
            Some(organ) if binary => {
                map.insert(1, organ);
            }
            None if image.is_picture() && binary => {}
            _ => map.extend((1..=20u8).filter_map(|i| Some((u32::from(i), OrganId::new(i)?)))),
        }
    }
    if image.is_picture() && binary && !map.contains_key(&1) {
        return Err(usage_error("--prompts: a mask of one value needs one organ: give --organs NAME or map=1:NAME"));
    }
    let plane = (!image.is_picture()).then(|| request.plane.unwrap_or(Plane::Axial));
    let stack = stack(plane.unwrap_or(Plane::Axial));
    let prompts = if boxes {
        boxes_from(&label, &stack, plane, &map, per)
    } else {
        points_from(&label, &stack, plane, &map, n, global.seed)
    };
    let here: BTreeSet<u8> = labels.voxels().iter().copied().filter(|&v| v > 0).collect();
    if prompts.prompts.is_empty() && !here.is_empty() {
        let numbers = |ids: &mut dyn Iterator<Item = u32>| ids.map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
        let (asked, here) = (numbers(&mut map.keys().copied()), numbers(&mut here.iter().map(|&v| u32::from(v))));
        global.log(
            Level::Warn,
            format_args!("--prompts: labels {asked} have no part of {ORACLE_MIN_PIXELS} pixels on any slice; labels there are {here}"),
        );
    }
    let prompts = vec![prompts];
    say_unprompted(&prompts, request, "the label map", global);
    Ok(PromptMode::Given { prompts, origin: Origin::Oracle })
}
