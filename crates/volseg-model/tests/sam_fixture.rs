//! Every number of a small SAM-Med2D against an independent implementation.
//!
//! The fixture in `tests/fixtures/sam_tiny` was made by `scripts/parity/make_fixture.py`. Another one of the same form is
//! checked by naming its folder in `VOLSEG_SAM_FIXTURE` (see `scripts/parity/check_sam_fixture.sh`).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use candle_core::{DType, Device, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use volseg_geometry::PixelBox;
use volseg_model::Params;
use volseg_model::config::{Arch, SamConfig, TEXT_PROJECTION, TextSource};
use volseg_model::loss::{sam_med2d_loss, sam_med2d_metrics};
use volseg_model::ops::resize_square;
use volseg_model::picture::{Picture, full_logits, loader_input, loader_label, predictor_input, training_box};
use volseg_model::prompt_encoder::{Point, Sparse};
use volseg_model::sam::{Choice, Embedding, PromptSet, Sam, SamModel};
use volseg_model::weights::{ImportOptions, WeightsFile, convert_from_sam, import};

const TOLERANCE: f32 = 1e-4;

fn folder() -> PathBuf {
    std::env::var_os("VOLSEG_SAM_FIXTURE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sam_tiny"), PathBuf::from)
}

struct Expected(HashMap<String, Tensor>);

impl Expected {
    fn load(name: &str) -> Self {
        Self(candle_core::safetensors::load(folder().join(name), &Device::Cpu).unwrap())
    }
    fn tensor(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("fixture has no {name}"))
    }
    fn try_tensor(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }
    fn floats(&self, name: &str) -> Vec<f32> {
        values(self.tensor(name))
    }
    fn bytes(&self, name: &str) -> Vec<u8> {
        self.tensor(name).flatten_all().unwrap().to_vec1().unwrap()
    }
    fn picture(&self, name: &str) -> Picture {
        let (h, w, _) = self.tensor(name).dims3().unwrap();
        Picture::rgb(w, h, self.bytes(name)).unwrap()
    }
}

fn values(t: &Tensor) -> Vec<f32> {
    t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn close(what: &str, ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len(), "{what}: number of values");
    let worst =
        ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0f32, |m, d| if d > m || d.is_nan() { d } else { m });
    assert!(worst <= tolerance, "{what} is off by {worst}");
}

/// Pixels-last-channel `[b, n, c]` as channels-first values.
fn channels_first(t: &Tensor) -> Vec<f32> {
    let t = if t.rank() == 4 { t.flatten(1, 2).unwrap() } else { t.clone() };
    values(&t.transpose(1, 2).unwrap().contiguous().unwrap())
}

fn config() -> SamConfig {
    SamConfig::from_json(&std::fs::read_to_string(folder().join("config.json")).unwrap()).unwrap()
}

fn options() -> ImportOptions {
    ImportOptions { config: Some(config()), ..ImportOptions::default() }
}

fn model() -> &'static SamModel {
    static MODEL: OnceLock<SamModel> = OnceLock::new();
    MODEL.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.safetensors");
        let imported = import(&folder().join("model.safetensors"), &file, &options()).unwrap();
        assert_eq!((imported.arch, imported.config), (Arch::SamMed2d, config()));
        SamModel::load(&file).unwrap()
    })
}

#[test]
fn the_checkpoint_as_the_training_script_saves_it_gives_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.safetensors"), dir.path().join("b.safetensors"));
    let from_pth = import(&folder().join("model.pth"), &a, &options()).unwrap();
    let from_safetensors = import(&folder().join("model.safetensors"), &b, &options()).unwrap();
    assert_eq!(from_pth.sha256, from_safetensors.sha256);
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
    assert!(from_pth.fit.extra.is_empty() && from_pth.fresh.is_empty());
    let file = WeightsFile::open(&a).unwrap();
    file.verify().unwrap();
    assert!(file.fit().unwrap().is_complete());
}

#[test]
fn image_encoder() {
    let e = Expected::load("expected.safetensors");
    let (model, c) = (model(), config());
    let input = predictor_input(&e.picture("image_u8"), Arch::SamMed2d, c.image_size);
    close("image_norm", &input.values, &e.floats("image_norm"), 1e-6);
    let x = Tensor::from_vec(input.values, (1, 3, c.image_size, c.image_size), &Device::Cpu).unwrap();
    let mut seen = BTreeMap::new();
    let embedding = model.network().encoder.traced(&x, true, &mut |name, t| {
        seen.insert(name.to_owned(), t.clone());
    });
    close("image_embedding", &channels_first(&embedding.unwrap()), &e.floats("image_embedding"), TOLERANCE);
    let bare = model.network().encoder.traced(&x, false, &mut |_, _| ()).unwrap();
    close("no adapters", &channels_first(&bare), &e.floats("image_embedding_no_adapter"), TOLERANCE);
    let mut checked = 0;
    for name in e.0.keys().filter_map(|k| k.strip_prefix("enc.")) {
        let (theirs, ours) = (e.tensor(&format!("enc.{name}")), &seen[name]);
        let theirs = if name.ends_with("attn_out") { real_tokens(theirs, c.grid()) } else { values(theirs) };
        let ours = if name.ends_with("adapter_spatial") { channels_first(ours) } else { values(ours) };
        close(name, &ours, &theirs, TOLERANCE);
        checked += 1;
    }
    assert!(checked >= 18, "{checked} intermediate results");
    let embedding = model.embed(&e.picture("image2_u8")).unwrap();
    close("image2_embedding", &channels_first(&embedding.features), &e.floats("image2_embedding"), TOLERANCE);
}

/// Attention's output without the padding of windows, whose rows we never compute.
fn real_tokens(t: &Tensor, grid: usize) -> Vec<f32> {
    let (b, k, _, d) = t.dims4().unwrap();
    if b == 1 {
        return values(t);
    }
    let n = grid.div_ceil(k);
    let v = values(t);
    let mut out = Vec::new();
    for (y, x) in (0..grid * grid).map(|i| (i / grid, i % grid)) {
        let row = ((y / k * n + x / k) * k + y % k) * k + x % k;
        out.extend_from_slice(&v[row * d..(row + 1) * d]);
    }
    out
}

#[test]
fn prompts_and_masks() {
    let e = Expected::load("expected.safetensors");
    let (model, c) = (model(), config());
    let sam = model.network();
    close("dense_pe", &channels_first(sam.prompts.dense_positions()), &e.floats("dense_pe"), TOLERANCE);
    let embed = |name: &str| model.embed(&e.picture(name)).unwrap().features;
    let one = embed("image_u8");
    let two = Tensor::cat(&[&one, &embed("image2_u8")], 0).unwrap();
    let cases: Vec<&str> = e.0.keys().filter_map(|k| k.strip_suffix(".best")).collect();
    assert_eq!(cases.len(), 10);
    for case in cases {
        let get = |part: &str| e.try_tensor(&format!("{case}.{part}"));
        let best: Vec<i64> = get("best").unwrap().to_vec1().unwrap();
        let rows: Vec<Sparse> = (0..best.len())
            .map(|row| Sparse {
                points: get("in_coords").map_or(Vec::new(), |xy| {
                    let xy: Vec<Vec<f32>> = xy.get(row).unwrap().to_vec2().unwrap();
                    let labels = values(&get("in_labels").unwrap().get(row).unwrap());
                    xy.iter().zip(labels).map(|(p, l)| Point { x: p[0], y: p[1], label: l as i32 }).collect()
                }),
                bounds: get("in_boxes").map(|b| values(&b.get(row).unwrap()).try_into().unwrap()),
            })
            .collect();
        let tokens = sam.prompts.sparse(&rows).unwrap();
        if let Some(t) = get("sparse") {
            close(&format!("{case}.sparse"), &values(&tokens), &values(t), TOLERANCE);
        }
        let mask = get("in_mask").map(|m| m.squeeze(1).unwrap());
        let dense = sam.prompts.dense(mask.as_ref()).unwrap();
        if let Some(t) = get("dense") {
            let all = dense.broadcast_as((best.len(), c.grid() * c.grid(), c.prompt_embed_dim)).unwrap();
            close(&format!("{case}.dense"), &channels_first(&all), &values(t), TOLERANCE);
        }
        let image = if case == "batch2" { &two } else { &one };
        let mut seen = BTreeMap::new();
        let masks = sam.decoder.traced(image, sam.prompts.dense_positions(), &tokens, &dense, &mut |name, t| {
            seen.insert(name.to_owned(), t.clone());
        });
        let masks = masks.unwrap();
        for (name, ours) in &seen {
            if let Some(t) = get(name) {
                let ours = if name == "upscaled" { channels_first(ours) } else { values(ours) };
                close(&format!("{case}.{name}"), &ours, &values(t), TOLERANCE);
            }
        }
        close(&format!("{case}.low_res_all"), &values(&masks.logits), &values(get("low_res_all").unwrap()), TOLERANCE);
        close(&format!("{case}.iou_all"), &values(&masks.iou), &values(get("iou_all").unwrap()), TOLERANCE);

        // The same through the public interface, which batches and picks by itself.
        let embeddings = if case == "batch2" { vec!["image_u8", "image2_u8"] } else { vec!["image_u8"; best.len()] };
        let mut low = Vec::new();
        let mut probabilities = Vec::new();
        for (n, (row, name)) in rows.iter().zip(embeddings).enumerate() {
            let embedding = model.embed(&e.picture(name)).unwrap();
            let side = c.mask_side();
            let prompt = PromptSet {
                points: row.points.clone(),
                bounds: row.bounds.map(|[x0, y0, x1, y1]| PixelBox { x0, y0, x1, y1 }),
                mask: mask.as_ref().map(|m| values(&m.get(n).unwrap())),
                tokens: Vec::new(),
            };
            let [decoded] = &model.decode(&embedding, std::slice::from_ref(&prompt)).unwrap()[..] else { panic!() };
            assert_eq!(decoded.mask as i64, best[n] + 1, "{case}: chosen mask");
            assert_eq!(decoded.low_res.len(), side * side);
            low.extend_from_slice(&decoded.low_res);
            probabilities.extend(model.postprocess(&embedding, decoded));
        }
        close(&format!("{case}.low_res_selected"), &low, &e.floats(&format!("{case}.low_res_selected")), TOLERANCE);
        if let Some(t) = get("probs") {
            close(&format!("{case}.probs"), &probabilities, &values(t), TOLERANCE);
        }
    }
}

/// A projection that gives the tokens of a point lets words stand in for the point: the reference's masks must come out.
#[test]
fn text_tokens_take_the_way_of_all_tokens() {
    let e = Expected::load("expected.safetensors");
    let width = config().prompt_embed_dim;
    let tokens = e.floats("point1.sparse");
    let rows = tokens.len() / width;
    let source = TextSource { embed_dim: rows, sha256: String::new() };
    let mut all = candle_core::safetensors::load(folder().join("model.safetensors"), &Device::Cpu).unwrap();
    let columns = Tensor::from_vec(tokens, (rows, width), &Device::Cpu).unwrap();
    let weight = (columns.t().unwrap().contiguous().unwrap() / (rows as f64).sqrt()).unwrap();
    all.insert(format!("{TEXT_PROJECTION}.weight"), weight);
    all.insert(format!("{TEXT_PROJECTION}.bias"), Tensor::zeros(width, DType::F32, &Device::Cpu).unwrap());
    let with = SamConfig { text: Some(source), ..config() };
    let model = SamModel::new(Arch::SamMed2d, with.clone(), &Params::given(all.into_iter().collect())).unwrap();
    let one = |n: usize| (0..rows).map(|k| if k == n { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
    let tokens = (0..rows).map(|n| model.text_token(&one(n)).unwrap()).collect();
    let embedding = model.embed(&e.picture("image_u8")).unwrap();
    let [decoded] = &model.decode(&embedding, &[PromptSet { tokens, ..PromptSet::default() }]).unwrap()[..] else {
        panic!()
    };
    close("text", &decoded.low_res, &e.floats("point1.low_res_selected"), TOLERANCE);
    assert!(model.text_token(&vec![0.0; rows + 1]).is_err());
    assert!(self::model().text_token(&one(0)).is_err());
    assert_eq!(with.tensors().len(), config().tensors().len() + 2);
    assert_eq!(SamConfig::from_json(&serde_json::to_string(&with).unwrap()).unwrap(), with);
}

/// Tokens, masks and gradients of texts, as `scripts/parity/make_text_fixture.py` leaves them.
#[test]
fn texts_beside_boxes_and_points() {
    // Fixtures of others have no texts.
    if !folder().join("text.safetensors").exists() {
        return;
    }
    let (e, all) = (Expected::load("text.safetensors"), Expected::load("expected.safetensors"));
    let mut start = candle_core::safetensors::load(folder().join("model.safetensors"), &Device::Cpu).unwrap();
    for part in ["weight", "bias"] {
        start.insert(format!("{TEXT_PROJECTION}.{part}"), e.tensor(part).clone());
    }
    let features = e.tensor("features");
    let text = Some(TextSource { embed_dim: features.dim(1).unwrap(), sha256: String::new() });
    let params = Params::trainable(1, start.into_iter().collect());
    let sam = Sam::new(&SamConfig { text, ..config() }, &params).unwrap();
    let variables = params.variables();
    let image = all.tensor("image_embedding").flatten_from(2).unwrap().transpose(1, 2).unwrap().contiguous().unwrap();
    for case in ["alone", "box", "points"] {
        let points = match case {
            "points" => {
                let xy: Vec<Vec<f32>> = all.tensor("points_neg.in_coords").get(0).unwrap().to_vec2().unwrap();
                let labels = all.floats("points_neg.in_labels");
                xy.iter().zip(labels).map(|(p, l)| Point { x: p[0], y: p[1], label: l as i32 }).collect()
            }
            _ => Vec::new(),
        };
        let bounds = (case == "box").then(|| all.floats("box.in_boxes").try_into().unwrap());
        let sparse = sam.prompts.sparse(&[Sparse { points, bounds }]).unwrap();
        let tokens = Tensor::cat(&[&sparse, &sam.prompts.text(features).unwrap()], 1).unwrap();
        close(&format!("{case}.sparse"), &values(&tokens), &e.floats(&format!("{case}.sparse")), TOLERANCE);
        let dense = sam.prompts.dense(None).unwrap();
        let masks = sam.decoder.forward(&image, sam.prompts.dense_positions(), &tokens, &dense).unwrap();
        close(case, &values(&masks.logits), &e.floats(&format!("{case}.low_res_all")), TOLERANCE);
        close(case, &values(&masks.iou), &e.floats(&format!("{case}.iou_all")), TOLERANCE);
        let grads = masks.logits.sqr().unwrap().mean_all().unwrap().backward().unwrap();
        let ours = values(grads.get(&variables[&format!("{TEXT_PROJECTION}.weight")]).unwrap());
        let theirs = e.floats(&format!("{case}.gradient"));
        let largest = theirs.iter().fold(0f32, |m, v| m.max(v.abs()));
        close(&format!("{case}.gradient"), &ours, &theirs, 1e-3 * largest);
    }
}

#[test]
fn rows_do_not_depend_on_their_neighbours_or_threads() {
    let e = Expected::load("expected.safetensors");
    let model = model();
    let embedding = model.embed(&e.picture("image_u8")).unwrap();
    let prompts: Vec<PromptSet> = (0..11)
        .map(|n| PromptSet {
            points: if n % 3 == 0 { vec![Point { x: 5.0 * n as f32, y: 20.0, label: 1 }] } else { Vec::new() },
            bounds: (n % 3 != 0).then(|| PixelBox::new(3.0, 4.0, 30.0 + n as f32, 50.0).unwrap()),
            ..PromptSet::default()
        })
        .collect();
    let pool = |n: usize| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    let one = pool(1).install(|| model.decode(&embedding, &prompts).unwrap());
    let three = pool(3).install(|| model.decode(&embedding, &prompts).unwrap());
    assert_eq!(one, three);
    for (p, all) in prompts.iter().zip(&one) {
        let [alone] = &model.decode(&embedding, std::slice::from_ref(p)).unwrap()[..] else { panic!() };
        close("a row alone", &alone.low_res, &all.low_res, 1e-5);
    }
    let pictures = [e.picture("image_u8"), e.picture("image2_u8")];
    let pictures: Vec<_> = pictures.iter().cycle().take(5).cloned().collect();
    let a = pool(1).install(|| model.embed_all(&pictures, 1).unwrap());
    for (threads, at_once) in [(2, 1), (1, 2), (2, 2), (2, 3)] {
        let b = pool(threads).install(|| model.embed_all(&pictures, at_once).unwrap());
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(&b) {
            assert_eq!(values(&a.features), values(&b.features), "{threads} threads, {at_once} at once");
        }
    }
    let nan = PromptSet { points: vec![Point { x: f32::NAN, y: 0.0, label: 1 }], ..PromptSet::default() };
    assert!(model.decode(&embedding, &[nan]).is_err());
    let short = PromptSet { mask: Some(vec![0.0; 3]), ..PromptSet::default() };
    assert!(model.decode(&embedding, &[short]).is_err());
    let token = PromptSet { tokens: vec![vec![0.5; config().prompt_embed_dim]], ..PromptSet::default() };
    assert_eq!(model.decode(&embedding, &[token]).unwrap().len(), 1);
}

#[test]
fn pictures_of_other_sizes() {
    let e = Expected::load("preprocess.safetensors");
    let (model, c) = (model(), config());
    let side = c.image_size;
    let picture = e.picture("image_u8");
    let (w, h) = (picture.width(), picture.height());
    close("net_input", &predictor_input(&picture, Arch::SamMed2d, side).values, &e.floats("net_input"), 1e-6);
    let embedding = model.embed(&picture).unwrap();
    close("image_embedding", &channels_first(&embedding.features), &e.floats("image_embedding"), TOLERANCE);
    for case in ["box", "points"] {
        let prompt = if case == "box" {
            let b = e.floats("box.in_box");
            PromptSet { bounds: Some(PixelBox::new(b[0], b[1], b[2], b[3]).unwrap()), ..PromptSet::default() }
        } else {
            let (xy, labels) = (e.floats("points.in_point_coords"), e.floats("points.in_point_labels"));
            let point = |(p, l): (&[f32], &f32)| Point { x: p[0], y: p[1], label: *l as i32 };
            PromptSet { points: xy.chunks(2).zip(&labels).map(point).collect(), ..PromptSet::default() }
        };
        let decode = |choice: Choice| {
            let [d] = &model.decode_choosing(&embedding, std::slice::from_ref(&prompt), |_| choice).unwrap()[..] else {
                panic!()
            };
            d.clone()
        };
        let (best, single) = (decode(Choice::Best), decode(Choice::Single));
        close(&format!("{case}.low_res"), &best.low_res, &e.floats(&format!("{case}.low_res")), TOLERANCE);
        close(&format!("{case}.iou"), &[best.iou], &e.floats(&format!("{case}.iou")), TOLERANCE);
        close(&format!("{case}.single_iou"), &[single.iou], &e.floats(&format!("{case}.single_iou")), TOLERANCE);
        let logits = model.logits(&embedding, &best.low_res);
        close(&format!("{case}.logits"), &logits, &e.floats(&format!("{case}.logits")), TOLERANCE);
        let single = model.logits(&embedding, &single.low_res);
        close(&format!("{case}.single_logits"), &single, &e.floats(&format!("{case}.single_logits")), TOLERANCE);
        let mask: Vec<u8> = model.postprocess(&embedding, &best).iter().map(|&p| u8::from(p > 0.5)).collect();
        assert_eq!(mask.len(), w * h);
        assert!(mask == e.bytes(&format!("{case}.mask")), "{case}.mask");
    }
    for name in e.0.keys().filter_map(|k| k.strip_suffix(".net_input")).filter(|n| n.starts_with("resize_")) {
        let input = predictor_input(&e.picture(&format!("{name}.image_u8")), Arch::SamMed2d, side);
        close(name, &input.values, &e.floats(&format!("{name}.net_input")), 1e-6);
    }
    for name in e.0.keys().filter_map(|k| k.strip_suffix(".image_u8_channel0")) {
        let t = e.tensor(&format!("{name}.image_u8_channel0"));
        let (h, w) = t.dims2().unwrap();
        let picture = Picture::grey(w, h, &e.bytes(&format!("{name}.image_u8_channel0"))).unwrap();
        let input = predictor_input(&picture, Arch::SamMed2d, side);
        close(name, &input.values[..side * side], &e.floats(&format!("{name}.net_input_channel0")), 1e-6);
    }
}

#[test]
fn the_way_of_the_training_loaders() {
    let e = Expected::load("preprocess.safetensors");
    let c = config();
    let side = c.image_size;
    let cases: Vec<&str> = e.0.keys().filter_map(|k| k.strip_suffix(".image_rgb_u8")).collect();
    assert_eq!(cases.len(), 2);
    for case in cases {
        let picture = e.picture(&format!("{case}.image_rgb_u8"));
        let (w, h) = (picture.width(), picture.height());
        let input = loader_input(&picture, side);
        close(case, &input.values, &e.floats(&format!("{case}.net_input")), 1e-6);
        let label = loader_label(&e.bytes(&format!("{case}.mask_u8")), w, h, side);
        assert!(label == e.bytes(&format!("{case}.label")), "{case}.label");
        let bounds = training_box(&label, side).unwrap();
        assert_eq!(bounds.to_vec(), e.floats(&format!("{case}.box_no_noise")), "{case}.box_no_noise");
        let low = e.floats(&format!("{case}.post_low_res"));
        let full = full_logits(&low, c.mask_side(), side, input.placement, w, h);
        close(case, &full, &e.floats(&format!("{case}.post_logits")), TOLERANCE);
    }
}

fn close_gradient(name: &str, ours: &Tensor, theirs: &Tensor) {
    let theirs = values(theirs);
    let largest = theirs.iter().fold(0f32, |m, v| m.max(v.abs()));
    close(name, &values(ours), &theirs, 1e-3 * largest + 1e-12);
}

#[test]
fn loss_and_metrics() {
    let e = Expected::load("loss.safetensors");
    let var = |name: &str| candle_core::Var::from_tensor(e.tensor(name)).unwrap();
    let (logits, iou) = (var("pred_logits"), var("pred_iou"));
    let loss = sam_med2d_loss(&logits, e.tensor("target"), &iou).unwrap();
    for (name, part) in [("focal", &loss.focal), ("dice", &loss.dice), ("mask_iou", &loss.iou), ("total", &loss.total)]
    {
        close(name, &values(part), &e.floats(name), TOLERANCE);
    }
    let grads = loss.total.backward().unwrap();
    close_gradient("grad_pred_logits", grads.get(&logits).unwrap(), e.tensor("grad_pred_logits"));
    close_gradient("grad_pred_iou", grads.get(&iou).unwrap(), e.tensor("grad_pred_iou"));
    let (p, t) = (e.floats("pred_logits"), e.floats("target"));
    let smallest = p.iter().copied().fold(f32::MAX, f32::min);
    let n = p.len() / e.floats("metric_dice").len();
    let (dice, iou): (Vec<f32>, Vec<f32>) =
        p.chunks(n).zip(t.chunks(n)).map(|(p, t)| sam_med2d_metrics(p, t, smallest)).unzip();
    close("metric_dice", &dice, &e.floats("metric_dice"), TOLERANCE);
    close("metric_iou", &iou, &e.floats("metric_iou"), TOLERANCE);
}

/// A training step: a gradient for every tensor, those of masks that nobody chose excepted, where it is zero.
#[test]
fn training_step() {
    let e = Expected::load("train_step.safetensors");
    let c = config();
    let start: BTreeMap<String, Tensor> =
        candle_core::safetensors::load(folder().join("model.safetensors"), &Device::Cpu).unwrap().into_iter().collect();
    let params = Params::trainable(0, start);
    let sam = Sam::new(&c, &params).unwrap();
    let boxes: Vec<Vec<f32>> = e.tensor("boxes").to_vec2().unwrap();
    let rows: Vec<Sparse> =
        boxes.into_iter().map(|b| Sparse { bounds: Some(b.try_into().unwrap()), ..Sparse::default() }).collect();
    let images = sam.encoder.forward(e.tensor("images_norm")).unwrap();
    let (tokens, dense) = (sam.prompts.sparse(&rows).unwrap(), sam.prompts.dense(None).unwrap());
    let masks = sam.decoder.forward(&images, sam.prompts.dense_positions(), &tokens, &dense).unwrap();
    let best: Vec<i64> = e.tensor("best").to_vec1().unwrap();
    let iou: Vec<Vec<f32>> = masks.iou.to_vec2().unwrap();
    let (mut chosen, mut chosen_iou) = (Vec::new(), Vec::new());
    for (row, (&best, iou)) in best.iter().zip(&iou).enumerate() {
        let mask = best as usize + 1;
        assert!((1..iou.len()).all(|n| iou[n] <= iou[mask]), "row {row}: best of {iou:?}");
        chosen.push(masks.logits.get(row).unwrap().get(mask).unwrap());
        chosen_iou.push(masks.iou.get(row).unwrap().get(mask).unwrap());
    }
    let logits = resize_square(&Tensor::stack(&chosen, 0).unwrap(), c.image_size).unwrap().unsqueeze(1).unwrap();
    let iou = Tensor::stack(&chosen_iou, 0).unwrap().unsqueeze(1).unwrap();
    close("pred_iou", &values(&iou), &e.floats("pred_iou"), TOLERANCE);
    let loss = sam_med2d_loss(&logits, e.tensor("labels"), &iou).unwrap();
    close("loss", &values(&loss.total), &e.floats("loss"), TOLERANCE);
    let grads = loss.total.backward().unwrap();
    let variables = params.variables();
    let mut compared = 0;
    for name in e.0.keys().filter_map(|k| k.strip_prefix("grad/")) {
        let gradient = grads.get(&variables[name]).unwrap_or_else(|| panic!("{name} has no gradient"));
        close_gradient(name, gradient, e.tensor(&format!("grad/{name}")));
        compared += 1;
    }
    assert!(compared >= 20, "{compared} gradients");
    let norms = std::fs::read_to_string(folder().join("train_grad_norms.json")).unwrap();
    let norms: BTreeMap<String, f64> = serde_json::from_str(&norms).unwrap();
    assert!(norms.len() > 100);
    for (name, expected) in norms {
        let norm = grads
            .get(&variables[&name])
            .map_or(0.0, |g| values(g).iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt());
        // The gradient of a key's bias is zero but for rounding: softmax does not see it.
        assert!((norm - expected).abs() <= 1e-3 * expected + 1e-5, "{name}: norm {norm}, expected {expected}");
    }
}

#[test]
fn position_tables_taken_over_from_sam() {
    let e = Expected::load("load_from_sam.safetensors");
    let mut checked = 0;
    for key in e.0.keys().filter_map(|k| k.strip_prefix("source/")) {
        let expected = e.tensor(&format!("result/{key}"));
        let ours = convert_from_sam(key, e.tensor(&format!("source/{key}")), expected.dims()).unwrap().unwrap();
        close(key, &values(&ours), &values(expected), 1e-5);
        checked += 1;
    }
    assert!(checked >= 4);
}

#[test]
fn embeddings_keep_the_size_of_their_picture() {
    let picture = Picture::grey(9, 5, &[100; 45]).unwrap();
    let embedding: Embedding = model().embed(&picture).unwrap();
    assert_eq!((embedding.width, embedding.height), (9, 5));
    let prompt = PromptSet { bounds: Some(PixelBox::new(1.0, 1.0, 8.0, 4.0).unwrap()), ..PromptSet::default() };
    let decoded = model().decode(&embedding, &[prompt]).unwrap();
    assert_eq!(model().postprocess(&embedding, &decoded[0]).len(), 45);
}
