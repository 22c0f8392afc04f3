use crate::{
    Canvas, Error, Result,
    canvas::{LINE, text_width},
    legend::{self, Entry},
    pick::{self, Counts},
    tile::{self, Slice},
};
use std::collections::BTreeMap;
use volseg_geometry::{AnyVolume, LabelMap, Plane, SliceStack, Window};

const BACKGROUND: [u8; 3] = [18, 20, 24];
const MUTED: [u8; 3] = [150, 156, 164];
const MARGIN: usize = 12;
const GAP: usize = 4;
const NOTE: &str = "research use only, not for diagnosis";

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    image: &'a AnyVolume,
    slope: f64,
    intercept: f64,
    labels: Option<&'a LabelMap>,
    picture: bool,
}

impl<'a> Scene<'a> {
    /// An image whose stored values are its physical values.
    #[must_use]
    pub fn new(image: &'a AnyVolume) -> Self {
        Self { image, slope: 1.0, intercept: 0.0, labels: None, picture: false }
    }

    /// Physical value = stored value · `slope` + `intercept`.
    #[must_use]
    pub fn with_scale(mut self, slope: f64, intercept: f64) -> Self {
        (self.slope, self.intercept) = (slope, intercept);
        self
    }

    /// Labels on the image's grid, drawn over it.
    #[must_use]
    pub fn with_labels(mut self, labels: &'a LabelMap) -> Self {
        self.labels = Some(labels);
        self
    }

    /// An X-ray, ultrasound or other picture: shown as stored, without letters, amounts in pixels.
    #[must_use]
    pub fn as_picture(mut self) -> Self {
        self.picture = true;
        self
    }
}

/// How it is drawn.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Plane of the slices.
    pub plane: Plane,
    /// Map of intensities to grey.
    pub window: Window,
    /// Most slices of a volume in the sheet, apart from the row with the two other planes.
    pub slices: usize,
    /// Longer side of a slice in pixels; a single picture gets twice as much.
    pub tile: usize,
    /// Names and colours of labels, where they are not those of [`colour`](crate::colour).
    pub names: BTreeMap<u8, (String, [u8; 3])>,
}

impl Options {
    /// Twelve axial slices of 256 pixels.
    #[must_use]
    pub fn new(window: Window) -> Self {
        Self { plane: Plane::Axial, window, slices: 12, tile: 256, names: BTreeMap::new() }
    }

    fn name(&self, label: u8) -> (String, [u8; 3]) {
        self.names.get(&label).cloned().unwrap_or_else(|| legend::colour(label))
    }
}

/// A tile to be drawn: which slice, where, how large.
struct Tile {
    plane: Plane,
    stack: SliceStack,
    slice: usize,
    overlay: bool,
    at: [usize; 2],
    size: [usize; 2],
}

/// Draws a contact sheet of a volume, or a single picture beside its overlay.
///
/// # Errors
/// [`Error::Grid`] if labels and image have different sizes, [`Error::Empty`] if there are no voxels.
pub fn draw(scene: &Scene, options: &Options) -> Result<Canvas> {
    let dim = scene.image.dim();
    if dim.contains(&0) {
        return Err(Error::Empty { dim });
    }
    if let Some(labels) = scene.labels.filter(|l| l.dim() != dim) {
        return Err(Error::Grid { found: labels.dim(), expected: dim });
    }
    let stack = stack(scene, options.plane);
    let counts = counts(scene, &stack);
    let (mut tiles, grid) =
        if stack.slices == 1 { single(scene, options, stack) } else { volume(scene, options, stack, &counts) };
    let entries = entries(scene, options, &counts);
    let (legend_width, legend_height) = legend::size(&entries);
    let legend_space = if entries.is_empty() { 0 } else { legend_width + 2 * MARGIN };
    let top = MARGIN + LINE + MARGIN;
    let caption = caption(scene, options, stack.slices, &tiles);
    let width = (MARGIN + grid[0] + legend_space).max(MARGIN + text_width(&caption)) + MARGIN;
    let height = top + grid[1].max(legend_height) + MARGIN + LINE + MARGIN;
    let mut canvas = Canvas::new(width, height, BACKGROUND);
    canvas.text(MARGIN, MARGIN, &caption, MUTED);
    canvas.text(MARGIN, height - MARGIN - LINE, NOTE, MUTED);
    for tile in &mut tiles {
        tile.at = [tile.at[0] + MARGIN, tile.at[1] + top];
    }
    draw_tiles(&mut canvas, scene, options, &tiles);
    legend::draw(&mut canvas, 2 * MARGIN + grid[0] + MARGIN, top, &entries);
    Ok(canvas)
}

fn stack(scene: &Scene, plane: Plane) -> SliceStack {
    let [w, h, depth] = scene.image.dim();
    if scene.picture && depth == 1 {
        SliceStack::picture(w, h)
    } else {
        SliceStack::new(scene.image.dim(), scene.image.affine(), plane)
    }
}

/// Size of a shown slice in mm (in pixels for a picture).
fn extent(scene: &Scene, stack: &SliceStack) -> [f64; 2] {
    let spacing = if scene.picture { [1.0; 3] } else { scene.image.affine().spacing_mm() };
    let stored = [0, 1].map(|a| stack.size[a] as f64 * spacing[stack.frame.axes[a]]);
    if stack.frame.transposed { [stored[1], stored[0]] } else { stored }
}

/// Pixels for `mm` at `scale`, at most `limit` along each side; slivers stay visible.
fn pixels(mm: [f64; 2], scale: f64, limit: [usize; 2]) -> [usize; 2] {
    let shrink = (limit[0] as f64 / (mm[0] * scale)).min(limit[1] as f64 / (mm[1] * scale)).min(1.0);
    [0, 1].map(|a| ((mm[a] * scale * shrink).round() as usize).clamp(1, limit[a]))
}

fn counts(scene: &Scene, stack: &SliceStack) -> Counts {
    (0..stack.slices)
        .map(|slice| {
            let mut pixels = [0usize; 256];
            if let Some(labels) = scene.labels {
                stack.for_each_shown(slice, |_, voxel| pixels[usize::from(labels.voxels()[voxel])] += 1);
            }
            (1..=255u8).map(|l| (l, pixels[usize::from(l)])).filter(|(_, n)| *n > 0).collect()
        })
        .collect()
}

/// A single slice, and beside it the same with the overlay.
fn single(scene: &Scene, options: &Options, stack: SliceStack) -> (Vec<Tile>, [usize; 2]) {
    let mm = extent(scene, &stack);
    let side = 2 * options.tile;
    let size = pixels(mm, side as f64 / mm[0].max(mm[1]), [side; 2]);
    let tile =
        |n: usize, overlay| Tile { plane: options.plane, stack, slice: 0, overlay, at: [n * (size[0] + GAP), 0], size };
    let mut tiles = vec![tile(0, false)];
    if scene.labels.is_some() {
        tiles.push(tile(1, true));
    }
    let n = tiles.len();
    (tiles, [n * size[0] + (n - 1) * GAP, size[1]])
}

/// Rows of slices, and one row of the two other planes at the same scale.
fn volume(scene: &Scene, options: &Options, stack: SliceStack, counts: &Counts) -> (Vec<Tile>, [usize; 2]) {
    let chosen = pick::slices(counts, options.slices.max(1));
    let mm = extent(scene, &stack);
    let scale = options.tile as f64 / mm[0].max(mm[1]);
    let cell = pixels(mm, scale, [options.tile; 2]);
    let columns = if chosen.len() > 4 { chosen.len().div_ceil(3).max(4) } else { chosen.len() };
    let mut tiles: Vec<Tile> = chosen
        .iter()
        .enumerate()
        .map(|(n, &slice)| {
            let at = [n % columns * (cell[0] + GAP), n / columns * (cell[1] + GAP)];
            Tile { plane: options.plane, stack, slice, overlay: true, at, size: cell }
        })
        .collect();
    let mut height = chosen.len().div_ceil(columns) * (cell[1] + GAP) - GAP;
    let others = [Plane::Axial, Plane::Coronal, Plane::Sagittal].into_iter().filter(|p| *p != options.plane);
    let across: Vec<_> = others.map(|plane| (plane, self::stack(scene, plane))).collect();
    // Too few slices make stripes, not pictures.
    if stack.slices >= 8 && columns >= 2 {
        let each = (columns / 2).min(2);
        let mut row = 0;
        for (n, (plane, stack)) in across.iter().flat_map(|other| (0..each).map(move |_| *other)).enumerate() {
            let chosen = pick::slices(&self::counts(scene, &stack), each);
            let Some(&slice) = chosen.get(n % each) else { continue };
            let size = pixels(extent(scene, &stack), scale, [cell[0], 2 * options.tile]);
            let at = [n * (cell[0] + GAP) + (cell[0] - size[0]) / 2, height + GAP];
            row = row.max(size[1]);
            tiles.push(Tile { plane, stack, slice, overlay: true, at, size });
        }
        height += GAP + row;
    }
    (tiles, [columns * (cell[0] + GAP) - GAP, height])
}

fn draw_tiles(canvas: &mut Canvas, scene: &Scene, options: &Options, tiles: &[Tile]) {
    let read = |t: &Tile| tile::values(scene.image, scene.slope, scene.intercept, &t.stack, t.slice);
    // Percentiles are taken over the slices of the main plane together, so that all tiles have one grey scale.
    let window = match options.window {
        Window::Percentile { .. } => {
            let main = tiles.iter().filter(|t| t.plane == options.plane);
            let (low, high) = options.window.bounds(&main.flat_map(read).collect::<Vec<_>>());
            Window::Range { low, high }
        }
        range => range,
    };
    let palette: Vec<[u8; 3]> = (0..=255u8).map(|l| options.name(l).1).collect();
    for tile in tiles {
        let mut grey = read(tile);
        window.apply(&mut grey);
        let labels = scene.labels.filter(|_| tile.overlay).map(|map| tile::labels(map, &tile.stack, tile.slice));
        let slice = Slice { size: tile.stack.shown_size(), grey, labels, fill: if scene.picture { 0.25 } else { 0.4 } };
        tile::draw(canvas, tile.at, tile.size, &slice, &|l| palette[usize::from(l)]);
        if !scene.picture {
            let letters = tile::side_letters(tile.plane);
            tile::annotate(canvas, tile.at, tile.size, letters, &tile.slice.to_string());
        }
    }
}

fn entries(scene: &Scene, options: &Options, counts: &Counts) -> Vec<Entry> {
    let mut totals: BTreeMap<u8, usize> = BTreeMap::new();
    for (&label, &pixels) in counts.iter().flatten() {
        *totals.entry(label).or_default() += pixels;
    }
    let ml = scene.image.affine().determinant().abs() / 1000.0;
    totals
        .into_iter()
        .map(|(label, voxels)| {
            let (name, rgb) = options.name(label);
            let amount = if scene.picture { format!("{voxels} px") } else { format!("{:.1} ml", voxels as f64 * ml) };
            Entry { name, rgb, amount }
        })
        .collect()
}

fn caption(scene: &Scene, options: &Options, slices: usize, tiles: &[Tile]) -> String {
    let window = match options.window {
        Window::Range { low, high } => format!("window {low} to {high}"),
        Window::Percentile { low, high } => format!("window percentile {low} to {high}"),
    };
    let plane = match options.plane {
        Plane::Axial => "axial",
        Plane::Coronal => "coronal",
        Plane::Sagittal => "sagittal",
    };
    let shown = tiles.iter().filter(|t| t.plane == options.plane).count();
    match scene.picture {
        true => window,
        false if slices == 1 => format!("{plane}, {window}"),
        false => format!("{plane}, {shown} of {slices} slices, {window}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use volseg_geometry::{Affine, Orientation, Volume};

    /// A block of "liver" in the patient's right half and "spleen" in the left, 40 × 30 × 20 voxels.
    fn scene() -> (Volume<i16>, LabelMap) {
        let (dim, affine) = ([40, 30, 20], Affine::from_spacing_mm([2.0, 2.0, 4.0]));
        let mut labels = LabelMap::zeros(dim, affine).unwrap();
        for z in 5..15 {
            for y in 8..20 {
                for x in 4..36 {
                    let voxel = labels.linear([x, y, z]);
                    labels.voxels_mut()[voxel] = if x < 12 { 1 } else { 6 * u8::from(x >= 20) };
                }
            }
        }
        let grey = labels.voxels().iter().map(|&l| if l == 0 { 40 } else { 100 }).collect();
        (Volume::from_vec(grey, dim, affine).unwrap(), labels)
    }

    fn count(canvas: &Canvas, wanted: [u8; 3], columns: std::ops::Range<usize>) -> usize {
        let hit = |x: usize, y: usize| canvas.pixel(x, y) == Some(wanted);
        (0..canvas.height()).map(|y| columns.clone().filter(|&x| hit(x, y)).count()).sum()
    }

    #[test]
    fn the_liver_stands_on_the_left_of_the_sheet_in_every_orientation() {
        let (image, labels) = scene();
        let mut options = Options::new(Window::SOFT_TISSUE);
        options.slices = 1;
        let mut sheets = Vec::new();
        for orientation in Orientation::all() {
            let (image, labels) = (AnyVolume::from(image.reoriented(orientation)), labels.reoriented(orientation));
            let sheet = draw(&Scene::new(&image).with_labels(&labels), &options).unwrap();
            let (liver, spleen) = (legend::colour(6).1, legend::colour(1).1);
            let half = MARGIN + 128;
            assert!(count(&sheet, liver, MARGIN..half) > 50 && count(&sheet, liver, half..MARGIN + 256) == 0);
            assert!(count(&sheet, spleen, MARGIN..half) == 0 && count(&sheet, spleen, half..MARGIN + 256) > 50);
            sheets.push(sheet.to_png().unwrap());
        }
        // The number of the slice is that of the stored axis, which may run the other way: two kinds of sheet.
        sheets.sort();
        sheets.dedup();
        assert!(sheets.len() <= 2, "{}", sheets.len());
    }

    #[test]
    fn volumes_in_the_legend_are_millilitres() {
        let (image, labels) = scene();
        let image = AnyVolume::from(image);
        let scene = Scene::new(&image).with_labels(&labels);
        let options = Options::new(Window::SOFT_TISSUE);
        let found = entries(&scene, &options, &counts(&scene, &stack(&scene, Plane::Axial)));
        let text: Vec<_> = found.iter().map(|e| format!("{} {}", e.name, e.amount)).collect();
        assert_eq!(text, ["spleen 15.4 ml", "liver 30.7 ml"]);
    }

    #[test]
    fn extreme_shapes_are_drawn_and_wrong_grids_refused() {
        for dim in [[1, 1, 1], [3000, 1, 1], [1, 3000, 1], [1, 1, 300], [2, 900, 9]] {
            let image = AnyVolume::from(
                Volume::from_vec(vec![f32::NAN; dim.iter().product()], dim, Affine::from_spacing_mm([1.0, 0.01, 50.0]))
                    .unwrap(),
            );
            let options = Options::new(Window::of(volseg_geometry::Modality::Mr));
            for scene in [Scene::new(&image), Scene::new(&image).as_picture()] {
                let sheet = draw(&scene, &options).unwrap();
                assert!(sheet.width() < 3000 && sheet.height() < 3000, "{dim:?}: {}×{}", sheet.width(), sheet.height());
            }
            let labels = LabelMap::zeros([5, 5, 5], *image.affine()).unwrap();
            assert!(matches!(draw(&Scene::new(&image).with_labels(&labels), &options), Err(Error::Grid { .. })));
        }
        let empty = AnyVolume::from(Volume::<u8>::zeros([0, 4, 4], Affine::from_spacing_mm([1.0; 3])).unwrap());
        assert!(matches!(draw(&Scene::new(&empty), &Options::new(Window::SOFT_TISSUE)), Err(Error::Empty { .. })));
    }
}
