//! One image that is asked about slice by slice: opened once, a slice read on demand, any number of prompts answered from
//! that reading. The caller keeps the readings, since only it knows how much memory there is.

use crate::body::View;
use crate::body::stack_of;
use crate::pass::{self, ABSENT, Encoded, Question, STEPS};
use crate::readings::{answer, read_all};
use crate::sam::{self, SamReading};
use crate::segment::{decide_picture, organs_of};
use crate::{CANDIDATE_THRESHOLDS, Error, Model, Prompt, Request, guess_modality};
use std::sync::Arc;
use volseg_geometry::{Affine, Modality, OrganId, PixelBox, Plane, SliceStack, resize_bilinear_into};
use volseg_io::Image;

/// Following ends where the Dice of a mask with that of the slice before is less.
const LEAST_AGREEMENT: f64 = 0.3;
/// A followed mask of fewer pixels of the slice is taken as the organ's end.
const LEAST_PIXELS: usize = 4;

/// An image opened with a model.
pub struct OpenCase {
    image: Arc<Image>,
    model: Arc<Model>,
    plane: Plane,
    stack: SliceStack,
    modality: Modality,
    view: Option<View>,
    grey: Option<(f32, f32)>,
}

/// What the network made of one slice; [`OpenCase::read`] makes it, [`OpenCase::answer`] uses it.
pub struct Reading(Kind);

enum Kind {
    /// All readings of the slice, the plain one first.
    Embedded(Vec<Encoded>),
    Sam(Box<SamReading>),
}

impl Reading {
    /// Bytes of memory that it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Kind::Embedded(all) => all.iter().map(Encoded::bytes).sum(),
            Kind::Sam(s) => s.bytes(),
        }
    }
}

/// A mask of one slice, before a threshold is chosen.
#[derive(Clone, Debug)]
pub struct SliceAnswer {
    /// Pixels along stored x and y.
    pub size: [usize; 2],
    /// Logits of the stored pixels, x fastest.
    pub logits: Vec<f32>,
    /// IoU that the network expects of its mask.
    pub iou: f32,
}

impl SliceAnswer {
    /// 1 where the probability is above `threshold`, stored pixels, x fastest.
    #[must_use]
    pub fn mask(&self, threshold: f32) -> Vec<u8> {
        let cut = (threshold / (1.0 - threshold)).ln();
        self.logits.iter().map(|&l| u8::from(l > cut)).collect()
    }

    /// The masks at [`CANDIDATE_THRESHOLDS`].
    #[must_use]
    pub fn candidates(&self) -> [Vec<u8>; 4] {
        CANDIDATE_THRESHOLDS.map(|t| self.mask(t))
    }
}

/// How unsure the network is about an organ on a slice.
#[derive(Clone, Copy, Debug)]
pub struct Doubt {
    /// The organ.
    pub organ: OrganId,
    /// Pixels with a probability in the band of the candidates (0.3 to 0.6), over the root of the number above 0.3: 0 is sure.
    pub band: f64,
    /// Predicted IoU.
    pub iou: f32,
}

/// The plane whose slices follow each other along a stored axis (2: the slices as most files and viewers count them).
#[must_use]
pub fn plane_across(affine: &Affine, axis: usize) -> Plane {
    let all = [Plane::Axial, Plane::Coronal, Plane::Sagittal];
    let orientation = affine.orientation();
    all.into_iter().find(|p| orientation.axis_along(p.normal()) == axis).unwrap_or(Plane::Axial)
}

impl OpenCase {
    /// Opens an image. `modality` and `plane` are found out where they are not given (axial for volumes).
    ///
    /// # Errors
    /// [`Error::Request`] for a modality that the model does not know.
    pub fn new(
        image: Arc<Image>,
        model: Arc<Model>,
        modality: Option<Modality>,
        plane: Option<Plane>,
    ) -> Result<Self, Error> {
        let plane = plane.unwrap_or(Plane::Axial);
        let stack = stack_of(&image, plane);
        let picture = image.is_picture();
        let declared = modality.or(image.modality);
        let guess = guess_modality(&image.volume, image.slope, image.intercept, picture, declared);
        let (modality, view, grey) = match &*model {
            Model::Embedded { networks, .. } => {
                let modality = match guess.modality {
                    Some(m) => m,
                    None => decide_picture(networks.of(None)?, &image, &Request::default(), stack)?,
                };
                let (v, side) = (&image.volume, networks.config().side);
                let view = View::new(v, image.slope, image.intercept, stack, modality, None, side, picture);
                (modality, Some(view), None)
            }
            Model::Sam { .. } => {
                let grey = (!picture).then(|| sam::grey_bounds(&image, None));
                (guess.modality.unwrap_or(Modality::Xray), None, grey)
            }
        };
        Ok(Self { image, model, plane, stack, modality, view, grey })
    }

    /// The image.
    #[must_use]
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Plane of the slices.
    #[must_use]
    pub fn plane(&self) -> Plane {
        self.plane
    }

    /// The slices.
    #[must_use]
    pub fn stack(&self) -> &SliceStack {
        &self.stack
    }

    /// What the image is.
    #[must_use]
    pub fn modality(&self) -> Modality {
        self.modality
    }

    /// Organs that the model finds by name in this image.
    #[must_use]
    pub fn organs(&self) -> Vec<OrganId> {
        match &*self.model {
            Model::Embedded { .. } => organs_of(self.modality),
            Model::Sam { .. } => Vec::new(),
        }
    }

    /// Reads a slice: the slow half of an answer.
    ///
    /// # Errors
    /// [`Error::Request`] for a slice that the image has not.
    pub fn read(&self, slice: usize) -> Result<Reading, Error> {
        if slice >= self.stack.slices {
            return Err(Error::Request(format!("slice {slice}: the image has slices 0 to {}", self.stack.slices - 1)));
        }
        Ok(Reading(match (&*self.model, &self.view) {
            (Model::Embedded { networks, .. }, Some(view)) => {
                let network = networks.of(Some(self.modality))?;
                Kind::Embedded(read_all(network, &self.image.volume, view, slice).collect::<Result<_, _>>()?)
            }
            (Model::Sam { model, .. }, _) => {
                Kind::Sam(Box::new(sam::read(model, &self.image, &self.stack, slice, self.grey)?))
            }
            _ => return Err(Error::Request("the model does not fit".into())),
        }))
    }

    /// The mask for a prompt. A named organ without box and points is looked for by its name; `None` if it is not there.
    ///
    /// # Errors
    /// [`Error::Request`] for a prompt that the model cannot use; the network's own errors.
    pub fn answer(&self, reading: &Reading, prompt: &Prompt) -> Result<Option<SliceAnswer>, Error> {
        let bare = prompt.bounds.is_none() && prompt.points.is_empty();
        match (&*self.model, &reading.0, &self.view) {
            (Model::Embedded { networks, .. }, Kind::Embedded(all), Some(view)) => {
                if bare && !(prompt.named && self.organs().contains(&prompt.organ)) {
                    return Err(Error::Request(
                        "give a box, points, or the name of an organ that the model knows in this image".into(),
                    ));
                }
                let (organ, prompts) = ([prompt.organ], [prompt.clone()]);
                let question = if bare { Question::Organs(&organ) } else { Question::Prompts(&prompts) };
                let found = answer(networks.of(Some(self.modality))?, all.iter().map(Ok), view, &question)?;
                Ok(found.first().map(|a| self.enlarge(&a.logits, a.iou, view)))
            }
            (Model::Sam { model, .. }, Kind::Sam(reading), _) => {
                if bare {
                    return Err(Error::Request("this model needs a box or points".into()));
                }
                let (shown, iou) = sam::decode(model, reading, &self.stack, prompt)?;
                let mut logits = vec![0f32; shown.len()];
                for (p, l) in shown.iter().enumerate() {
                    logits[self.stored(p)] = *l;
                }
                Ok(Some(SliceAnswer { size: self.stack.size, logits, iou }))
            }
            _ => Err(Error::Request("the slice was read by another model".into())),
        }
    }

    /// How unsure the model is about every organ that it finds on a slice by name.
    ///
    /// # Errors
    /// The network's own errors.
    pub fn doubts(&self, reading: &Reading) -> Result<Vec<Doubt>, Error> {
        let (Model::Embedded { networks, .. }, Kind::Embedded(all), Some(view)) =
            (&*self.model, &reading.0, &self.view)
        else {
            return Ok(Vec::new());
        };
        let steps = |t: f32| ((t / (1.0 - t)).ln() * STEPS) as i16;
        let (low, high) = (steps(CANDIDATE_THRESHOLDS[0]), steps(CANDIDATE_THRESHOLDS[3]));
        let Some(plain) = all.first() else { return Ok(Vec::new()) };
        let known = self.organs();
        let question = Question::Organs(&known);
        let found = pass::found(pass::decode(networks.of(Some(self.modality))?, plain, view, &question)?, &question);
        Ok(found
            .iter()
            .filter_map(|a| {
                let above = a.logits.iter().filter(|&&l| l > low).count();
                let band = a.logits.iter().filter(|&&l| l > low && l <= high).count();
                let organ = OrganId::new(a.organ)?;
                // A share alone would put specks of a few pixels first, a count alone large organs.
                (above > 0).then(|| Doubt { organ, band: band as f64 / (above as f64).sqrt(), iou: a.iou })
            })
            .collect())
    }

    /// Follows what `seeds` show to the slices around, inside `range`, until it ends: a mask goes on as what is found of its organ by
    /// name, if that lies over it, else as what is found in its box. `read` gives readings, kept or new. Slices in rising order.
    ///
    /// # Errors
    /// As [`OpenCase::read`] and [`OpenCase::answer`].
    pub fn follow(
        &self,
        seeds: &[Prompt],
        range: std::ops::Range<usize>,
        threshold: f32,
        read: &dyn Fn(usize) -> Result<Arc<Reading>, Error>,
        progress: &dyn Fn(usize, usize) -> Result<(), Error>,
    ) -> Result<Vec<(usize, SliceAnswer)>, Error> {
        let mut found = std::collections::BTreeMap::new();
        for seed in seeds {
            let answer = self.answer(&*read(seed.slice)?, seed)?;
            found.extend(answer.map(|a| (seed.slice, a)));
        }
        let starts: Vec<usize> = found.keys().copied().collect();
        let total = range.len();
        for &start in &starts {
            for step in [1isize, -1] {
                let mut slice = start;
                while let Some(next) = slice.checked_add_signed(step).filter(|n| range.contains(n)) {
                    // Another seed goes on from its own, better answer.
                    if found.contains_key(&next) {
                        break;
                    }
                    progress(found.len(), total)?;
                    let Some(before) = found.get(&slice) else { break };
                    let Some(answer) = self.carry(&*read(next)?, next, before, seeds, threshold)? else { break };
                    found.insert(next, answer);
                    slice = next;
                }
            }
        }
        progress(total, total)?;
        Ok(found.into_iter().collect())
    }

    /// The mask of a slice from that of its neighbour; `None` where it ends.
    fn carry(
        &self,
        reading: &Reading,
        slice: usize,
        before: &SliceAnswer,
        seeds: &[Prompt],
        threshold: f32,
    ) -> Result<Option<SliceAnswer>, Error> {
        let old = before.mask(threshold);
        let (Some(bounds), Some(seed)) = (PixelBox::of_mask(&old, before.size[0]), seeds.first()) else {
            return Ok(None);
        };
        let pixels = |mask: &[u8]| mask.iter().filter(|&&v| v != 0).count();
        let goes_on = |answer: &SliceAnswer| {
            let new = answer.mask(threshold);
            let both = new.iter().zip(&old).filter(|(n, o)| **n != 0 && **o != 0).count();
            let agree = 2.0 * both as f64 / (pixels(&new) + pixels(&old)) as f64;
            pixels(&new) >= LEAST_PIXELS && answer.iou >= pass::MIN_IOU && agree >= LEAST_AGREEMENT
        };
        let prompt = Prompt { slice, bounds: None, rough: true, points: Vec::new(), ..seed.clone() };
        if prompt.named && self.organs().contains(&prompt.organ) {
            let by_name = self.answer(reading, &prompt)?.filter(goes_on);
            if by_name.is_some() {
                return Ok(by_name);
            }
        }
        Ok(self.answer(reading, &Prompt { bounds: Some(bounds), ..prompt })?.filter(goes_on))
    }

    /// Stored pixel number of a shown pixel number.
    fn stored(&self, shown: usize) -> usize {
        let w = self.stack.shown_size()[0];
        let (x, y) = self.stack.to_stored((shown % w) as f32 + 0.5, (shown / w) as f32 + 0.5);
        x as usize + self.stack.size[0] * y as usize
    }

    fn enlarge(&self, fixed: &[i16], iou: f32, view: &View) -> SliceAnswer {
        let [x0, y0, w, h] = view.crop;
        let small: Vec<f32> = fixed.iter().map(|&l| f32::from(l) / STEPS).collect();
        let mut large = vec![0f32; w * h];
        resize_bilinear_into(&small, view.side, view.side, w, h, &mut large);
        let size = self.stack.size;
        let mut logits = vec![f32::from(ABSENT) / STEPS; size[0] * size[1]];
        let columns = self.stack.shown_size()[0];
        for (i, l) in large.iter().enumerate() {
            logits[self.stored((y0 + i / w) * columns + x0 + i % w)] = *l;
        }
        SliceAnswer { size, logits, iou }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Origin, PromptMode, PromptSet, segment};
    use std::collections::BTreeMap;
    use volseg_geometry::{Orientation, Volume};

    struct Silent;
    impl crate::Observer for Silent {
        fn progress(&self, _: crate::Stage, _: usize, _: usize) {}
    }

    fn model() -> Arc<Model> {
        Arc::new(Model::shipped(&candle_core::Device::Cpu).unwrap())
    }

    /// A body of soft tissue with a brighter ball, in any orientation.
    fn image(orientation: &str) -> Arc<Image> {
        let dim = [48, 40, 6];
        let voxels = (0..48 * 40 * 6).map(|n| {
            let (x, y, z) = ((n % 48) as f64 - 30.0, (n / 48 % 40) as f64 - 18.0, (n / 1920) as f64 - 3.0);
            let ball = x * x + y * y + 4.0 * z * z < 60.0;
            let body = ((x + 6.0) / 22.0).powi(2) + (y / 17.0).powi(2) < 1.0;
            if ball {
                130i16
            } else if body {
                40
            } else {
                -1000
            }
        });
        let affine = Affine::from_spacing_mm([6.0, 6.0, 5.0]);
        let volume = Volume::from_vec(voxels.collect(), dim, affine).unwrap();
        Arc::new(Image::from_volume(volume.reoriented(orientation.parse::<Orientation>().unwrap()).into()))
    }

    /// Axes may be stored in any order and direction: the patient is the same.
    #[test]
    fn masks_turn_with_the_volume() {
        // Those of pictures see organs in so plain a body, those of CTs none.
        let model = Model::embedded(volseg_model::embedded::SHIPPED, String::new(), &candle_core::Device::Cpu).unwrap();
        let organs = Some([1, 6, 7, 8, 10].into_iter().filter_map(OrganId::new).collect());
        for plane in [Plane::Axial, Plane::Coronal, Plane::Sagittal] {
            for fast in [false, true] {
                let request = Request { organs: organs.clone(), plane: Some(plane), fast, ..Request::default() };
                let masks = ["RAS", "LAS", "RPS", "RAI", "LPI", "SAR", "IPL"].map(|orientation| {
                    let done = segment(&image(orientation), &model, &request, 1, &Silent).unwrap();
                    done.labels.reoriented("RAS".parse::<Orientation>().unwrap()).voxels().to_vec()
                });
                assert!(masks[0].iter().any(|&v| v != 0) || plane != Plane::Axial);
                assert!(masks.iter().all(|m| *m == masks[0]), "{plane} {fast}");
            }
        }
    }

    #[test]
    fn a_click_gives_the_mask_of_a_prompt_file() {
        let model = model();
        for orientation in ["RAS", "LPI", "ASR"] {
            let image = image(orientation);
            let case = OpenCase::new(image.clone(), model.clone(), None, None).unwrap();
            let size = case.stack().size;
            let prompt = Prompt {
                organ: OrganId::new(6).unwrap(),
                named: false,
                slice: 3,
                bounds: Some(PixelBox { x0: 5.0, y0: 4.0, x1: size[0] as f32 - 5.0, y1: size[1] as f32 - 4.0 }),
                rough: false,
                points: vec![[size[0] as f32 / 2.0, size[1] as f32 / 2.0, 1.0]],
                text: None,
            };
            let reading = case.read(3).unwrap();
            assert!(reading.bytes() > 1 << 20);
            let answer = case.answer(&reading, &prompt).unwrap().unwrap();
            let prompts = vec![PromptSet { plane: Some(Plane::Axial), prompts: vec![prompt], ..PromptSet::default() }];
            let request =
                Request { prompts: PromptMode::Given { prompts, origin: crate::Origin::File }, ..Request::default() };
            let whole = segment(&image, &model, &request, 1, &Silent).unwrap();
            let mask = answer.mask(0.5);
            for y in 0..size[1] {
                for x in 0..size[0] {
                    let there = whole.labels.voxels()[case.stack().linear(x, y, 3)];
                    assert_eq!(there != 0, mask[y * size[0] + x] != 0, "{orientation} {x} {y}");
                }
            }
            let counts: Vec<usize> =
                answer.candidates().iter().map(|m| m.iter().filter(|&&v| v != 0).count()).collect();
            assert!(counts.is_sorted_by(|a, b| a >= b), "{counts:?}");
        }
    }

    fn ultrasound() -> (Arc<Image>, Arc<Model>, OpenCase) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../volumes/ultrasound-phantom.png");
        let image = Arc::new(volseg_io::read(&path, &volseg_io::ReadOptions::default()).unwrap());
        let model = model();
        let case = OpenCase::new(image.clone(), model.clone(), Some(Modality::Ultrasound), None).unwrap();
        (image, model, case)
    }

    #[test]
    fn a_name_on_a_picture_gives_what_the_command_gives() {
        let (image, model, case) = ultrasound();
        let tumour = OrganId::new(17).unwrap();
        let prompt =
            Prompt { organ: tumour, named: true, slice: 0, bounds: None, rough: false, points: vec![], text: None };
        let mask = case.answer(&case.read(0).unwrap(), &prompt).unwrap().unwrap().mask(0.5);
        let request =
            Request { modality: Some(Modality::Ultrasound), organs: Some(vec![tumour]), ..Request::default() };
        let whole = segment(&image, &model, &request, 1, &Silent).unwrap();
        let both = whole.labels.voxels().iter().zip(&mask).filter(|(l, m)| **l != 0 && **m != 0).count();
        // The command also drops small parts beside the largest.
        let (there, found) =
            (whole.labels.voxels().iter().filter(|&&l| l != 0).count(), mask.iter().filter(|&&m| m != 0).count());
        assert!(there > 100 && both == there && found < there + there / 10, "{there} {both} {found}");
    }

    #[test]
    fn a_box_or_a_point_on_a_picture_gives_what_the_command_gives() {
        let (image, model, case) = ultrasound();
        let tumour = OrganId::new(17).unwrap();
        let [w, h] = case.stack().size.map(|n| n as f32);
        let near = PixelBox { x0: 0.3 * w, y0: 0.3 * h, x1: 0.7 * w, y1: 0.7 * h };
        for (bounds, points) in [(Some(near), vec![]), (None, vec![[0.5 * w, 0.5 * h, 1.0]])] {
            let prompt = Prompt { organ: tumour, named: true, slice: 0, bounds, rough: false, points, text: None };
            let mask = case.answer(&case.read(0).unwrap(), &prompt).unwrap().unwrap().mask(0.5);
            let given = PromptSet { plane: None, prompts: vec![prompt], texts: BTreeMap::new() };
            let request = Request {
                modality: Some(Modality::Ultrasound),
                prompts: PromptMode::Given { prompts: vec![given], origin: Origin::File },
                ..Request::default()
            };
            let whole = segment(&image, &model, &request, 1, &Silent).unwrap();
            assert!(whole.labels.voxels().iter().zip(&mask).all(|(l, m)| (*l != 0) == (*m != 0)));
            assert!(mask.iter().filter(|&&m| m != 0).count() > 100);
        }
    }

    #[test]
    fn slices_beyond_the_image_and_empty_prompts_are_refused() {
        let case = OpenCase::new(image("RAS"), model(), None, None).unwrap();
        assert!(case.read(6).is_err());
        let bare = Prompt {
            organ: OrganId::new(17).unwrap(),
            named: true,
            slice: 0,
            bounds: None,
            rough: false,
            points: vec![],
            text: None,
        };
        assert!(case.answer(&case.read(0).unwrap(), &bare).is_err());
    }

    #[test]
    fn the_plane_across_the_third_axis_follows_the_orientation() {
        for (orientation, plane) in [("RAS", Plane::Axial), ("LSP", Plane::Coronal), ("ASR", Plane::Sagittal)] {
            assert_eq!(plane_across(image(orientation).volume.affine(), 2), plane);
        }
    }

    /// Boxes alone lose the esophagus and the stomach after some slices.
    #[test]
    fn one_click_follows_a_named_organ_to_its_ends() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../volumes");
        let read = |name: &str| volseg_io::read(&folder.join(name), &volseg_io::ReadOptions::default()).unwrap();
        let image = Arc::new(read("ct-phantom.nii.gz"));
        let truth = read("ct-phantom-labels.nii.gz").volume.to_f32(1.0, 0.0);
        let case = OpenCase::new(image, model(), None, None).unwrap();
        let [w, h] = case.stack().size;
        for organ in [5, 7].map(|id| OrganId::new(id).unwrap()) {
            let shows = |i: usize| truth[i] == f32::from(organ.get());
            let of: Vec<usize> = (0..truth.len()).filter(|&i| shows(i)).collect();
            let click = of[of.len() / 2];
            let (slice, points) = (click / (w * h), vec![[(click % w) as f32, (click / w % h) as f32, 1.0]]);
            let seed = Prompt { organ, named: true, slice, bounds: None, rough: false, points, text: None };
            let read = |s: usize| case.read(s).map(Arc::new);
            let found = case.follow(&[seed], 0..case.stack().slices, 0.5, &read, &|_, _| Ok(())).unwrap();
            let (mut both, mut size) = (0, of.len());
            for (slice, answer) in &found {
                let mask = answer.mask(0.5);
                let pixels = (0..mask.len()).filter(|&i| mask[i] != 0);
                size += pixels.clone().count();
                both += pixels.filter(|i| shows(slice * w * h + i)).count();
            }
            let dice = 2.0 * both as f64 / size as f64;
            assert!(dice > 0.72, "{} {dice}", organ.get());
        }
    }

    #[test]
    fn following_stays_in_its_range_and_counts_slices_once() {
        let case = OpenCase::new(image("RAS"), model(), None, None).unwrap();
        let seed = Prompt {
            organ: OrganId::new(6).unwrap(),
            named: false,
            slice: 3,
            bounds: Some(PixelBox { x0: 22.0, y0: 10.0, x1: 38.0, y1: 26.0 }),
            rough: false,
            points: vec![],
            text: None,
        };
        let read = |s: usize| case.read(s).map(Arc::new);
        let found = case.follow(&[seed], 2..5, 0.5, &read, &|_, _| Ok(())).unwrap();
        assert!(!found.is_empty() && found.iter().all(|(s, _)| (2..5).contains(s)));
        assert!(found.windows(2).all(|w| w[0].0 < w[1].0));
    }
}
